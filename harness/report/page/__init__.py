"""The leaderboard as one self-contained HTML file, which opens offline."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
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
from harness.report.tables import BRIEF, cells, columns, with_power
from harness.store.files import writable

LINES = {"all (no pruning)": "no pruning", "random (expected)": "random"}  # rows whose curve has another name
TESTBEDS = (*EMBEDDED, "toy")  # tasks of ours; all else is a real model's
FAMILY = re.compile(r"[^:(=]*")  # a method's name without options, the key of a double, and methods of the same row
DIGITS = 5  # more than any interval is worth, and the same on every machine
EXACT = 10**15  # below which a number's digits are its own
FOLDERS = re.compile(r"(?<==)~?/[^,]*/(?=[^,])")  # of an option's value


Value = float | Interval | tuple[str, Interval] | None

# In the order of tables.columns: a column's key in a link, what it sorts by (None: its text), and the form of its numbers.
COLUMNS: tuple[tuple[str, Callable[[Row], Value] | None, str], ...] = (
    ("pruner", None, ""),
    ("type", None, ""),
    ("fidelity", None, ""),
    ("avg", lambda r: r.accuracy, ".3f"),
    ("gain", lambda r: r.gain, "+.3f"),
    ("p", lambda r: r.adjusted_p, ".3f"),
    ("matched", lambda r: r.matched, "+.3f"),
    ("behind", lambda r: r.behind, "+.3f"),
    ("oracle", lambda r: r.oracle_share, ".0%"),
    ("cons", lambda r: r.voted, ".3f"),
    ("vote", lambda r: r.own_vote, ".3f"),
    ("tokens", lambda r: r.tokens, ",.0f"),
    ("cold", lambda r: r.cold_tokens, ",.0f"),
    ("saved", lambda r: r.saved, ".1%"),
    ("generated", lambda r: r.saved_generated, ".1%"),
    ("mflops", lambda r: r.flops / 1e6, ",.0f"),
    ("within", lambda r: r.within, ".3f"),
    ("pooled", lambda r: r.pooled, ".3f"),
    ("length", lambda r: r.kept_length, ".1f"),
    ("truncated", lambda r: r.truncated, ".1%"),
    ("labels", lambda r: r.label_tokens, ",.0f"),
    ("problems", lambda r: r.problems, ".0f"),
    ("note", None, ""),
    ("bypassed", lambda r: r.bypassed, "+.3f"),
    ("serial", lambda r: r.serial, ",.0f"),
    ("rounds", lambda r: r.rounds, ".1f"),
)


def write_page(
    tables: Sequence[tuple[Group, Sequence[Row]]], curves: Mapping[str, pd.DataFrame], keep: int, file: Path,
    findings: Path | None = None, examples: Sequence[Mapping[str, Any]] = (),
) -> None:  # fmt: skip
    """Write one HTML file with all tables; the same records give the same bytes.

    Args:
        tables: groups with their rows.
        curves: by ``group.slug``, the frame of ``harness.report.scaling.scaling_data``: cons@N in [0, 1], tokens per problem.
        keep: number of paths kept.
        file: the file to write.
        findings: the output of ``pathprune findings``, shown as a section.
        examples: the output of ``harness.report.examples``.
    """
    rows_of = {id(group): rows for group, rows in tables}
    heads: list[list[str]] = []
    shown = []
    for group in foremost([group for group, _ in tables]):
        labels = columns(group.pool.n, keep, group.unit)
        if labels not in heads:
            heads.append(labels)
        shown.append(_table(group, rows_of[id(group)], curves[group.slug], keep) | {"heads": heads.index(labels)})
    told = [] if findings is None else parts(findings.read_text(encoding="utf-8"))
    _write(file, {"keep": keep, **_columns(heads), "tables": shown, "findings": told, "examples": list(examples)})


def write_problem(found: Shown, file: Path) -> None:
    """Write one HTML file with the paths of one problem."""
    _write(file, {"keep": found.keep, **_columns([]), "tables": [], "findings": [], "examples": [found.data()]})


def _write(file: Path, data: Mapping[str, Any]) -> None:
    text = page(data)
    with writable(file) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def _columns(heads: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Column data common to all tables: keys, and labels for every n."""
    kinds = [[key, int(value is not None), int(i in BRIEF), form] for i, (key, value, form) in enumerate(COLUMNS)]
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
    """The hash that allows an inline block in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _table(group: Group, rows: Sequence[Row], curves: pd.DataFrame, keep: int) -> dict[str, Any]:
    spec, engine = group.spec, group.spec["engine"]
    about, *warnings = with_power(group, keep, rows)
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
        "unit": group.unit,
        "share": f"{group.prefix / group.pool.lengths.mean():.0%}",
        "n": group.pool.n,
        "problems": len(group.pool.problems),
        "about": about.replace("`", ""),
        "warnings": warnings,
        "rows": [_row(row, {line["name"] for line in lines}) for row in rows],
        "lines": lines,
    }


def _row(row: Row, lines: set[str]) -> dict[str, Any]:
    """A row's texts, its numeric values (null if missing) and its flags, for the page.

    The page formats numbers by column; ``said`` contains, by column, the texts of the Markdown tables that this formatting would
    not reproduce. ``family``: the method of which it is a variant. False and empty entries are omitted to save space."""
    texts = cells(row)
    texts[0], line = _name(row.name), _name(LINES.get(row.name, row.name.partition(" = ")[0]))
    family = _name(FAMILY.match(row.name)[0].strip())  # type: ignore[index]  # it matches any text
    values = [None if value is None else _plain(value(row)) for _, value, _ in COLUMNS]
    numeric = [i for i, (_, value, _) in enumerate(COLUMNS) if value is not None]
    flags = {
        "said": {
            i: texts[i] for i in numeric if values[i] is not None and written(values[i], COLUMNS[i][2]) != texts[i]
        },
        "line": line if line in lines else None,
        "family": family if family != texts[0] else None,
        "muted": int(row.role in ("control", "closed-form", "oracle")),
        "beyond": int(row.role == "oracle"),
        "stale": int("stale" in row.note),
        "competes": int(row.adjusted_p is not None),
    }
    words = [text for i, text in enumerate(texts) if i not in numeric]
    return {
        "words": words,
        "values": [values[i] for i in numeric],
        **{key: flag for key, flag in flags.items() if flag or flag == ""},
    }


def written(value: Any, form: str) -> str:
    """The page's text for a value from ``_plain``: mirrors ``written`` in page.js, which rounds halves away from zero."""
    if not isinstance(value, list):
        return _fixed(value, form)
    mean, low, high, *rule = value
    if low is not None and high is None:
        return ""  # no interval of ours
    between = "n/a" if low is None else f"{_fixed(low, form.lstrip('+'))}, {_fixed(high, form.lstrip('+'))}"
    return f"{''.join(f'{name} ' for name in rule)}{_fixed(mean, form)} [{between}]"


