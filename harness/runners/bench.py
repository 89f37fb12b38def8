"""One bench: make sure a pool exists and that every requested pruner has scored its prefixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath
from typing import Any

from harness.api import Engine, PathpruneError, Problem, Task
from harness.learn import checkpoints
from harness.pools.bank import Bank, pool_spec
from harness.registry import Plugin
from harness.runners.work import Crew, Job, Terms, Worker, alone, native
from harness.store.keys import digest
from harness.store.records import Record

Progress = Callable[[int, str], None]


@dataclass(frozen=True)
class Settings:
    """What is benchmarked. ``prefix`` is L in tokens; how many are kept is chosen when results are reported."""

    task: Task
    engine: Any
    problems: int
    n: int
    prefix: int
    max_tokens: int
    seed: int
    results: FilePath
    bank: FilePath

    def __post_init__(self) -> None:
        if self.prefix < 1 or self.prefix >= self.max_tokens:
            raise PathpruneError(f"--prefix {self.prefix} is not between 1 and the token limit {self.max_tokens} - 1")
        if self.n < 1 or self.problems < 1:
            raise PathpruneError("--n and --problems are 1 or more")

    @property
    def terms(self) -> Terms:
        return Terms(self.n, self.prefix, self.max_tokens, self.seed)

    @property
    def pool(self) -> dict[str, Any]:
        return pool_spec(self.task, self.engine, self.seed, self.max_tokens) | {"n": self.n}

    @property
    def folder(self) -> FilePath:
        return (
            self.results / f"{self.task.name}-v{self.task.version}" / f"{self.engine.spec['model']}-{digest(self.pool)}"
        )


@dataclass(frozen=True)
class Done:
    """What a bench did: tokens it really sampled, and the pruners that failed with the first reason."""

    sampled: int
    failures: dict[str, tuple[int, str]]


def bench(settings: Settings, plugins: Sequence[Plugin], progress: Progress, crew: Crew = alone) -> Done:
    """Append what is missing to the pool record and to each method's record. ``crew`` does the work, here or elsewhere."""
    pool = Record.open(settings.folder / "pool.jsonl", settings.pool, **_engine_facts(settings))
    records, failures = _openable(settings, plugins)
    problems = settings.task.problems("test", settings.problems)
    # Pools are stored whatever n was asked for, so that a larger n later extends them.
    bank = Bank(settings.bank, {k: v for k, v in settings.pool.items() if k != "n"})
    waiting = [p for p in problems if p.id not in pool.lines or any(_lacks(r, p) for _, r in records)]
    done, sampled = len(problems) - len(waiting), 0
    progress(done, "")
    size = max(1, settings.engine.rows // settings.n) if waiting else 1
    groups = (waiting[start : start + size] for start in range(0, len(waiting), size))
    jobs = (_job(bank, [(p.name, r) for p, r in records], group, settings.seed) for group in groups)
    worker = Worker(settings.task, settings.engine, [p for p, _ in records], settings.terms)
    for finished in crew(worker, jobs):
        for paths in finished.fresh:
            bank.put(paths[0].problem, paths)
        _same_paths(pool, finished.pool)
        pool.append(finished.pool)
        for plugin, record in records:
            record.append(finished.judged.get(plugin.name, []))
        done, sampled = done + len(finished.pool), sampled + finished.sampled
        progress(done, f"{sampled:,} tokens sampled")
    return Done(sampled, failures | _failures(records, problems))


def _job(bank: Bank, records: Sequence[tuple[str, Record]], group: Sequence[Problem], seed: int) -> Job:
    """What is stored of these problems' pools, and which methods have not scored which of them."""
    stored = {p.id: bank.get(p, seed) for p in group}
    lacking = {name: frozenset(p.id for p in group if _lacks(record, p)) for name, record in records}
    return Job(tuple(group), stored, lacking)


def _openable(
    settings: Settings, plugins: Sequence[Plugin]
) -> tuple[list[tuple[Plugin, Record]], dict[str, tuple[int, str]]]:
    """Records of the methods whose weights are there, and why the others cannot run; one alone is simply an error."""
    records, failures = [], {}
    for plugin in plugins:
        try:
            records.append((plugin, open_record(settings, plugin)))
        except PathpruneError as error:
            if len(plugins) == 1:
                raise
            failures[plugin.name] = (settings.problems, str(error))
    return records, failures


def _same_paths(pool: Record, rows: Sequence[dict[str, Any]]) -> None:
    """A score belongs to the very path it was given for: refuse a pool that was recorded from other paths."""
    for row in rows:
        known = pool.lines.get(row["problem"], row)
        if known["paths"] != row["paths"]:
            raise PathpruneError(
                f"the banked paths of {row['problem']} are not those that {pool.file} was recorded from (another machine or "
                "version sampled them); use another --results folder, or the bank that belongs to these records"
            )


def open_record(settings: Settings, plugin: Plugin) -> Record:
    identity = checkpoints.attach(plugin, settings.engine)
    prefix = 0 if native(plugin) else settings.prefix
    spec = settings.pool | {"prefix": prefix, "pruner": plugin.name, "code": plugin.code} | identity
    stem = "own-rule" if native(plugin) else f"L{prefix}"
    name = f"{stem}-{checkpoints.slug(plugin.name)}-{digest(spec, 8)}.jsonl"
    about: dict[str, Any] = {
        "quadrant": plugin.pruner.quadrant,
        "fidelity": plugin.pruner.fidelity,
        "vote": getattr(plugin.pruner, "vote", "majority"),
        "label_tokens": checkpoints.label_tokens(plugin, settings.engine),
    }
    return Record.open(settings.folder / name, spec, **about, source=plugin.source)


def check_signals(plugin: Plugin, engine: Engine) -> None:
    lacking = plugin.pruner.needs - engine.provides
    if lacking:
        raise PathpruneError(
            f"pruner {plugin.name} needs {', '.join(sorted(lacking))}, which engine {engine.spec['engine']} does not provide"
        )


def _engine_facts(settings: Settings) -> dict[str, Any]:
    file = settings.folder / "pool.jsonl"
    return {} if file.exists() else {"flops": asdict(settings.engine.flops), "device": settings.engine.describe()}


def _lacks(record: Record, problem: Problem) -> bool:
    return "error" in record.lines.get(problem.id, {"error": "not scored yet"})


def _failures(records: Sequence[tuple[Plugin, Record]], problems: Sequence[Problem]) -> dict[str, tuple[int, str]]:
    failures = {}
    for plugin, record in records:
        errors = [record.lines[p.id]["error"] for p in problems if "error" in record.lines.get(p.id, {})]
        if errors:
            failures[plugin.name] = (len(errors), errors[0])
    return failures
