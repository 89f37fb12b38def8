"""Hesitation markers: the signal of Funnel of Thoughts (arXiv 2608.15065)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path

MARKERS = (
    "wait+hmm+but+maybe+perhaps+alternatively+actually+however+unsure+mistake+wrong+incorrect+recheck+check+reconsider"
)


class Hesitation:
    """s_i = -1000 * (number of markers) / (number of characters), over the text of the prefix.

    Markers are counted as whole words, regardless of case. An empty prefix scores 0.

    Adapted: the paper counts 21 words and prunes in several rounds. Its word list could not be verified, so ``markers``
    is an option. The decision here is the top k at L.

    Args:
        markers: hesitation words, joined by ``+``.

    Raises:
        ValueError: if ``markers`` names no word.
    """

    quadrant = "control"
    needs = frozenset({"text"})
    origins = Origins("adapted")
    pointwise = True

    def __init__(self, markers: str = MARKERS) -> None:
        words = [re.escape(word) for word in str(markers).split("+") if word]
        if not words:
            raise ValueError("markers are words joined with +")
        self.pattern = re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -np.array([1000 * len(self.pattern.findall(p.text)) / max(1, len(p.text)) for p in prefixes])
