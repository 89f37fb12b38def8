"""Survival in a selection of k of N paths: whether a right path survives, and what fraction of them, as gamma = k / N
grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import hypergeom

from harness.replay.pool import Pool
from harness.replay.stats import bootstrap
from harness.replay.sweep import ranks_of
from harness.report import Group
from harness.report.figures import style
from harness.report.figures.chosen import RESAMPLES, best_of_quadrants, methods

RANDOM, TRUTH = "random", "upper bound (knows the truth)"
COLUMNS = ["pruner", "quadrant", "k", "gamma", "any", "any_low", "any_high", "share", "share_low", "share_high", "best"]
Curves = tuple[np.ndarray, np.ndarray]  # each [K, Q]: is a right path kept; fraction of right paths kept


def sizes(n: int) -> list[int]:
    """k = 1, 2, 4, ... and N itself."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def survival(pool: Pool, scores: np.ndarray, ks: list[int]) -> Curves:
    """Curves for the best k by score, ties to the lower index. The fraction is NaN if no path is right."""
    ranks, size = ranks_of(scores), np.array(ks)[:, None, None]
    kept = ((ranks < size) & pool.correct).sum(2)
    return (kept > 0).astype(float), kept / _right(pool)


def chance(pool: Pool, ks: list[int]) -> Curves:
    """Expectation for a uniformly random k of N: 1 - C(N - c, k) / C(N, k) with c right paths, and the fraction k / N."""
    right, size = pool.correct.sum(1), np.array(ks)[:, None]
    kept = 1 - hypergeom.pmf(0, pool.n, right[None], size)
    return kept, size / pool.n * np.ones_like(right) * _right(pool) / _right(pool)


def truth(pool: Pool, ks: list[int]) -> Curves:
    """The upper bound of any selection: right paths first."""
    right = pool.correct.sum(1)
    kept = np.minimum(np.array(ks)[:, None], right)
    return (kept > 0).astype(float), kept / _right(pool)


def _right(pool: Pool) -> np.ndarray:
    right = pool.correct.sum(1)
    return np.where(right > 0, right, np.nan)


def survival_data(group: Group) -> pd.DataFrame:
    """One row per pruner and k: ``any`` = pass@k of the kept, ``share`` of right paths kept, 95 % intervals over
    problems.

    ``share`` is the mean over problems with a right path.
    """
    if not len(group.pool.problems):
        return pd.DataFrame(columns=COLUMNS)
    ks = sizes(group.pool.n)
    best = {m.name for m in best_of_quadrants(group)}
    rows = [*_rows(RANDOM, "control", chance(group.pool, ks), ks, False)]
    rows += _rows(TRUTH, "reference", truth(group.pool, ks), ks, False)
    for m in methods(group):
        rows += _rows(m.name, m.quadrant, survival(m.pool, m.values, ks), ks, m.name in best)
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(name: str, quadrant: str, curves: Curves, ks: list[int], best: bool) -> Iterator[tuple[Any, ...]]:
    for k, hit, share in zip(ks, *curves, strict=True):
        one = bootstrap(hit, resamples=RESAMPLES)
        two = bootstrap(share[~np.isnan(share)], resamples=RESAMPLES)
        yield name, quadrant, k, k / ks[-1], one.mean, one.low, one.high, two.mean, two.low, two.high, best


def survival_figure(group: Group, stem: Path, venue: str = "neurips") -> pd.DataFrame | None:
    """Plot the best method of each quadrant between chance and the upper bound. None if all paths or none are right."""
    data = survival_data(group)
    if not len(data) or group.pool.correct.all() or not group.pool.correct.any():
        return None
    order = [RANDOM, *(m.name for m in best_of_quadrants(group)), TRUTH]
    with style.canvas(venue, 1, 2, height=1.4, sharex=True) as (figure, axes):
        for axis, column in zip(axes[0], ("any", "share"), strict=True):
            for name in order:
                line = data[data.pruner == name]
                mark = style.RANDOM if name == RANDOM else style.mark(line.quadrant.iloc[0])
                axis.plot(line.gamma, line[column], **mark.line(label=name))
                if name in (RANDOM, order[1]):
                    low, high = line[f"{column}_low"], line[f"{column}_high"]
                    axis.fill_between(line.gamma, low, high, color=mark.colour, alpha=0.15, lw=0)
            _gammas(axis, data)
        axes[0][0].set_ylabel("problems with a right path kept")
        axes[0][1].set_ylabel("right paths that are kept")
        style.legend_below(figure, axes[0][0], handlelength=3)
        style.save(figure, data, stem)
    return data


def _gammas(axis: Any, data: pd.DataFrame) -> None:
    n = int(data.k.max())
    shown = [k for k in sizes(n) if n % k == 0]
    axis.set_xscale("log", base=2)
    axis.set_xticks([k / n for k in shown], [f"1/{n // k}" if k < n else "1" for k in shown])
    axis.set_xticks([], minor=True)
    axis.set_xlabel(f"share kept, γ = k/N, N = {n}")