def _fixed(value: float, form: str) -> str:
    if abs(value) >= EXACT:
        return ""  # nothing that a table holds; a browser would write a power of ten
    places, percent = int(form[-2]), "%" * form.endswith("%")
    exact = Decimal(value * 100 if percent else value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    sign = "+" if form.startswith("+") and not exact.is_signed() else ""
    return f"{sign}{exact:{',' if form.startswith(',') else ''}f}{percent}"


def _line(name: str, frame: pd.DataFrame) -> dict[str, Any]:
    """A pruner's curve: by fraction finished (0: its own decision rule), the points [N, tokens, cons, low, high]."""
    points: dict[str, list[Any]] = {}
    for gamma, *values in frame[["gamma", "N", "tokens", "cons", "low", "high"]].itertuples(index=False):
        points.setdefault(f"{gamma:g}", []).append([_plain(v) for v in values])
    return {"name": _name(name), "quadrant": str(frame["quadrant"].iloc[0]), "points": points}


def _name(name: str) -> str:
    """A pruner's name without the local folders in its options."""
    return FOLDERS.sub("", name)


def _plain(value: Value) -> Any:
    """A number, [mean, low, high] or [mean, low, high, rule]; None for a missing number."""
    if isinstance(value, tuple):
        rule, interval = value
        return None if (plain := _plain(interval)) is None else [*plain, rule]
    if isinstance(value, Interval):
        mean = _plain(value.mean)
        return None if mean is None else [mean, _plain(value.low), _plain(value.high)]
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < EXACT else rounded
