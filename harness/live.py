"""Launch -> Check -> Resume for real: only the kept paths are finished, and each stage is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from harness import checkpoints
from harness.api import Cost
from harness.bench import Progress, Settings
from harness.loop import Plan, ScoringError, prune
from harness.registry import Plugin
from harness.store import Record, digest

STAGES = ("launch", "check", "resume")


def run_live(settings: Settings, plugins: Sequence[Plugin], plan: Plan, progress: Progress) -> list[Record]:
    """One record per pruner under ``live/``; a problem that is there already is not run again."""
    records = []
    problems = settings.task.problems("test", settings.problems)
    for number, plugin in enumerate(plugins):
        record = _open(settings, plugin, plan)
        records.append(record)
        for i, problem in enumerate(problems):
            if "voted" not in record.lines.get(problem.id, {}):
                record.append([_row(settings, plugin, problem, plan)])
            progress(number * len(problems) + i + 1, plugin.name)
    return records


def _open(settings: Settings, plugin: Plugin, plan: Plan) -> Record:
    identity = checkpoints.attach(plugin, settings.engine)
    spec = settings.pool | asdict(plan) | {"pruner": plugin.name, "code": plugin.code, "live": True} | identity
    file = settings.folder / "live" / f"L{plan.prefix}-{checkpoints.slug(plugin.name)}-{digest(spec, 8)}.jsonl"
    return Record.open(file, spec, source=plugin.source, device=settings.engine.describe())


def _row(settings: Settings, plugin: Plugin, problem: Any, plan: Plan) -> dict[str, Any]:
    if getattr(plugin.pruner, "keeps_all", False):
        plan = Plan(**(asdict(plan) | {"keep": plan.n, "vote": "majority"}))
    try:
        outcome = prune(problem, settings.task, settings.engine, plugin.pruner, plan)
    except ScoringError as error:
        return {"problem": problem.id, "error": str(error)}
    return {
        "problem": problem.id,
        "kept": list(outcome.kept),
        "answers": list(outcome.answers),
        "voted": outcome.voted,
        "correct": int(settings.task.correct(outcome.voted, problem)),
        "right": sum(settings.task.correct(a, problem) for a in outcome.answers),
        "cost": asdict(outcome.cost),
        "seconds": dict(zip(STAGES, (round(s, 4) for s in outcome.seconds), strict=True)),
    }


HEADS = ("pruner", *STAGES, "check / generation", "avg of kept", "vote", "tokens", "problems", "errors")
TITLE = "live: only kept paths are finished; seconds are sums over problems"


def summary(records: Sequence[Record]) -> Table:
    """Seconds per stage, Check as a share of generation, accuracy and tokens; a row per pruner."""
    table = Table(title=TITLE, title_justify="left")
    for head in HEADS:
        table.add_column(head, justify="left" if head == "pruner" else "right")
    for record in records:
        table.add_row(*_cells(record))
    return table


def stored(folder: Path) -> list[tuple[str, list[list[str]]]]:
    """The live tables of a pool's folder: (where they were timed, cells), one per device, n, k and prefix length."""
    tables: dict[str, list[list[str]]] = {}
    for file in sorted((folder / "live").glob("*.jsonl")):
        record = Record.read(file)
        spec, device = record.header["spec"], record.header["device"]["device"]
        place = f"L = {spec['prefix']}, {spec['keep']} of {spec['n']} finished, on {device}"
        tables.setdefault(place, []).append(_cells(record))
    return list(tables.items())


def _cells(record: Record) -> list[str]:
    rows = [r for r in record.lines.values() if "voted" in r]
    name = record.header["spec"]["pruner"]
    if not rows:
        return [name, *["-"] * 7, "0", str(len(record.lines))]
    spent = {s: sum(r["seconds"][s] for r in rows) for s in STAGES}
    kept = sum(len(r["kept"]) for r in rows)
    return [
        name,
        *(f"{spent[s]:.2f}" for s in STAGES),
        f"{spent['check'] / (spent['launch'] + spent['resume']):.2%}",
        f"{sum(r['right'] for r in rows) / kept:.3f}",
        f"{sum(r['correct'] for r in rows) / len(rows):.3f}",
        f"{sum(Cost(**r['cost']).tokens for r in rows) / len(rows):,.0f}",
        str(len(rows)),
        str(len(record.lines) - len(rows)),
    ]
