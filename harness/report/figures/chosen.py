"""Selection of methods for figures: those that keep k paths at L, and the best of each quadrant."""

from __future__ import annotations

import numpy as np

from harness.replay.pool import kept_mask
from harness.report import Group, Method
from harness.spec import Ended

SHARE = 8  # 1/8 of the paths is finished, as in the paper (64 -> 8), unless a figure varies it
RESAMPLES = 2000


def keep_of(n: int) -> int:
    """The number of paths, out of n, that figures finish."""
    return max(1, n // SHARE)


def methods(group: Group) -> list[Method]:
    """Pruners that score at L and have scored a problem.

    Excluded are closed-form controls, oracles, and methods with their own decision rule, which are not matched in k."""
    return [m for m in group.judged if m.ranks]


def gains(method: Method, prefix: int, ended: Ended = "count") -> np.ndarray:
    """avg@k of the kept minus the expectation of random, ``[Q]``; ``ended`` as in ``harness.spec.RunSpec``."""
    pool = method.pool
    mask = kept_mask(pool, method.values, keep_of(pool.n), prefix, ended)
    return np.asarray((pool.correct * mask).sum(1) / mask.sum(1) - pool.correct.mean(1))


def best_of_quadrants(group: Group, controls: bool = False) -> list[Method]:
    """The method of each quadrant with the largest mean gain, best first; random stands for the controls.

    They are selected on the problems shown, so the figure is descriptive and not a test. The tables have all methods.
    """
    shown = [m for m in methods(group) if controls or m.role != "control"]
    ranked = sorted(shown, key=lambda m: (-gains(m, group.prefix).mean(), m.name))
    firsts: dict[str, Method] = {}
    for method in ranked:
        firsts.setdefault(method.quadrant, method)
    return list(firsts.values())
