"""Hesitation-marker density, the signal of Funnel of Thoughts (arXiv 2608.15065)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path

MARKERS = (
    "wait+hmm+but+maybe+perhaps+alternatively+actually+however+unsure+mistake+wrong+incorrect+recheck+check+reconsider"
)


class Hesitation:
    """s_i = -markers per 1,000 characters of the prefix, whole words, case ignored.

    The paper counts 21 words and thins a funnel at checkpoints; its list could not be verified, so ``markers``
    (joined with +) is a parameter and the decision is the harness's top-k at L.
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
