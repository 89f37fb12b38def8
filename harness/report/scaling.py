"""Data of cons@N against tokens per problem as N grows (STOP, Fig. 4): the cost of a vote with and without pruning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.replay.pool import own_rule
from harness.replay.stats import bootstraps
from harness.replay.sweep import scaling
from harness.report import Group, Method
from harness.report.parallel import each

GAMMAS = (1 / 2, 1 / 8)
RESAMPLES = 2000
COLUMNS = ["gamma", "pruner", "quadrant", "N", "tokens", "cons", "low", "high", "problems"]


def scaling_data(group: Group, gammas: tuple[float, ...] = GAMMAS) -> pd.DataFrame:
    """cons@N against tokens per problem for N = 2, 4, ..., with intervals: one row per (gamma, pruner, N).

    Methods with their own decision rule are one point each, at gamma 0."""
    shown = [m for m in group.judged if len(m.pool.problems) and m.role in ("method", "control", "own-rule")]
    ranked = [m for m in shown if m.top_k]

    def points(method: Method | None) -> dict[float, list[tuple[Any, ...]]]:
        """A method's rows by gamma; random's for None."""
        if method is None:
            name, quadrant, curves = "random", "control", scaling(group.pool, None, gammas, group.prefix)
        else:
            name, quadrant = method.name, method.quadrant
            curves = scaling(method.pool, method.values, gammas, group.prefix, method.checks, shared=method.shared)
        return {gamma: _points(gamma, name, quadrant, *curve) for gamma, curve in curves.items()}

    drawn = each(points, [None, *ranked])
    rows = [row for gamma in gammas for curve in drawn for row in curve[gamma]]
    everything = scaling(group.pool, None, [1.0], group.prefix)[1.0]
    rows += _points(1.0, "no pruning", "control", *everything)
    for m in shown:
        if m.spent is not None:
            result = own_rule(m.pool, m.spent, m.values, m.checks)
            rows += _points(0.0, m.name, m.quadrant, [group.pool.n], result.voted[None], result.tokens[None])
    return pd.DataFrame(rows, columns=COLUMNS)


def _points(
    gamma: float, name: str, quadrant: str, sizes: Sequence[int], voted: np.ndarray, tokens: np.ndarray
) -> list[tuple[Any, ...]]:
    """The rows of a curve; ``voted`` and ``tokens`` are ``[sizes, Q]``."""
    intervals = bootstraps(list(voted), resamples=RESAMPLES)
    return [
        (gamma, name, quadrant, size, spent.mean(), interval.mean, interval.low, interval.high, voted.shape[1])
        for size, spent, interval in zip(sizes, tokens, intervals, strict=True)
    ]
