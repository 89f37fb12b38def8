"""Score against success within problems: how often a right path outranks a wrong one, and the distribution of scores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.replay.stats import bootstrap, within_auroc
from harness.report import Group, Method
from harness.report.figures import style
from harness.report.figures.chosen import best_of_quadrants

THIRDS = ("hard", "middle", "easy")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COLUMNS = ["panel", "pruner", "quadrant", "problem", "auroc", "mean", "low", "high"]
BOXES = ["third", "least", "most", "right", "paths", "q05", "q25", "q50", "q75", "q95"]  # pass rates, scores


def thirds(correct: np.ndarray) -> np.ndarray:
    """0, 1, 2 for the hard, middle and easy third of the problems by pass rate, int ``[Q]``; ties in the given order."""
    order = np.argsort(correct.mean(1), kind="stable")
    out = np.zeros(len(correct), dtype=int)
    for third, members in enumerate(np.array_split(order, 3)):
        out[members] = third
    return out


def success_data(group: Group) -> pd.DataFrame:
    """Panel "auroc": one row per problem with right and wrong paths and per best method of a quadrant, with the
    interval of the mean.

    Panel "score": quantiles of the best learned method's scores of right and of wrong paths, per third of the problems.
    """
    best = best_of_quadrants(group)
    learned = [m for m in best if m.quadrant.endswith("-learned")]
    frames = [pd.DataFrame(_aurocs(m), columns=COLUMNS) for m in best]
    frames += [pd.DataFrame(_boxes(m), columns=[*COLUMNS[:3], *BOXES]) for m in learned[:1]]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS + BOXES)


def _aurocs(method: Method) -> Iterator[tuple[Any, ...]]:
    correct = method.pool.correct
    mixed = correct.any(1) & ~correct.all(1)
    values = within_auroc(method.values, correct)
    mean = bootstrap(values)
    names = np.array(method.pool.problems)[mixed]
    for problem, value in zip(names, values, strict=True):
        yield "auroc", method.name, method.quadrant, str(problem), value, mean.mean, mean.low, mean.high


def _boxes(method: Method) -> Iterator[tuple[Any, ...]]:
    correct = method.pool.correct
    third = thirds(correct)
    for number, name in enumerate(THIRDS):
        inside = third == number
        rates = correct[inside].mean(1)
        for right in (False, True):
            scores = method.values[inside][correct[inside] == right].astype(float)
            if len(scores):
                limits = np.quantile(scores, QUANTILES)
                yield "score", method.name, method.quadrant, name, rates.min(), rates.max(), right, len(scores), *limits


def success_figure(group: Group, stem: Path, venue: str = "neurips") -> pd.DataFrame | None:
    """Plot distributions of AUROC over problems, and boxes of scores. None if no problem has both right and wrong
    paths."""
    data = success_data(group)
    aurocs = data[data.panel == "auroc"]
    if not len(aurocs):
        return None
    boxes = data[data.panel == "score"]
    panels = 2 if len(boxes) else 1
    with style.canvas(venue, 1, panels, height=1.4) as (figure, axes):
        for name in dict.fromkeys(aurocs.pruner):
            _distribution(axes[0][0], aurocs[aurocs.pruner == name])
        axes[0][0].axvline(0.5, color="0.6", lw=0.6, zorder=0)
        axes[0][0].set(xlim=(0, 1), ylim=(0, 1), xlabel="AUROC within a problem", ylabel="share of problems below")
        if len(boxes):
            _scores(axes[0][1], boxes)
        style.legend_below(figure, axes[0][0], handlelength=3)
        style.save(figure, data, stem)
    return data


def _distribution(axis: Any, part: pd.DataFrame) -> None:
    """Plot the cumulative distribution with a marker at the mean."""
    values = np.sort(part.auroc.to_numpy())
    mark, mean = style.mark(part.quadrant.iloc[0]), part["mean"].iloc[0]
    share = np.arange(len(values) + 1) / len(values)
    axis.plot([0, *values, 1], [*share, 1], **mark.line(marker="", drawstyle="steps-post"))
    axis.plot(mean, np.interp(mean, [0, *values, 1], [0, *share[1:], 1]), **mark.point(mec="white", mew=0.4))
    axis.plot([], [], **mark.line(label=f"{part.pruner.iloc[0]}, mean {mean:.3f}"))


def _scores(axis: Any, boxes: pd.DataFrame) -> None:
    """Plot two boxes per third: 25 to 75 %, median, and whiskers from 5 to 95 % of the paths."""
    mark = style.mark(boxes.quadrant.iloc[0])
    looks = {False: {"facecolor": "white", "hatch": "////"}, True: {"facecolor": mark.colour}}
    ticks = {}
    for box in boxes.itertuples():
        number = THIRDS.index(str(box.third))
        stats = {"whislo": box.q05, "q1": box.q25, "med": box.q50, "q3": box.q75, "whishi": box.q95}
        axis.bxp(
            [stats], positions=[number + (0.19 if box.right else -0.19)], widths=0.32, showfliers=False, patch_artist=True,
            manage_ticks=False, boxprops={"lw": 0.6, "edgecolor": "black", **looks[bool(box.right)]},
            medianprops={"color": "black", "lw": 1.4}, whiskerprops={"lw": 0.6}, capprops={"lw": 0.6},
        )  # fmt: skip
        ticks[number] = f"{box.third}\n{_percent(box.least, box.most)}"
    axis.set_xticks(list(ticks), list(ticks.values()))
    axis.set(xlabel="third of the problems, pass rate", ylabel=style.literal(f"score of {boxes.pruner.iloc[0]}"))
    for right, text in ((False, "wrong paths"), (True, "right paths")):
        axis.bar([0], [np.nan], label=text, edgecolor="black", lw=0.6, **looks[right])
    axis.legend(
        loc="upper left", ncols=2, columnspacing=0.8, handlelength=1.2, borderaxespad=0, bbox_to_anchor=(0, 1.12)
    )


def _percent(least: Any, most: Any) -> str:
    return f"{100 * least:.0f}–{100 * most:.0f} %"
