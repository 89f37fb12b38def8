"""The leaderboard as one HTML file: data, style and script are inside, so it opens from a disk, offline."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from harness.engines.identity import EMBEDDED
from harness.ledger import IMPORTED
from harness.replay.stats import Interval
from harness.report import Group
from harness.report.order import foremost
from harness.report.page.prose import parts
from harness.report.problem import Shown
from harness.report.rows import Row
from harness.report.tables import BRIEF, cells, columns, notes
from harness.store.files import writable

LINES = {"all (no pruning)": "no pruning", "random (expected)": "random"}  # rows whose curve has another name
TESTBEDS = (*EMBEDDED, "toy")  # tasks of ours; all else is a real model's
FAMILY = re.compile(r"[^:(=]*")  # a method's name without options, the key of a double, and methods of the same row
DIGITS = 6  # more than any interval is worth, and the same on every machine
DRAWN = 5  # of a curve's points
EXACT = 2**53
FOLDERS = re.compile(r"(?<==)~?/[^,]*/(?=[^,])")  # of an option's value


Value = float | Interval | tuple[str, Interval] | None

# In the order of tables.columns: a column's key in a link, and what it sorts by; None: its text.
COLUMNS: tuple[tuple[str, Callable[[Row], Value] | None], ...] = (
    ("pruner", None),
    ("type", None),
    ("fidelity", None),
    ("avg", lambda r: r.accuracy),
    ("gain", lambda r: r.gain),
    ("p", lambda r: r.adjusted_p),
    ("matched", lambda r: r.matched),
    ("behind", lambda r: r.behind),
    ("oracle", lambda r: r.oracle_share),
    ("cons", lambda r: r.voted),
    ("vote", lambda r: r.own_vote),
    ("tokens", lambda r: r.tokens),
    ("cold", lambda r: r.cold_tokens),
    ("saved", lambda r: r.saved),
    ("generated", lambda r: r.saved_generated),
    ("mflops", lambda r: r.flops / 1e6),
    ("within", lambda r: r.within),
    ("pooled", lambda r: r.pooled),
    ("length", lambda r: r.kept_length),
    ("truncated", lambda r: r.truncated),
    ("labels", lambda r: r.label_tokens),
    ("problems", lambda r: r.problems),
    ("note", None),
    ("bypassed", lambda r: r.bypassed),
    ("serial", lambda r: r.serial),
    ("rounds", lambda r: r.rounds),
)


def write_page(
    tables: Sequence[tuple[Group, Sequence[Row]]], curves: Mapping[str, pd.DataFrame], keep: int, file: Path,
    findings: Path | None = None, examples: Sequence[Mapping[str, Any]] = (),
) -> None:  # fmt: skip
    """One HTML file of all tables; the same records give the same bytes.

    Args:
        tables: groups with their rows.
        curves: by ``group.slug`` the frame of ``harness.report.figures.scaling_data``: cons@N in [0, 1], tokens per problem.
        findings: what ``pathprune findings`` wrote, for a section of its own.
        examples: what ``harness.report.examples`` gives.
    """
    rows_of = {id(group): rows for group, rows in tables}
    heads: list[list[str]] = []
    shown = []
    for group in foremost([group for group, _ in tables]):
        labels = columns(group.pool.n, keep)
        if labels not in heads:
            heads.append(labels)
        shown.append(_table(group, rows_of[id(group)], curves[group.slug]) | {"heads": heads.index(labels)})
    told = [] if findings is None else parts(findings.read_text(encoding="utf-8"))
    _write(file, {"keep": keep, **_columns(heads), "tables": shown, "findings": told, "examples": list(examples)})


def write_problem(found: Shown, file: Path) -> None:
    """One HTML file of the paths of one problem."""
    _write(file, {"keep": found.keep, **_columns([]), "tables": [], "findings": [], "examples": [found.data()]})


def _write(file: Path, data: Mapping[str, Any]) -> None:
    text = page(data)
    with writable(file) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def _columns(heads: Sequence[Sequence[str]]) -> dict[str, Any]:
    """What all tables share of their columns: keys, and labels for every n that there is."""
    kinds = [[key, int(value is not None), int(i in BRIEF)] for i, (key, value) in enumerate(COLUMNS)]
    return {"columns": kinds, "heads": list(heads)}


def page(data: Mapping[str, Any]) -> str:
    """The HTML around the data, which must be JSON without NaN."""
    style, script = _asset("page.css"), _asset("page.js")
    # Without "<" no name can end the block or open a comment in it.
    block = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    parts = {"style": style, "script": script, "data": block, "allowed": f"'{_sha(style)}' '{_sha(script)}'"}
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _sha(text: str) -> str:
    """What a content security policy calls an inline block it lets run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _table(group: Group, rows: Sequence[Row], curves: pd.DataFrame) -> dict[str, Any]:
    spec, engine = group.spec, group.spec["engine"]
    about, *warnings = notes(group)
    lines = [_line(str(name), frame) for name, frame in curves.groupby("pruner", sort=False)]
    return {
        "slug": group.slug,
        "task": f"{spec['task']} v{spec['task_version']}",
        "model": f"{Path(engine['model']).name} ({engine['fingerprint'][:8]})",
        "real": engine["engine"] == IMPORTED or spec["task"].partition(":")[0] not in TESTBEDS,
        "engine": f"{engine['engine']} {engine.get('dtype', '')}".rstrip(),
        "sampling": ", ".join(f"{k} {v}" for k, v in engine.get("sampling", {}).items()),
        "seed": spec["seed"],
        "prefix": group.prefix,
        "share": f"{group.prefix / group.pool.lengths.mean():.0%}",
        "n": group.pool.n,
        "problems": len(group.pool.problems),
        "about": about.replace("`", ""),
        "warnings": warnings,
        "rows": [_row(row, {line["name"] for line in lines}) for row in rows],
        "lines": lines,
    }


