"""Calibration of learned scores: observed fraction of right paths against the score, with Brier score and ECE."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.replay.stats import bootstrap, ratio
from harness.report import Group, Method
from harness.report.figures import style
from harness.report.figures.chosen import methods

BINS = 10
COLUMNS = [
    "pruner",
    "bin",
    "score",
    "observed",
    "low",
    "high",
    "paths",
    "brier",
    "brier_low",
    "brier_high",
    "base",
    "ece",
]


def probabilistic(group: Group) -> list[Method]:
    """Learned pruners with all scores in [0, 1], the best Brier score first."""
    shown = [
        m for m in methods(group) if m.quadrant.endswith("-learned") and m.values.min() >= 0 and m.values.max() <= 1
    ]
    return sorted(shown, key=lambda m: (brier(m.values, m.pool.correct).mean(), m.name))


def brier(scores: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Mean squared difference of score and outcome per problem, ``[Q]`` (Brier 1950)."""
    return np.asarray(((scores.astype(float) - correct) ** 2).mean(1))


def bins_of(scores: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Bins with about equally many scores, int ``[Q, N]`` from 0 without gaps. Equal scores share a bin."""
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, scores, side="left"), return_inverse=True)[1].reshape(scores.shape)


def calibration_data(group: Group) -> pd.DataFrame:
    """One row per pruner and bin: mean ``score``, ``observed`` fraction of right paths with a 95 % interval over
    problems.

    ``ece`` is the mean absolute difference of the two, weighted by paths. ``base`` is the Brier score of predicting the
    pool's mean for every path.
    """
    rows = []
    for m in probabilistic(group):
        correct, bins = m.pool.correct, bins_of(m.values)
        error, rate = bootstrap(brier(m.values, correct)), correct.mean()
        points = list(_points(m.values.astype(float), correct, bins))
        ece = sum(abs(p[1] - p[2]) * p[5] for p in points) / correct.size
        rows += [(m.name, *p, error.mean, error.low, error.high, rate * (1 - rate), ece) for p in points]
    return pd.DataFrame(rows, columns=COLUMNS)


def _points(
    scores: np.ndarray, correct: np.ndarray, bins: np.ndarray
) -> Iterator[tuple[int, float, float, float, float, int]]:
    for b in range(bins.max() + 1):
        inside = bins == b
        observed = ratio((correct & inside).sum(1), inside.sum(1))
        yield b, float(scores[inside].mean()), observed.mean, observed.low, observed.high, int(inside.sum())


def calibration_figure(group: Group, stem: Path, venue: str = "neurips") -> pd.DataFrame | None:
    """A small panel per pruner. None if no learned pruner gives probabilities."""
    data = calibration_data(group)
    names = list(dict.fromkeys(data.pruner))
    if not names:
        return None
    across = min(len(names), 4)
    down = -(-len(names) // across)
    grid = {"sharex": True, "sharey": True}
    with style.canvas(venue, down, across, height=0.35 + 0.75 * down, **grid) as (figure, axes):
        quadrants = {m.name: m.quadrant for m in group.judged}
        for axis, name in zip(axes.flat, names, strict=False):
            _panel(axis, data[data.pruner == name], name, style.mark(quadrants[name]))
        for axis in axes.flat[len(names) :]:
            axis.set_axis_off()
        for column in axes.T:  # the lowest panel of each column has the ticks
            last = [a for a, _ in zip(column, range(down), strict=True) if a.axison][-1]
            last.tick_params(labelbottom=True)
        figure.supxlabel("score (mean of an equal-count bin)", fontsize=style.venue_of(venue).font)
        figure.supylabel("share of paths that end right", fontsize=style.venue_of(venue).font)
        style.save(figure, data, stem)
    return data


def _panel(axis: Any, part: pd.DataFrame, name: str, mark: style.Mark) -> None:
    first = part.iloc[0]
    axis.plot([0, 1], [0, 1], color="0.6", lw=0.6, zorder=0)
    axis.fill_between(part.score, part.low, part.high, color=mark.colour, alpha=0.2, lw=0)
    axis.plot(part.score, part.observed, **mark.line(ms=3))
    axis.plot([], [], ls="", label=f"Brier {first.brier:.3f}\nECE {first.ece:.3f}")
    axis.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], title=name)
    axis.set_xticklabels(["0", "0.5", "1"])
    axis.legend(loc="upper left", handlelength=0, handletextpad=0, borderpad=0.1, borderaxespad=0.2)
