"""One bench: make sure a pool exists and that every requested pruner has scored its prefixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness import checkpoints
from harness.api import Engine, Path, PathpruneError, Problem, Task, UnavailableError
from harness.bank import Bank, Banked, pool_spec
from harness.loop import ScoringError, check, decide
from harness.registry import Plugin
from harness.store import Record, digest

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


def bench(settings: Settings, plugins: Sequence[Plugin], progress: Progress) -> Done:
    """Append what is missing to the pool record and to each method's record."""
    pool = Record.open(settings.folder / "pool.jsonl", settings.pool, **_engine_facts(settings))
    records, failures = _openable(settings, plugins)
    problems = settings.task.problems("test", settings.problems)
    # Pools are stored whatever n was asked for, so that a larger n later extends them.
    base = {k: v for k, v in settings.pool.items() if k != "n"}
    engine = Banked(settings.engine, Bank(settings.bank, base), settings.max_tokens)
    waiting = [p for p in problems if p.id not in pool.lines or any(_lacks(r, p) for _, r in records)]
    progress(len(problems) - len(waiting), "")
    size = max(1, settings.engine.rows // settings.n) if waiting else 1
    unavailable: dict[str, str] = {}  # by name, why a method is not tried again in this run
    for start in range(0, len(waiting), size):
        group = waiting[start : start + size]
        prefixes = engine.launch(group, settings.n, settings.prefix, settings.seed)
        pruners = [(p, r) for p, r in records if not native(p)]
        methods = [(p, r) for p, r in records if native(p)]
        done = _judge(settings, pruners, prefixes, unavailable)
        finished = engine.finish(prefixes)
        done += _judge(settings, methods, finished, unavailable)
        rows = [_pool_row(settings.task, settings.engine, paths) for paths in finished]
        _same_paths(pool, rows)
        pool.append(rows)
        for _, record in records:
            record.append([row for r, row in done if r is record])
        engine.forget(group)
        progress(len(problems) - len(waiting) + start + len(group), f"{engine.sampled:,} tokens sampled")
    return Done(engine.sampled, failures | _failures(records, problems))


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


def native(plugin: Plugin) -> bool:
    """Has it a decision rule of its own (``harness.api.Streaming``), so that no prefix length is its?"""
    return hasattr(plugin.pruner, "decide")


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


def _judge(
    settings: Settings,
    records: Sequence[tuple[Plugin, Record]],
    groups: Sequence[Sequence[Path]],
    unavailable: dict[str, str],
) -> list[tuple[Record, dict[str, Any]]]:
    """The missing row of every record for every problem's paths; a failure is a row that says why."""
    judged = []
    for plugin, record in records:
        for paths in groups:
            if _lacks(record, paths[0].problem):
                row = {"error": unavailable[plugin.name]} if plugin.name in unavailable else {}
                try:
                    row = row or (_decided if native(plugin) else _scored)(settings, plugin, paths)
                except ScoringError as error:
                    row = {"error": str(error)}
                    if isinstance(error.__cause__, UnavailableError):
                        unavailable[plugin.name] = str(error)
                judged.append((record, {"problem": paths[0].problem.id} | row))
    return judged


def _scored(settings: Settings, plugin: Plugin, paths: Sequence[Path]) -> dict[str, Any]:
    scores, cost = check(plugin.pruner, paths, settings.engine, settings.task, settings.seed)
    return {"scores": _short(scores), "cost": asdict(cost)}


def _decided(settings: Settings, plugin: Any, paths: Sequence[Path]) -> dict[str, Any]:
    decision, cost = decide(plugin.pruner, paths, settings.engine, settings.task, settings.seed)
    return {"spent": decision.spent.tolist(), "weights": _short(decision.weights), "cost": asdict(cost)}


def _short(values: np.ndarray) -> list[float]:
    """The shortest texts that read back as the same float32: replay selects by the very numbers a live run does."""
    return [float(str(v)) for v in values]


def _pool_row(task: Task, engine: Engine, paths: Sequence[Path]) -> dict[str, Any]:
    answers = [task.answer(p.text) for p in paths]
    problem = paths[0].problem
    return {
        "problem": problem.id,
        "prompt": engine.prompt_length(problem),
        "paths": digest({"tokens": [p.tokens for p in paths]}),
        "answers": answers,
        "correct": [int(task.correct(a, problem)) for a in answers],
        "lengths": [len(p.tokens) for p in paths],
        "stopped": [int(p.finish == "stop") for p in paths],
    }


def _failures(records: Sequence[tuple[Plugin, Record]], problems: Sequence[Problem]) -> dict[str, tuple[int, str]]:
    failures = {}
    for plugin, record in records:
        errors = [record.lines[p.id]["error"] for p in problems if "error" in record.lines.get(p.id, {})]
        if errors:
            failures[plugin.name] = (len(errors), errors[0])
    return failures
