"""Controls: every comparison needs them, so they ship first.

``all`` and ``random`` have exact values (every path; the hypergeometric mean over subsets), which the report computes
from the pool. The classes here are what a live run executes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path


class All:
    """No pruning: every path is finished and votes."""

    quadrant = "control"
    needs: frozenset[str] = frozenset()
    origins = Origins()
    pointwise = True
    closed_form = "all"
    keeps_all = True

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return np.zeros(len(prefixes))


class Random:
    """A uniformly random k of N; a path's draw depends on its index, so the order of the prefixes does not matter."""

    quadrant = "control"
    needs: frozenset[str] = frozenset()
    origins = Origins()
    pointwise = True
    closed_form = "random"

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        indices = [p.index for p in prefixes]
        return check.rng.random(max(indices) + 1)[indices]


class First:
    """The first k by index: on exchangeable paths another draw of random, and a check that nothing depends on order."""

    quadrant = "control"
    needs: frozenset[str] = frozenset()
    origins = Origins()
    pointwise = True

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -np.array([p.index for p in prefixes], dtype=float)
