"""Majority votes of many subsets of paths at once; ties go to the answer seen first (lowest index), as in ``harness.vote``."""

from __future__ import annotations

import numpy as np

PAIRS = 32  # up to so many voters are compared two by two, which is faster than counting


def leaders(column: np.ndarray, path: np.ndarray, none: int, weight: np.ndarray | None = None) -> np.ndarray:
    """The first path that gives the winning answer of each of D votes, int ``[D]``; -1 where nobody votes.

    ``column`` ``[k, D]`` is the answer of each voter, ``none`` for one without, ``path`` ``[k, D]`` its index.
    ``weight`` ``[k, D]``, 0 or more; one vote each where None."""
    voters, votes = column.shape
    if weight is None and voters <= PAIRS:
        total: np.ndarray = np.ones(column.shape, dtype=np.uint8)
        for one in range(1, voters):
            for other in range(one):
                same = column[one] == column[other]
                total[one] += same
                total[other] += same
    else:
        key = column + np.arange(votes) * (none + 1)
        total = np.bincount(key.ravel(), None if weight is None else weight.ravel(), votes * (none + 1))[key]
    total[column == none] = 0
    most = total.max(0)
    beyond = np.iinfo(path.dtype).max
    leads = (total == most) & (most > 0)
    if weight is not None:
        leads &= weight > 0  # who has no weight does not vote, so is not seen first either
    first = np.where(leads, path, beyond).min(0)
    return np.where(first == beyond, -1, first.astype(int))


def small(values: np.ndarray, above: int) -> np.ndarray:
    """Whole numbers from 0 to ``above``, which itself is free for a use of one's own, in as few bytes as hold them."""
    return values.astype(np.min_scalar_type(above))
