"""Repetition, measured with a general-purpose compressor."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path


class Repetition:
    """s_i = (compressed bytes) / (raw bytes) of the prefix's text, with zlib at level 9.

    A low ratio means much repetition. An empty text scores 1.
    """

    quadrant = "control"
    needs = frozenset({"text"})
    origins = Origins()
    pointwise = True

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        raw = [p.text.encode() for p in prefixes]
        return np.array([len(zlib.compress(r, 9)) / len(r) if r else 1.0 for r in raw])
