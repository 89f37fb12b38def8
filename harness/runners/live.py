"""Launch -> Check -> Resume for real: only the kept paths are finished, and each stage is timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from harness import grading
from harness.api import Problem
from harness.learn import checkpoints
from harness.loop import STAGES, Outcome, ScoringError, prune
from harness.plugins.declared import Plugin
from harness.runners.bench import Progress
from harness.runners.run import Run
from harness.runners.work import PATIENCE
from harness.store.keys import digest
from harness.store.locks import Claims
from harness.store.records import Record, lacks


def run_live(run: Run, plugins: Sequence[Plugin], progress: Progress) -> list[Record]:
    """One record per pruner under ``live/``; a problem that is there already, or that another process runs, is not run again."""
    records = [_open(run, plugin) for plugin in plugins]
    problems = run.chosen()
    with Claims(run.folder) as claims:
        for number, (plugin, record) in enumerate(zip(plugins, records, strict=True)):
            for left in _run(run, plugin, record, problems, claims):
                progress((number + 1) * len(problems) - left, plugin.name)
    return records


def _run(run: Run, plugin: Plugin, record: Record, problems: Sequence[Problem], claims: Claims) -> Iterator[int]:
    """Run each problem that nobody else does, one at a time; yields how many are left. Those that fail are not run again."""
    waiting = {f"{record.file.name}/{p.id}": p for p in problems}
    while True:
        record.refresh()
        waiting = {claim: p for claim, p in waiting.items() if lacks(record.lines, p.id)}
        yield len(waiting)
        if not waiting:
            return
        taken = claims.take(waiting, 1)
        if not taken:
            time.sleep(PATIENCE)
        for claim in taken:
            record.refresh()
            problem = waiting.pop(claim)
            if lacks(record.lines, problem.id):
                record.append([_row(run, plugin, problem)])
        claims.release(taken)


def _open(run: Run, plugin: Plugin) -> Record:
    identity = checkpoints.attach(plugin, run.engine)
    spec = run.spec.live | {"pruner": plugin.name, "code": plugin.code} | identity
    stem = "-".join(f"L{prefix}" for prefix in run.spec.prefixes)
    file = run.folder / "live" / f"{stem}-{checkpoints.slug(plugin.name)}-{digest(spec, 8)}.jsonl"
    about = {"role": plugin.traits.role, "source": plugin.source, "device": run.engine.describe()}
    return Record.open(file, spec, **about).checked()


def _row(run: Run, plugin: Plugin, problem: Problem) -> dict[str, Any]:
    spec = run.spec.keeping_all() if plugin.traits.keeps_all else run.spec
    try:
        outcome = prune(problem, run.task, run.engine, plugin.pruner, spec, run.time_limit)
    except ScoringError as error:
        return {"problem": problem.id, "error": str(error)}
    return {
        "problem": problem.id,
        "kept": list(outcome.kept),
        **_rounds(outcome),
        "answers": list(outcome.answers),
        "voted": outcome.voted,
        "correct": int(grading.correct(run.task, outcome.voted, problem)),
        "right": sum(grading.correct(run.task, a, problem) for a in outcome.answers),
        "cost": asdict(outcome.cost),
        "seconds": dict(zip(STAGES, (round(s, 4) for s in outcome.seconds), strict=True)),
    }


def _rounds(outcome: Outcome) -> dict[str, Any]:
    """Who went on at each stage but the last, where there are several."""
    earlier = [list(r.kept) for r in outcome.rounds[:-1]]
    return {"earlier": earlier} if earlier else {}
