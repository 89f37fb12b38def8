"""cons@N against tokens per problem as N grows (STOP, Fig. 4), with and without pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from harness.report import Group
from harness.report.figures import style
from harness.report.scaling import GAMMAS, scaling_data
from harness.report.sheet import in_units


def scaling_figure(group: Group, stem: Path, venue: str = "neurips") -> pd.DataFrame | None:
    """STOP's Figure 4 for a group: ``stem``.png and .pdf with the best method of each quadrant, .csv with all.

    None for a pool of a single path, where N cannot vary.
    """
    data = scaling_data(group)
    data = in_units(data, [group] * len(data))
    if not len(data) or data.N.max() < 2:
        return None
    order = ["no pruning", "random", *_best_of_quadrants(data)]  # intervals up to the best, where readers compare
    with style.canvas(venue, 1, len(GAMMAS), height=1.45, sharey=True) as (figure, axes):
        for axis, gamma in zip(axes[0], GAMMAS, strict=True):
            for name in order:
                line = data[(data.pruner == name) & (data.gamma == (1.0 if name == "no pruning" else gamma))]
                _draw(axis, line, banded=name in order[:3])
            for point in data[(data.gamma == 0)].nlargest(1, "cons").itertuples():
                axis.plot(
                    point.tokens, point.cons, marker="X", ls="", color="black", label=style.literal(str(point.pruner))
                )
            axis.set(
                xscale="log",
                xlabel=f"{group.unit} per problem",
                title=f"best 1/{1 / gamma:g} of N finished, N = 2 to {group.pool.n}",
            )
        axes[0][0].set_ylabel("cons@N (majority vote)")
        style.legend_below(figure, axes[0][-1], handlelength=3)
        portion = f"{group.prefix / group.pool.lengths.mean():.0%} of the mean length"
        title = f"{group.spec['task']}, model {group.spec['engine']['model']}, L = {group.prefix} ({portion})"
        figure.suptitle(style.literal(title))
        style.save(figure, data, stem)
    return data


def _draw(axis: Any, line: pd.DataFrame, banded: bool) -> None:
    """Plot one curve against tokens, with its interval if ``banded``."""
    name, quadrant = str(line.pruner.iloc[0]), str(line.quadrant.iloc[0])
    mark = {"random": style.RANDOM, "no pruning": style.NO_PRUNING}.get(name) or style.mark(quadrant)
    axis.plot(line.tokens, line.cons, **mark.line(label=name))
    if banded:
        axis.fill_between(line.tokens, line.low, line.high, color=mark.colour, alpha=0.12, lw=0)


def _best_of_quadrants(data: pd.DataFrame) -> list[str]:
    """The method of each quadrant with the best vote at the largest N, the best quadrant first."""
    curves = data[data.gamma == min(GAMMAS)]
    last = curves[curves.N.max() == curves.N]
    last = last[last.pruner != "random"].sort_values("cons", ascending=False)
    return [str(name) for name in last.drop_duplicates("quadrant").pruner]
