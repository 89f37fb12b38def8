"""Figures from records. Every function returns its data, and the file beside the picture holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from harness.replay import own_rule
from harness.report import Group
from harness.rows import EXACT, ORACLE
from harness.stats import bootstrap
from harness.store import writable
from harness.sweep import scaling

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


def scaling_figure(group: Group, stem: Path) -> pd.DataFrame:
    """STOP's Figure 4 for a group: ``stem``.png and .pdf of the best method of each quadrant, .csv of all."""
    data = scaling_data(group)
    order = ["no pruning", "random", *_best_of_quadrants(data)]
    colours = dict(zip(order, sns.color_palette("colorblind", len(order)), strict=True))
    styles = dict(zip(order, _dashes(len(order)), strict=True))
    sns.set_theme(context="paper", style="ticks", font_scale=0.9)
    figure, axes = plt.subplots(1, len(GAMMAS), figsize=(7.2, 3.1), sharey=True)
    for axis, gamma in zip(axes, GAMMAS, strict=True):
        for name in order:
            share = 1.0 if name == "no pruning" else gamma
            line = data[(data.pruner == name) & (data.gamma == share)]
            axis.plot(line.tokens, line.cons, dashes=styles[name], color=colours[name], marker="o", ms=3, label=name)
            if name in ("random", "stop", "no pruning"):
                axis.fill_between(line.tokens, line.low, line.high, color=colours[name], alpha=0.12, lw=0)
        own = data[(data.gamma == 0)].nlargest(1, "cons")
        for point in own.itertuples():
            axis.plot(point.tokens, point.cons, marker="X", ls="", color="black", ms=5, label=point.pruner)
        axis.set(
            xscale="log",
            xlabel="tokens per problem",
            title=f"best 1/{1 / gamma:g} of N finished, N = 2 to {group.pool.n}",
        )
    axes[0].set_ylabel("cons@N (majority vote)")
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=7)
    portion = f"{group.prefix / group.pool.lengths.mean():.0%} of the mean length"
    figure.suptitle(
        f"{group.spec['task']}, model {group.spec['engine']['model']}, L = {group.prefix} ({portion})", y=1.02
    )
    sns.despine(figure)
    for suffix in (".png", ".pdf"):
        with writable(stem.with_name(stem.name + suffix)) as part:
            # No creation date: the same records give the same file.
            about = {"CreationDate": None} if suffix == ".pdf" else {"Software": None}
            figure.savefig(part, format=suffix[1:], dpi=200, bbox_inches="tight", metadata=about)
    plt.close(figure)
    with writable(stem.with_name(stem.name + ".csv")) as part:
        data.round(5).to_csv(part, index=False)
    return data


def _best_of_quadrants(data: pd.DataFrame) -> list[str]:
    """The method of each quadrant with the best vote at the largest N, the best quadrant first."""
    curves = data[data.gamma == min(GAMMAS)]
    last = curves[curves.N.max() == curves.N]
    last = last[last.pruner != "random"].sort_values("cons", ascending=False)
    return [str(name) for name in last.drop_duplicates("quadrant").pruner]


def _dashes(count: int) -> list[tuple[float, ...]]:
    """Line styles told apart in greyscale."""
    styles: list[tuple[float, ...]] = [(1, 0), (4, 1.5), (1, 1), (3, 1, 1, 1), (5, 1, 1, 1, 1, 1), (8, 2)]
    return [styles[i % len(styles)] for i in np.arange(count)]
