"""A banked bench: make sure that a pool exists and that every requested pruner has scored its prefixes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.api import Engine, PathpruneError, Problem
from harness.learn import checkpoints
from harness.plugins import Plugin
from harness.pools.bank import Bank
from harness.runners.run import Run
from harness.runners.work import WHOLE, Crew, Job, Scoring, Worker, alone
from harness.store.keys import digest
from harness.store.records import Record

Progress = Callable[[int, str], None]
Records = Mapping[Scoring, Record]


@dataclass(frozen=True)
class Done:
    """What a bench did: tokens it really sampled, and the pruners that failed with the first reason."""

    sampled: int
    failures: dict[str, tuple[int, str]]


def bench(run: Run, plugins: Sequence[Plugin], progress: Progress, crew: Crew = alone) -> Done:
    """Append what is missing to the pool record and to each method's records, one per prefix length of the run.

    ``crew`` does the work, here or elsewhere.
    """
    pool = Record.open(run.folder / "pool.jsonl", run.spec.pool, **_engine_facts(run)).checked()
    usable, failures = _usable(run, plugins)
    records = {scoring: record for plugin in usable for scoring, record in _records(run, plugin)}
    problems = run.chosen()
    bank = run.opened_bank()
    waiting = [p for p in problems if p.id not in pool.lines or any(_lacks(r, p) for r in records.values())]
    done, sampled = len(problems) - len(waiting), 0
    progress(done, "")
    size = max(1, run.engine.rows // run.spec.n) if waiting else 1
    groups = (waiting[start : start + size] for start in range(0, len(waiting), size))
    jobs = (_job(bank, records, group, run.spec.seed) for group in groups)
    for finished in crew(Worker(run.task, run.engine, usable, run.spec), jobs):
        for paths in finished.fresh:
            bank.put(paths[0].problem, paths)
        _same_paths(pool, finished.pool)
        pool.append(finished.pool)
        for scoring, record in records.items():
            record.append(finished.judged.get(scoring, []))
        done, sampled = done + len(finished.pool), sampled + finished.sampled
        progress(done, f"{sampled:,} tokens sampled")
    return Done(sampled, failures | _failures(records, problems))


def open_record(run: Run, plugin: Plugin, prefix: int) -> Record:
    """The record of a method's scores at a prefix length; of a decision rule of its own at none (``WHOLE``)."""
    identity = checkpoints.attach(plugin, run.engine)
    stem = "own-rule" if plugin.traits.decides else f"L{prefix}"
    spec = run.spec.scored_at(prefix) | {"pruner": plugin.name, "code": plugin.code} | identity
    name = f"{stem}-{checkpoints.slug(plugin.name)}-{digest(spec, 8)}.jsonl"
    about: dict[str, Any] = {
        "role": plugin.traits.role,
        "quadrant": plugin.traits.quadrant,
        "fidelity": plugin.traits.fidelity,
        "vote": plugin.traits.vote,
        "pointwise": plugin.traits.pointwise,
        "label_tokens": checkpoints.label_tokens(plugin, run.engine),
    }
    return Record.open(run.folder / name, spec, **about, source=plugin.source).checked()


def check_signals(plugin: Plugin, engine: Engine) -> None:
    """Refuse a pruner that needs what the engine does not give."""
    lacking = plugin.traits.needs - engine.provides
    if lacking:
        raise PathpruneError(
            f"pruner {plugin.name} needs {', '.join(sorted(lacking))}, which engine {engine.spec['engine']} does not provide"
        )


def _records(run: Run, plugin: Plugin) -> Iterator[tuple[Scoring, Record]]:
    for prefix in (WHOLE,) if plugin.traits.decides else run.spec.prefixes:
        yield (plugin.name, prefix), open_record(run, plugin, prefix)


def _job(bank: Bank, records: Records, group: Sequence[Problem], seed: int) -> Job:
    """What is stored of these problems' pools, and which methods have not scored which of them."""
    stored = {p.id: bank.get(p, seed) for p in group}
    lacking = {scoring: frozenset(p.id for p in group if _lacks(r, p)) for scoring, r in records.items()}
    return Job(tuple(group), stored, lacking)


def _usable(run: Run, plugins: Sequence[Plugin]) -> tuple[list[Plugin], dict[str, tuple[int, str]]]:
    """The methods whose weights are there, and why the others cannot run; one alone is simply an error."""
    usable, failures = [], {}
    for plugin in plugins:
        try:
            checkpoints.attach(plugin, run.engine)
            usable.append(plugin)
        except PathpruneError as error:
            if len(plugins) == 1:
                raise
            failures[plugin.name] = (run.problems, str(error))
    return usable, failures


def _same_paths(pool: Record, rows: Sequence[dict[str, Any]]) -> None:
    """A score belongs to the very path it was given for: refuse a pool that was recorded from other paths."""
    for row in rows:
        known = pool.lines.get(row["problem"], row)
        if known["paths"] != row["paths"]:
            raise PathpruneError(
                f"the banked paths of {row['problem']} are not those that {pool.file} was recorded from (another machine or "
                "version sampled them); use another --results folder, or the bank that belongs to these records"
            )


def _engine_facts(run: Run) -> dict[str, Any]:
    file = run.folder / "pool.jsonl"
    return {} if file.exists() else {"flops": asdict(run.engine.flops), "device": run.engine.describe()}


def _lacks(record: Record, problem: Problem) -> bool:
    return "error" in record.lines.get(problem.id, {"error": "not scored yet"})


def _failures(records: Records, problems: Sequence[Problem]) -> dict[str, tuple[int, str]]:
    failures: dict[str, tuple[int, str]] = {}
    for (name, _), record in records.items():
        errors = [record.lines[p.id]["error"] for p in problems if "error" in record.lines.get(p.id, {})]
        if errors and name not in failures:
            failures[name] = (len(errors), errors[0])
    return failures
