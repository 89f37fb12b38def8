"""Benefit and cost of each quadrant: gain over random against the FLOPs of the Check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullFormatter

from harness.replay.pool import generation_cost, kept_mask
from harness.replay.stats import bootstrap
from harness.report import Group, Method
from harness.report.figures import style
from harness.report.figures.chosen import best_of_quadrants, gains, keep_of, methods
from harness.report.figures.labels import label_points

COLUMNS = ["pruner", "quadrant", "gain", "low", "high", "overhead", "best", "problems"]


def taxonomy_data(group: Group) -> pd.DataFrame:
    """One row per pruner: mean gain in avg@k over random with its 95 % interval, and ``overhead`` of the Check.

    ``overhead`` is a fraction: FLOPs of scoring relative to those of Launch and Resume of the same run, summed over
    problems.
    """
    best = {m.name for m in best_of_quadrants(group, controls=True)}
    rows = []
    for m in methods(group):
        gain = bootstrap(gains(m, group.prefix))
        overhead = _overhead(m, group.prefix)
        rows.append(
            (m.name, m.quadrant, gain.mean, gain.low, gain.high, overhead, m.name in best, len(m.pool.problems))
        )
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(
        ["gain", "pruner"], ascending=[False, True], ignore_index=True
    )


def _overhead(method: Method, prefix: int) -> float:
    pool = method.pool
    mask = kept_mask(pool, method.values, keep_of(pool.n), prefix)
    return float(sum(c.flops for c in method.checks) / generation_cost(pool, mask, prefix)[1].sum())


def taxonomy_figure(group: Group, stem: Path, venue: str = "neurips") -> pd.DataFrame | None:
    """Plot methods without overhead in a separate strip with a lane per quadrant, and the others on a logarithmic axis.

    None without methods, or if FLOPs are unknown.
    """
    if not group.pool.flops.per_token:
        return None
    data = taxonomy_data(group)
    if not len(data):
        return None
    free, paid = _laid_out(data)
    with style.canvas(venue, 1, 2, height=1.5, wide=False, sharey=True, width_ratios=[1, 1.1]) as (figure, axes):
        left, right = axes[0]
        for axis, part in ((left, free), (right, paid)):
            _scatter(axis, part)
            axis.axhline(0, color="0.5", lw=0.6, zorder=0)
        left.margins(x=0.12, y=0.1)
        left.set_xticks([left.get_xlim()[0] / 2 + left.get_xlim()[1] / 2], ["none"])
        left.tick_params(axis="x", length=0)
        left.set(ylabel=f"gain in avg@{keep_of(group.pool.n)} over random")
        _logarithmic(right, paid)
        _broken(left, right)
        style.legend_below(figure, _quadrants(right, data), handletextpad=0.2)
        style.freeze(figure)  # labels need the final layout
        for axis, part in ((left, free), (right, paid)):
            named = part[part.best]
            label_points(axis, list(zip(named.across, named.gain, named.pruner, strict=True)), _inked(part))
        style.save(figure, data, stem)
    return data


def _laid_out(data: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The methods without overhead and the others, with ``across``: the lane of the quadrant, or the overhead in per
    cent."""
    free, paid = data[data.overhead == 0].copy(), data[data.overhead > 0].copy()
    lanes = [q for q in style.QUADRANTS if q in set(free.quadrant)]
    turn = free.groupby("quadrant").cumcount() % 3 - 1  # methods of similar gain are placed side by side
    free["across"] = [lanes.index(q) if q in lanes else len(lanes) for q in free.quadrant] + 0.2 * turn
    paid["across"] = 100 * paid.overhead
    return free, paid


def _inked(part: pd.DataFrame) -> list[tuple[float, float]]:
    """Points along every interval and along the line at zero, which labels must avoid."""
    heights = np.linspace(part.low, part.high, 9).T
    zero = [(x, 0.0) for x in part.across]
    return zero + [(x, y) for x, column in zip(part.across, heights, strict=True) for y in column]


def _scatter(axis: Any, part: pd.DataFrame) -> None:
    for row in part.itertuples():
        mark = style.mark(str(row.quadrant))
        axis.plot([row.across] * 2, [row.low, row.high], color=mark.colour, lw=0.7, zorder=1)
        # Labelled points are filled, and the others are hollow.
        filled = {} if row.best else {"mfc": "white", "mew": 0.7}
        axis.plot(row.across, row.gain, **mark.point(zorder=3 if row.best else 2, **filled))


def _logarithmic(axis: Any, paid: pd.DataFrame) -> None:
    axis.set_xlabel("FLOPs of the Check,\n% of generation")
    if len(paid):
        axis.set(xscale="log", xlim=(paid.across.min() / 2.5, paid.across.max() * 5))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        axis.set_xticks([])


def _broken(left: Any, right: Any) -> None:
    """Draw two slashes where the axis jumps from zero to a logarithmic scale."""
    right.spines["left"].set_visible(False)
    right.tick_params(axis="y", which="both", left=False, labelleft=False)
    slash: dict[str, Any] = {"marker": [(-0.5, -1), (0.5, 1)], "ms": 5, "ls": "", "color": "black", "mew": 0.6}
    left.plot([1], [0], transform=left.transAxes, clip_on=False, **slash)
    right.plot([0], [0], transform=right.transAxes, clip_on=False, **slash)


def _quadrants(axis: Any, data: pd.DataFrame) -> Any:
    """Label the axis, with a legend entry for each quadrant present."""
    for quadrant, mark in style.QUADRANTS.items():
        if quadrant in set(data.quadrant):
            axis.plot([], [], **mark.point(label=quadrant))
    return axis
