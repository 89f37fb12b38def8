"""Controls that every comparison needs: all paths, random paths, and the first paths.

The report computes ``all`` and ``random`` exactly from the pool: ``all`` uses every path, and ``random`` is the
hypergeometric mean over all subsets of size k. A live run executes the classes in this module.
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
    """A uniformly random k of N paths.

    The draw of a path depends on its index, so the order of the prefixes has no effect.
    """

    quadrant = "control"
    needs: frozenset[str] = frozenset()
    origins = Origins()
    pointwise = True
    closed_form = "random"

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        indices = [p.index for p in prefixes]
        return check.rng.random(max(indices) + 1)[indices]


class First:
    """s_i = -index: keeps the first k paths.

    If paths are exchangeable, this is another draw of ``random``. The row also checks that nothing depends on the order
    of paths.
    """

    quadrant = "control"
    needs: frozenset[str] = frozenset()
    origins = Origins()
    pointwise = True

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -np.array([p.index for p in prefixes], dtype=float)
