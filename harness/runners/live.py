"""Live runs of Launch -> Check -> Resume -> Vote: only the kept paths are finished, and each stage is timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from harness import grading
from harness.api import PathpruneError, Problem
from harness.engines import load_now
from harness.learn import checkpoints
from harness.loop import STAGES, Outcome, ScoringError, prune
from harness.plugins.declared import Method, Plugin
from harness.plugins.sampled import without
from harness.runners.bench import Progress, check_signals
from harness.runners.run import Run
from harness.runners.work import PATIENCE
from harness.spec import RunSpec
from harness.store.keys import digest
from harness.store.locks import Claims
from harness.store.records import Record, lacks


def run_live(run: Run, methods: Sequence[Method], progress: Progress) -> list[Record]:
    """Run methods live, with one record each under ``live/``; problems that are done or run by another process are skipped."""
    records = [_open(run, method) for method in methods]
    problems = run.chosen()
    with Claims(run.folder) as claims:
        for number, (method, record) in enumerate(zip(methods, records, strict=True)):
            for left in _run(run, method, record, problems, claims):
                progress((number + 1) * len(problems) - left, method.name)
    return records


def _run(run: Run, method: Method, record: Record, problems: Sequence[Problem], claims: Claims) -> Iterator[int]:
    """Run unclaimed problems one at a time; yields the number left. Failed problems are not retried."""
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
                load_now(run.engine)  # outside the seconds of Launch
                record.append([_row(run, method, problem)])
        claims.release(taken)


def _open(run: Run, method: Method) -> Record:
    identity = {name: value for p in method.plugins for name, value in checkpoints.attach(p, run.engine).items()}
    spec = _voted(run.spec, method).live | {"pruner": method.name, "code": method.code} | identity
    stem = "-".join(f"{'L' if stage.at == 'token' else stage.at}{stage.prefix}" for stage in run.spec.stages)
    file = run.folder / "live" / f"{stem}-{checkpoints.slug(method.name)}-{digest(spec, 8)}.jsonl"
    about = {"role": method.role, "source": method.source, "device": run.engine.describe()}
    return Record.open(file, spec, **about).checked()


def check_live(plugin: Plugin, engine: Any) -> None:
    """Refuse a pruner that needs a signal that the engine does not provide, or that cannot run live.

    Raises:
        PathpruneError: states the reason.
    """
    check_signals(plugin, engine)
    if plugin.traits.stops and not plugin.traits.sequential:
        raise PathpruneError(
            f"{plugin.name} stops paths that run side by side, which can only be replayed; leave out live, or give a sequential "
            "stopping rule, such as asc"
        )
    if plugin.traits.decides and not plugin.traits.stops:
        raise PathpruneError(
            f"{plugin.name} has a decision rule of its own, which can only be replayed; leave out live"
        )


def terms(spec: RunSpec, method: Method) -> RunSpec:
    """The spec of a run for one method; a method that keeps every path ignores the number kept."""
    return spec.keeping_all() if method.scorer and method.scorer.traits.keeps_all else _voted(spec, method)


def _voted(spec: RunSpec, method: Method) -> RunSpec:
    """The spec for one method: a stopping rule without a scorer keeps all paths, and rules use the majority vote."""
    if method.scorer is None:
        return spec.keeping_all()
    return replace(spec, vote=RunSpec.vote) if method.rule else spec


def _row(run: Run, method: Method, problem: Problem) -> dict[str, Any]:
    scorer, rule = (None if p is None else p.pruner for p in (method.scorer, method.rule))
    try:
        outcome = prune(problem, run.task, _engine(run, method), scorer, terms(run.spec, method), run.time_limit, rule)
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
    } | ({} if outcome.tools is None else {"tools": round(outcome.tools, 4)})


def _engine(run: Run, method: Method) -> Any:
    """The run's engine, without token statistics if the method does not use them, because live paths are not stored."""
    return run.engine if any("token_stats" in p.traits.needs for p in method.plugins) else without(run.engine)


def _rounds(outcome: Outcome) -> dict[str, Any]:
    """The paths kept at each stage except the last, if there are several stages."""
    earlier = [list(r.kept) for r in outcome.rounds[:-1]]
    return {"earlier": earlier} if earlier else {}
