"""The frontier as a figure: cons against tokens, and against the serial tokens of the same settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from harness.replay.stats import bootstrap
from harness.report.figures import style
from harness.report.frontier import Frontier, crossfitted, ordered
from harness.report.lanes import WHOLE, Lane
from harness.report.sheet import in_units

BUDGETS = np.geomspace(0.03, 1.0, 16)  # fractions of the tokens that finishing all paths takes


def frontier_data(found: Frontier, lanes: Sequence[Lane]) -> pd.DataFrame:
    """cons with its interval at each budget that a lane reaches, in tokens and in serial tokens per problem."""
    rows = []
    for lane in lanes:
        for share in BUDGETS:
            reached = crossfitted(lane, float(share) * found.full)
            if reached is None:
                continue
            cons = bootstrap(reached.voted)
            rows.append(
                (lane.name, lane.kind, lane.quadrant, share, reached.tokens.mean(), reached.serial.mean(), *_ends(cons))
            )
    columns = ["lane", "kind", "quadrant", "share", "tokens", "serial", "cons", "low", "high"]
    return in_units(pd.DataFrame(rows, columns=columns), [found.group] * len(rows))


def _ends(value: Any) -> tuple[float, float, float]:
    return value.mean, value.low, value.high


def shown_lanes(found: Frontier) -> list[Lane]:
    """No pruning, every lane with paired comparisons, and the best lane of each quadrant not among these."""
    paired = {name for pair in found.pairs for name in pair} | {WHOLE}
    by_value = ordered(found)
    chosen = [lane for lane in by_value if lane.name in paired]
    for quadrant in dict.fromkeys(lane.quadrant for lane in by_value):
        if all(lane.quadrant != quadrant for lane in chosen):
            chosen.append(next(lane for lane in by_value if lane.quadrant == quadrant))
    return chosen


def frontier_figure(found: Frontier, stem: Path, venue: str = "neurips") -> pd.DataFrame:
    """Write ``stem``.png, .pdf and .csv. Intervals are drawn for no pruning and for the best lane."""
    lanes = shown_lanes(found)
    data = frontier_data(found, lanes)
    with style.canvas(venue, 1, 2, height=2.1, sharey=True) as (figure, axes):
        for axis, across in zip(axes[0], ("tokens", "serial"), strict=True):
            for lane in lanes:
                _draw(axis, data[data.lane == lane.name], lane, across, banded=lane.name in (WHOLE, lanes[0].name))
            axis.set(xscale="log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        axes[0][0].set(xlabel=f"{found.group.unit} per problem", ylabel="cons (majority vote)")
        axes[0][1].set(xlabel=f"serial {found.group.unit} per problem")
        style.legend_below(figure, axes[0][-1], handlelength=3)
        figure.suptitle(style.literal(f"{found.group.spec['task']}, model {found.group.spec['engine']['model']}"))
        style.save(figure, data, stem)
    return data


def _draw(axis: Any, line: pd.DataFrame, lane: Lane, across: str, banded: bool) -> None:
    line = line.sort_values(across)
    mark = style.NO_PRUNING if lane.name == WHOLE else style.mark(lane.quadrant)
    look = mark.line(label=lane.name) | STYLES.get(lane.kind, {})
    axis.plot(line[across], line.cons, **look)
    if banded:
        axis.fill_between(line[across], line.low, line.high, color=mark.colour, alpha=0.12, lw=0)


STYLES: dict[str, dict[str, Any]] = {  # what distinguishes a lane besides the colour of its quadrant
    "two cuts": {"dashes": (4, 1.5), "marker": "s"},
    "three cuts": {"dashes": (1, 1), "marker": "D"},
    "cut at a step": {"dashes": (6, 2), "marker": "<"},
    "cut at a forced answer": {"dashes": (2, 2), "marker": ">"},
    "dynamic cuts": {"dashes": (7, 1, 1, 1, 1, 1), "marker": "P"},
    "cut, then stopping": {"dashes": (5, 1, 1, 1), "marker": "X"},
    "stopping": {"dashes": (3, 1, 1, 1), "marker": "v"},
}
