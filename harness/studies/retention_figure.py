"""The figure of the retention law (STOP, Figs. 5, 6 and 9): accuracy by fraction kept within a budget, and the best fraction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns

from harness.report.figures import style
from harness.studies.retention import Law

SHOWN = 3  # budgets drawn in the left panel


def law_data(fitted: dict[str, Any]) -> pd.DataFrame:
    """One row per cell, budget and gamma of a law file: cons with its 95 % interval, and the law's 1/gamma there."""
    law, rows = Law(**fitted["law"]), []
    for cell in fitted["cells"]:
        for budget, votes in zip(cell["budgets"], cell["voted"], strict=True):
            advised = 1 / law.gamma(budget, cell["prefix"], cell["length"])
            for gamma, (mean, low, high) in zip(cell["gammas"], votes, strict=True):
                rows.append((cell["prefix"], cell["length"], budget, 1 / gamma, mean, low, high, advised))
    return pd.DataFrame(rows, columns=["prefix", "length", "budget", "1/gamma", "cons", "low", "high", "law"])


def law_figure(fitted: dict[str, Any], stem: Path, venue: str = "neurips") -> pd.DataFrame:
    """Left: cons against 1/gamma at some budgets, in the middle cell. Right: the best 1/gamma of every budget, and the law."""
    data = law_data(fitted)
    with style.canvas(venue, 1, 2, height=1.15) as (figure, axes):
        left, right = axes[0]
        _slices(left, data)
        _best(right, data, Law(**fitted["law"]))
        for axis in (left, right):
            axis.set_xscale("log", base=2)
        figure.suptitle(style.literal(f"{fitted['pruner']}, {', '.join(fitted['pools'])}"))
        style.save(figure, data, stem)
    return data


def _slices(axis: Any, data: pd.DataFrame) -> None:
    prefix = sorted(data.prefix.unique())[len(data.prefix.unique()) // 2]
    lengths = sorted(data[data.prefix == prefix].length.unique())
    cell = data[(data.prefix == prefix) & (data.length == lengths[len(lengths) // 2])]
    budgets = sorted(cell.budget.unique())
    chosen = [budgets[i] for i in np.linspace(0, len(budgets) - 1, SHOWN).round().astype(int)]
    for budget, colour, dash in zip(chosen, _shades(SHOWN), ((1, 0), (4, 1.5), (1, 1)), strict=True):
        line = cell[cell.budget == budget]
        axis.plot(
            line["1/gamma"], line.cons, color=colour, dashes=dash, marker="o", ms=3, label=f"{budget:,.0f} tokens"
        )
        axis.fill_between(line["1/gamma"], line.low, line.high, color=colour, alpha=0.12, lw=0)
        at = float(np.clip(line.law.iloc[0], line["1/gamma"].min(), line["1/gamma"].max()))
        axis.plot(
            at, np.interp(np.log(at), np.log(line["1/gamma"]), line.cons), marker="|", ms=12, mew=1.6, color=colour
        )
    axis.set(xlabel=r"1/$\gamma$ (bar: what the law says)", ylabel="cons within the budget")
    axis.set_title(f"L = {prefix}, paths of {lengths[len(lengths) // 2]:.0f} tokens")
    axis.legend(loc="lower left")


def _best(axis: Any, data: pd.DataFrame, law: Law) -> None:
    best = data.loc[data.groupby(["prefix", "length", "budget"])["cons"].idxmax()]
    prefixes = sorted(data.prefix.unique())
    length = float(np.median(data.length.unique()))
    for prefix, colour, marker in zip(prefixes, _shades(len(prefixes)), "osD^vPX*<>"[: len(prefixes)], strict=True):
        seen = best[best.prefix == prefix]
        # Levels of difficulty share budgets and gammas. Small offsets keep all points visible.
        aside = 2 ** (0.09 * (seen.length.rank(method="dense") - 2))
        axis.plot(seen.budget, seen["1/gamma"] * aside, ls="", marker=marker, ms=3, color=colour, alpha=0.8)
        budgets = np.geomspace(seen.budget.min(), seen.budget.max(), 20)
        advised = [1 / law.gamma(b, prefix, length) for b in budgets]
        axis.plot(budgets, advised, color=colour, marker=marker, markevery=[-1], ms=4, label=f"L = {prefix}")
    axis.set_yscale("log", base=2)
    axis.set(xlabel="budget, tokens per problem", ylabel=r"best 1/$\gamma$ (points), law (lines)")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _shades(count: int) -> Any:
    """Colours from light to dark, distinguishable in greyscale."""
    return sns.color_palette("crest", count)
