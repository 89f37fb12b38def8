"""Launch -> Check -> Resume for real: only the kept paths are finished, and each stage is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.learn import checkpoints
from harness.loop import STAGES, Plan, ScoringError, prune
from harness.registry import Plugin
from harness.runners.bench import Progress, Settings
from harness.store.keys import digest
from harness.store.records import Record


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
