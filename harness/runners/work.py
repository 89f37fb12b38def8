"""The work of a bench, apart from its records: sample what is missing of some problems' pools, and score their prefixes.

A ``Worker`` holds an engine and pruners and takes jobs; who runs it, in this process or on other machines, is a crew.
A path depends on nothing but its own random stream, so neither does a result depend on who worked on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from harness import grading
from harness.api import Engine, Path, Problem, Task, UnavailableError
from harness.loop import ScoringError, check, decide
from harness.pools.bank import Banked
from harness.registry import Plugin
from harness.store.keys import digest


@dataclass(frozen=True)
class Terms:
    """N paths of at most ``max_tokens``, scored at ``prefix`` tokens."""

    n: int
    prefix: int
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class Job:
    """Some problems, what is ``stored`` of their pools, and by method which of them it has not scored yet."""

    problems: tuple[Problem, ...]
    stored: Mapping[str, list[Path]]
    lacking: Mapping[str, frozenset[str]]


@dataclass
class Finished:
    """Rows for the pool record and for each method's record, and the pools that are ``fresh`` for the bank."""

    pool: list[dict[str, Any]]
    judged: dict[str, list[dict[str, Any]]]
    fresh: list[list[Path]]
    sampled: int


@dataclass
class Held:
    """A bank in memory: what a job brought, and what its worker adds."""

    pools: dict[str, list[Path]]
    fresh: dict[str, list[Path]] = field(default_factory=dict)

    def get(self, problem: Problem, seed: int) -> list[Path]:
        return self.pools.get(problem.id, [])

    def put(self, problem: Problem, paths: Sequence[Path]) -> None:
        self.pools[problem.id] = self.fresh[problem.id] = list(paths)


@dataclass
class Worker:
    task: Task
    engine: Any
    plugins: Sequence[Plugin]
    terms: Terms
    unavailable: dict[str, str] = field(default_factory=dict)  # by name, why a method is not tried again

    def run(self, job: Job) -> Finished:
        bank, terms = Held(dict(job.stored)), self.terms
        engine = Banked(self.engine, bank, terms.max_tokens)
        prefixes = engine.launch(job.problems, terms.n, terms.prefix, terms.seed)
        judged = {p.name: self._judge(p, prefixes, job) for p in self.plugins if not native(p)}
        finished = engine.finish(prefixes)
        judged |= {p.name: self._judge(p, finished, job) for p in self.plugins if native(p)}
        rows = [_pool_row(self.task, self.engine, paths) for paths in finished]
        return Finished(rows, judged, list(bank.fresh.values()), engine.sampled)

    def _judge(self, plugin: Plugin, groups: Sequence[Sequence[Path]], job: Job) -> list[dict[str, Any]]:
        """A row for every problem that lacks one; a failure is a row that says why."""
        rows = []
        for paths in groups:
            name = paths[0].problem.id
            if name not in job.lacking[plugin.name]:
                continue
            row = {"error": self.unavailable[plugin.name]} if plugin.name in self.unavailable else {}
            try:
                row = row or (self._decided if native(plugin) else self._scored)(plugin, paths)
            except ScoringError as error:
                row = {"error": str(error)}
                if isinstance(error.__cause__, UnavailableError):
                    self.unavailable[plugin.name] = str(error)
            rows.append({"problem": name} | row)
        return rows

    def _scored(self, plugin: Plugin, paths: Sequence[Path]) -> dict[str, Any]:
        scores, cost = check(plugin.pruner, paths, self.engine, self.task, self.terms.seed)
        return {"scores": _short(scores), "cost": asdict(cost)}

    def _decided(self, plugin: Any, paths: Sequence[Path]) -> dict[str, Any]:
        decision, cost = decide(plugin.pruner, paths, self.engine, self.task, self.terms.seed)
        return {"spent": decision.spent.tolist(), "weights": _short(decision.weights), "cost": asdict(cost)}


Crew = Callable[[Worker, Iterable[Job]], Iterator[Finished]]


def alone(worker: Worker, jobs: Iterable[Job]) -> Iterator[Finished]:
    """One worker, in this process."""
    return map(worker.run, jobs)


def native(plugin: Plugin) -> bool:
    """Has it a decision rule of its own (``harness.api.Streaming``), so that no prefix length is its?"""
    return hasattr(plugin.pruner, "decide")


def _short(values: np.ndarray) -> list[float]:
    """The shortest texts that read back as the same float32: replay selects by the very numbers a live run does."""
    return [float(str(v)) for v in values]


def _pool_row(task: Task, engine: Engine, paths: Sequence[Path]) -> dict[str, Any]:
    answers = [grading.answer(task, p) for p in paths]
    problem = paths[0].problem
    return {
        "problem": problem.id,
        "prompt": engine.prompt_length(problem),
        "paths": digest({"tokens": [p.tokens for p in paths]}),
        "answers": answers,
        "correct": [int(task.correct(a, problem)) for a in answers],
        "lengths": [len(p.tokens) for p in paths],
        "stopped": [int(grading.ended(task, p)) for p in paths],
    }