def _row(row: Row, lines: set[str]) -> dict[str, Any]:
    """A row's texts are those of the Markdown tables; its values, which sort, are those of numeric columns, null without a number.

    ``family``: the method of which it is a variant. What is false or empty is left out: the page holds hundreds of rows."""
    texts = cells(row)
    texts[0], line = _name(row.name), _name(LINES.get(row.name, row.name.partition(" = ")[0]))
    family = _name(FAMILY.match(row.name)[0].strip())  # type: ignore[index]  # it matches any text
    flags = {
        "line": line if line in lines else None,
        "family": family if family != texts[0] else None,
        "muted": int(row.role in ("control", "closed-form", "oracle")),
        "beyond": int(row.role == "oracle"),
        "stale": int("stale" in row.note),
        "competes": int(row.adjusted_p is not None),
    }
    values = [_plain(value(row)) for _, value in COLUMNS if value is not None]
    return {"texts": texts, "values": values, **{key: flag for key, flag in flags.items() if flag}}


def _line(name: str, frame: pd.DataFrame) -> dict[str, Any]:
    """A pruner's curve: for every share finished (0: a rule of its own) its points [N, tokens, cons, low, high]."""
    points: dict[str, list[Any]] = {}
    for gamma, *values in frame[["gamma", "N", "tokens", "cons", "low", "high"]].itertuples(index=False):
        points.setdefault(f"{gamma:g}", []).append([_plain(v, DRAWN) for v in values])
    return {"name": _name(name), "quadrant": str(frame["quadrant"].iloc[0]), "points": points}


def _name(name: str) -> str:
    """A pruner without the folders in its options: they are somebody's machine."""
    return FOLDERS.sub("", name)


def _plain(value: Value, digits: int = DIGITS) -> Any:
    """A number, [mean, low, high] or [mean, low, high, rule]; None where there is no number."""
    if isinstance(value, tuple):
        rule, interval = value
        return None if (plain := _plain(interval)) is None else [*plain, rule]
    if isinstance(value, Interval):
        mean = _plain(value.mean)
        return None if mean is None else [mean, _plain(value.low), _plain(value.high)]
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < EXACT else rounded
