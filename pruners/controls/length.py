"""Length of the prefix's text: at a fixed number of tokens, how wordy they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path


class Shortest:
    """s_i = -characters of the prefix; a prefix that ended early is short."""

    quadrant = "control"
    needs = frozenset({"text"})
    origins = Origins()
    pointwise = True
    sign = -1.0

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return self.sign * np.array([len(p.text) for p in prefixes], dtype=float)


class Longest(Shortest):
    """s_i = characters of the prefix."""

    sign = 1.0
