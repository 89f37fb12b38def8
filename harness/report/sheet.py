"""Tables as data frames: one row per method and table, every interval as mean, low and high."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pandas as pd

from harness.replay.stats import Interval
from harness.report import Group
from harness.report.rows import Row

DIGITS = 6
FORMULA = re.compile(r"\s*[=+@\-\t\r].", re.DOTALL)  # a lone sign is not a formula
UNSHOWN = {"role"}  # evident from the type and position of a row


def sheet(groups: Sequence[tuple[Group, Sequence[Row]]], keep: int) -> pd.DataFrame:
    """All tables in one frame; columns are those of ``harness.report.rows.Row``, with missing numbers empty."""
    frame = pd.DataFrame([_where(group, keep) | _numbers(row) for group, rows in groups for row in rows])
    return defused(in_units(frame, [group for group, rows in groups for _ in rows]))


def in_units(frame: pd.DataFrame, groups: Sequence[Group]) -> pd.DataFrame:
    """The same frame, with a last column ``unit`` where a table counts anything but tokens; ``groups``: one for each row."""
    units = [group.unit for group in groups]
    return frame if {*units} <= {"tokens"} else frame.assign(unit=units)


def defused(data: pd.DataFrame) -> pd.DataFrame:
    """The same table, with an apostrophe before names that a spreadsheet would evaluate as a formula."""
    return data.map(lambda cell: f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell)


def _where(group: Group, keep: int) -> dict[str, Any]:
    engine = group.spec["engine"]
    return {
        "table": group.slug, "task": group.spec["task"], "task_version": group.spec["task_version"], "model": engine["model"],
        "fingerprint": engine["fingerprint"][:12], "engine": engine["engine"], "prefix": group.prefix, "n": group.pool.n, "keep": keep,
    }  # fmt: skip


def _numbers(row: Row) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field in fields(row):
        if field.name in UNSHOWN:
            continue
        value = getattr(row, field.name)
        if field.name == "own_vote":
            out["own_vote_rule"], value = value or (None, None)
        if isinstance(value, Interval) or field.name in INTERVALS:
            for part in ("mean", "low", "high"):
                number = getattr(value, part, None)
                out[f"{field.name}_{part}"] = None if number is None else round(number, DIGITS)
        else:
            out[field.name] = round(value, DIGITS) if isinstance(value, float) else value
    return out


INTERVALS = {f.name for f in fields(Row) if "Interval" in str(f.type)}
