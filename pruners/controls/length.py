"""Length of the prefix in characters. At a fixed number of tokens, it measures how long the words are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path


class Shortest:
    """s_i = -(number of characters in the prefix).

    A prefix that ended before L tokens is short as well.
    """

    quadrant = "control"
    needs = frozenset({"text"})
    origins = Origins()
    pointwise = True
    sign = -1.0

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return self.sign * np.array([len(p.text) for p in prefixes], dtype=float)


class Longest(Shortest):
    """s_i = number of characters in the prefix."""

    sign = 1.0
