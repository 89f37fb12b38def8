"""Wall-clock seconds of Launch, Check and Resume, from live records (``harness.runners.live``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.loop import STAGES
from harness.replay.stats import bootstrap, ratio
from harness.report import Group
from harness.report.figures import style
from harness.store.records import Record, records

LOOKS = {"launch": ("0.8", ""), "check": ("black", ""), "resume": ("white", "////")}
COLUMNS = [
    "pruner", "n", "keep", *STAGES, "total", "total_low", "total_high", "check_share", "share_low", "share_high", "problems", "device",
]  # fmt: skip


def overhead_data(group: Group) -> pd.DataFrame:
    """One row per live record at this L, fastest first: mean seconds per problem of each stage and in total.

    ``check_share`` is the Check's time relative to Launch and Resume, summed over problems. Intervals are 95 % over
    problems.
    """
    rows = [_row(record, seconds) for record, seconds in _timed(group)]
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["total", "pruner"], ignore_index=True)


def _timed(group: Group) -> Iterator[tuple[Record, np.ndarray]]:
    """Live records with seconds ``[Q, 3]``. Plain generation appears at every L, because it has no prefix."""
    for record in records(group.folder, "live"):
        rows = [r["seconds"] for r in record.lines.values() if "seconds" in r]
        spec = record.header["spec"]
        here = spec.get("prefix") == group.prefix and "at" not in spec  # a schedule has no single prefix length
        if rows and (here or _plain(record)):
            yield record, np.array([[row[stage] for stage in STAGES] for row in rows], dtype=float)


def _plain(record: Record) -> bool:
    """Is the record plain generation, that is, a closed-form control that finished every path?"""
    n, role = record.header["spec"]["n"], record.header["role"]
    return role == "closed-form" and all(len(r["kept"]) == n for r in record.lines.values() if "kept" in r)


def _row(record: Record, seconds: np.ndarray) -> tuple[Any, ...]:
    spec, total = record.header["spec"], bootstrap(seconds.sum(1))
    share = ratio(seconds[:, 1], seconds[:, 0] + seconds[:, 2])
    keep = spec["n"] if _plain(record) else spec["keep"]
    device = (record.header.get("device") or {}).get("device", "")
    return (
        spec["pruner"], spec["n"], keep, *seconds.mean(0), total.mean, total.low, total.high, share.mean, share.low, share.high,
        len(seconds), device,
    )  # fmt: skip


def overhead_figure(group: Group, stem: Path, venue: str = "neurips") -> pd.DataFrame | None:
    """A stacked bar per pruner, labelled with the Check's share. None without live records."""
    data = overhead_data(group)
    if not len(data):
        return None
    with style.canvas(venue, height=0.45 + 0.13 * len(data), wide=False) as (figure, axes):
        axis = axes[0][0]
        heights = np.arange(len(data))[::-1]
        left = np.zeros(len(data))
        for stage in STAGES:
            colour, hatch = LOOKS[stage]
            axis.barh(
                heights, data[stage], left=left, height=0.68, label=stage.capitalize(), facecolor=colour, hatch=hatch,
                edgecolor="black", lw=0.5,
            )  # fmt: skip
            left += data[stage].to_numpy()
        axis.errorbar(
            data.total, heights, xerr=_reach(data), ls="", color="black", elinewidth=0.7, capsize=1.5, capthick=0.7
        )
        _shares(axis, data, heights)
        axis.set_yticks(heights, [style.literal(name) for name in _names(data)])
        axis.set(xlabel="seconds per problem", xlim=(0, 1.3 * data[["total", "total_high"]].max().max()))
        axis.tick_params(axis="y", length=0)
        style.legend_below(figure, axis, handlelength=1.4)
        style.save(figure, data, stem)
    return data


def _reach(data: pd.DataFrame) -> np.ndarray:
    """Lengths of the error bars ``[2, bars]``; none for a single problem."""
    return np.nan_to_num(np.array([data.total - data.total_low, data.total_high - data.total])).clip(min=0)


def _shares(axis: Any, data: pd.DataFrame, heights: np.ndarray) -> None:
    for height, row, plain in zip(heights, data.itertuples(), data.keep == data.n, strict=True):
        end = np.nanmax([row.total, row.total_high])
        text = "no Check" if plain else f"Check {row.check_share:.2%}"
        axis.annotate(
            text,
            (end, height),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=axis.xaxis.label.get_size() - 1,
        )


def _names(data: pd.DataFrame) -> list[str]:
    """Names of the bars, with k of N if records differ in it."""
    plain = data.keep == data.n
    alike = len(data.loc[~plain, ["n", "keep"]].drop_duplicates()) < 2
    return [
        f"{r.pruner} (no pruning)" if whole else str(r.pruner) if alike else f"{r.pruner} ({r.n}→{r.keep})"
        for r, whole in zip(data.itertuples(), plain, strict=True)
    ]
