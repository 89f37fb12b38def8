"""The figure of an ablation: each variant's gain over random, and its paired difference to the reference variant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from harness.report.figures import style


def ablation_figure(data: pd.DataFrame, question: str, stem: Path, venue: str = "neurips", curve: str = "") -> None:
    """Plot gain over random and the paired difference to the reference variant to ``stem``.png, .pdf and .csv.

    Two panels with shared rows, or a single one against the column ``curve``. Intervals are 95 % over problems."""
    if curve:
        _curve(data, question, stem, venue, curve)
    else:
        _panels(data, question, stem, venue)


def _curve(data: pd.DataFrame, question: str, stem: Path, venue: str, column: str) -> None:
    rising = data.sort_values(column)
    mark = style.mark("internal-learned")
    with style.canvas(venue, height=1.1, wide=False) as (figure, axes):
        axis = axes[0][0]
        axis.plot(rising[column], rising.gain, **mark.line())
        axis.fill_between(rising[column], rising.low, rising.high, color=mark.colour, alpha=0.2, lw=0)
        axis.axhline(0, color="0.6", lw=0.6, zorder=0)
        axis.set_xscale("log")
        axis.set_xlabel(column.replace("_", " "))
        axis.set_ylabel("gain over random")
        figure.suptitle(question)
        style.save(figure, data, stem)


def _panels(data: pd.DataFrame, question: str, stem: Path, venue: str) -> None:
    at = np.arange(len(data))[::-1]
    colour = style.mark("internal-learned").colour
    panels = (("gain", "low", "high"), ("difference", "difference_low", "difference_high"))
    compared = data.against.unique()
    other = f"minus {compared[0]}, paired" if len(compared) == 1 else "paired difference (see the table)"
    titles = ("gain over random", other)
    with style.canvas(venue, 1, 2, height=0.55 + 0.13 * len(data), sharey=True) as (figure, axes):
        for axis, (mean, low, high), title in zip(axes[0], panels, titles, strict=True):
            middle = data[mean].to_numpy()
            spread = np.abs(np.stack([middle - data[low], data[high] - middle]))
            axis.errorbar(middle, at, xerr=spread, fmt="o", ms=3, color=colour, lw=1)
            axis.axvline(0, color="0.6", lw=0.6, zorder=0)
            axis.locator_params(axis="x", nbins=5)
            axis.set_xlabel(title)
        axes[0][0].set_yticks(at, [style.literal(label) for label in data.label])
        figure.suptitle(question)
        style.save(figure, data, stem)
