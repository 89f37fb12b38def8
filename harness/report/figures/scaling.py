"""cons@N against tokens per problem as N grows (STOP, Fig. 4): what a vote costs with and without pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.replay.pool import own_rule
from harness.replay.stats import bootstrap
from harness.replay.sweep import scaling
from harness.report import Group
from harness.report.figures import style
from harness.report.rows import EXACT, ORACLE

GAMMAS = (1 / 2, 1 / 8)


def scaling_data(group: Group, gammas: tuple[float, ...] = GAMMAS) -> pd.DataFrame:
    """cons@N against tokens per problem for N = 2, 4, ..., with intervals: one row per (gamma, pruner, N).

    Methods with a decision rule of their own are one point each, at gamma 0.
    """
    shown = [
        m
        for m in group.judged
        if len(m.pool.problems) and m.name.partition(":")[0] not in EXACT and not m.name.startswith(ORACLE)
    ]  # fmt: skip
    curves: list[tuple[str, str, Any, Any, Any]] = [("random", "control", group.pool, None, None)]
    curves += [(m.name, m.quadrant, m.pool, m.values, m.checks) for m in shown if m.spent is None]
    rows = []
    for gamma in (*gammas, 1.0):
        for name, quadrant, pool, scores, checks in (
            curves if gamma < 1 else [("no pruning", "control", group.pool, None, None)]
        ):
            sizes, voted, tokens = scaling(pool, scores, gamma, group.prefix, checks)
            for size, v, t in zip(sizes, voted, tokens, strict=True):
                rows.append(_point(gamma, name, quadrant, size, v, t))
    for m in shown:
        if m.spent is not None:
            result = own_rule(m.pool, m.spent, m.values, m.checks)
            rows.append(_point(0.0, m.name, m.quadrant, group.pool.n, result.voted, result.tokens))
    names = ["gamma", "pruner", "quadrant", "N", "tokens", "cons", "low", "high", "problems"]
    return pd.DataFrame(rows, columns=names)


def _point(gamma: float, name: str, quadrant: str, size: int, voted: np.ndarray, tokens: np.ndarray) -> tuple[Any, ...]:
    interval = bootstrap(voted, resamples=2000)
    return gamma, name, quadrant, size, tokens.mean(), interval.mean, interval.low, interval.high, len(voted)


def scaling_figure(group: Group, stem: Path, venue: str = "neurips") -> pd.DataFrame | None:
    """STOP's Figure 4 for a group: ``stem``.png and .pdf of the best method of each quadrant, .csv of all.

    None for a pool of a single path, which has no N to vary."""
    data = scaling_data(group)
    if not len(data) or data.N.max() < 2:
        return None
    order = ["no pruning", "random", *_best_of_quadrants(data)]
    with style.canvas(venue, 1, len(GAMMAS), height=1.45, sharey=True) as (figure, axes):
        for axis, gamma in zip(axes[0], GAMMAS, strict=True):
            for name in order:
                _draw(axis, data[(data.pruner == name) & (data.gamma == (1.0 if name == "no pruning" else gamma))])
            for point in data[(data.gamma == 0)].nlargest(1, "cons").itertuples():
                axis.plot(point.tokens, point.cons, marker="X", ls="", color="black", label=point.pruner)
            axis.set(
                xscale="log",
                xlabel="tokens per problem",
                title=f"best 1/{1 / gamma:g} of N finished, N = 2 to {group.pool.n}",
            )
        axes[0][0].set_ylabel("cons@N (majority vote)")
        style.legend_below(figure, axes[0][-1], handlelength=3)
        portion = f"{group.prefix / group.pool.lengths.mean():.0%} of the mean length"
        figure.suptitle(f"{group.spec['task']}, model {group.spec['engine']['model']}, L = {group.prefix} ({portion})")
        style.save(figure, data, stem)
    return data


def _draw(axis: Any, line: pd.DataFrame) -> None:
    """One curve against tokens, with its interval where a reader compares."""
    name, quadrant = str(line.pruner.iloc[0]), str(line.quadrant.iloc[0])
    mark = {"random": style.RANDOM, "no pruning": style.NO_PRUNING}.get(name) or style.mark(quadrant)
    axis.plot(line.tokens, line.cons, **mark.line(label=name))
    if name in ("random", "stop", "no pruning"):
        axis.fill_between(line.tokens, line.low, line.high, color=mark.colour, alpha=0.12, lw=0)


def _best_of_quadrants(data: pd.DataFrame) -> list[str]:
    """The method of each quadrant with the best vote at the largest N, the best quadrant first."""
    curves = data[data.gamma == min(GAMMAS)]
    last = curves[curves.N.max() == curves.N]
    last = last[last.pruner != "random"].sort_values("cons", ascending=False)
    return [str(name) for name in last.drop_duplicates("quadrant").pruner]
