"""A table of seconds for Launch, Check and Resume, from the records of live runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from harness.api import Cost
from harness.loop import STAGES
from harness.spec import stages_of
from harness.store.records import Record, records

HEADS = ("pruner", *STAGES, "check / generation", "avg of kept", "vote", "tokens", "problems", "errors")
TITLE = "live: only kept paths are finished; seconds are sums over problems"


def summary(records: Sequence[Record]) -> Lines:
    """Seconds per stage, Check as a fraction of generation, accuracy and tokens; one row per pruner."""
    table = Table()
    for head in HEADS:
        table.add_column(head, justify="left" if head == "pruner" else "right")
    for record in records:
        table.add_row(*map(Text, _cells(record)))
    return Lines(Text(TITLE, "table.title"), table)


def stored(folder: Path) -> list[tuple[str, list[list[str]]]]:
    """The live tables in a pool's folder as (setting, cells), one per device, n, k and prefix length."""
    tables: dict[str, list[list[str]]] = {}
    for record in records(folder, "live"):
        spec, device = record.header["spec"], record.header["device"]["device"]
        pairs = spec.get("stages") or [[spec[key] for key in ("prefix", "keep", "at") if key in spec]]
        stages = stages_of(pairs)
        cuts = ", ".join(stage.where for stage in stages)
        setting = f"L = {cuts}, {stages[-1].keep} of {spec['n']} finished, on {device}"
        tables.setdefault(setting, []).append(_cells(record))
    return list(tables.items())


def _cells(record: Record) -> list[str]:
    rows = [r for r in record.lines.values() if "voted" in r]
    name = record.header["spec"]["pruner"]
    if not rows:
        return [name, *["-"] * 7, "0", str(len(record.lines))]
    spent = {s: sum(r["seconds"][s] for r in rows) for s in STAGES}
    generation, kept = spent["launch"] + spent["resume"], sum(len(r["kept"]) for r in rows)
    return [
        name,
        *(f"{spent[s]:.2f}" for s in STAGES),
        f"{spent['check'] / generation:.2%}" if generation else "-",
        f"{sum(r['right'] for r in rows) / kept:.3f}",
        f"{sum(r['correct'] for r in rows) / len(rows):.3f}",
        f"{sum(Cost(**r['cost']).tokens for r in rows) / len(rows):,.0f}",
        str(len(rows)),
        str(len(record.lines) - len(rows)),
    ]
