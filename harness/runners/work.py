"""The computation of a bench, without its records: sample missing paths of some problems, and score their prefixes.

A ``Worker`` has an engine and pruners and processes jobs; a crew runs workers, in this process or on other machines. A path
depends only on its random stream, so results do not depend on the worker.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from harness import grading
from harness.api import Check, Engine, Path, Problem, Task, UnavailableError
from harness.imports.tokens import Tokens, content
from harness.ledger import columns, kinds_of, per_path
from harness.loop import ScoringError, Spent, check, decide, placed
from harness.places import Placer
from harness.plugins.declared import Plugin
from harness.pools.bank import Banked
from harness.spec import Cut, RunSpec
from harness.store.keys import digest

WHOLE = 0  # the prefix length of decision rules, which see whole paths
Scoring = tuple[str, int]  # a method's name and a prefix length


@dataclass(frozen=True)
class Job:
    """Some problems, their ``stored`` paths, and for each check the problems on which it is missing."""

    problems: tuple[Problem, ...]
    stored: Mapping[str, list[Path]]
    lacking: Mapping[Scoring, frozenset[str]]


@dataclass
class Finished:
    """Rows for the pool's record and for each check's record, and ``fresh`` paths for the bank."""

    pool: list[dict[str, Any]]
    judged: dict[Scoring, list[dict[str, Any]]]
    fresh: list[list[Path]]
    sampled: int


@dataclass
class Held:
    """A bank in memory: the paths of a job and those that its worker adds."""

    pools: dict[str, list[Path]]
    fresh: dict[str, list[Path]] = field(default_factory=dict)

    def get(self, problem: Problem, seed: int) -> list[Path]:
        """The paths of a problem, in index order."""
        return self.pools.get(problem.id, [])

    def put(self, problem: Problem, paths: Sequence[Path]) -> None:
        """Store the paths of a problem, and mark them as new."""
        self.pools[problem.id] = self.fresh[problem.id] = list(paths)


@dataclass(frozen=True, eq=False)
class Prefixes:
    """One problem's paths to score, the cost of finding their places, and the row's entries on the places."""

    paths: Sequence[Path]
    placing: Check = field(default_factory=lambda: Check(np.random.default_rng()))
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Worker:
    """Samples and scores jobs with one engine and some pruners; a method found unavailable is not tried again."""

    task: Task
    engine: Any
    plugins: Sequence[Plugin]
    spec: RunSpec
    time_limit: float | None = None  # seconds that a method may take for one problem
    unavailable: dict[str, str] = field(default_factory=dict)  # by name, why a method is not tried again

    def run(self, job: Job) -> Finished:
        """Compute the prefixes at every stage, their scores, and the finished paths."""
        held, spec = Held(dict(job.stored)), self.spec
        engine = Banked(self.engine, held, spec.limit)
        judged: dict[Scoring, list[dict[str, Any]]] = {}
        groups = engine.launch(job.problems, spec.n, spec.prefixes[0], spec.seed)
        scoring = [p for p in self.plugins if not p.traits.decides]
        for cut in spec.cuts:
            if cut.at != "token" and not any(job.lacking[p.name, cut.prefix] for p in scoring):
                continue  # the places are known, and finding them again would cost tokens
            groups, prefixes = self._placed(cut, groups, engine)
            judged |= {(p.name, cut.prefix): self._judge(p, cut.prefix, prefixes, job) for p in scoring}
        finished = engine.finish(groups)
        whole = [Prefixes(paths) for paths in finished]
        deciding = [p for p in self.plugins if p.traits.decides]
        judged |= {(p.name, WHOLE): self._judge(p, WHOLE, whole, job) for p in deciding}
        rows = [_pool_row(self.task, self.engine, paths) for paths in finished]
        return Finished(rows, judged, list(held.fresh.values()), engine.sampled)

    def _placed(
        self, cut: Cut, groups: Sequence[list[Path]], engine: Banked
    ) -> tuple[list[list[Path]], list[Prefixes]]:
        """Each problem's paths, generated as far as a cut requires, and their prefixes up to their places."""
        placer = Placer(self.task, self.engine)
        reached = placer.reach(cut, [p for group in groups for p in group], engine.resume)
        grown, cuts, places = iter(reached.grown), iter(reached.prefixes(self.engine.decode)), iter(reached.places)
        longer, prefixes = list[list[Path]](), list[Prefixes]()
        for group in groups:
            longer.append([next(grown) for _ in group])
            row: dict[str, Any] = {
                "places": [next(places) for _ in group],
                "reached": [len(p.tokens) for p in longer[-1]],
            }
            placing = placer.spent(group[0].problem.id)
            prefixes.append(Prefixes([next(cuts) for _ in group], placing, row if cut.at != "token" else {}))
        return longer, prefixes

    def _judge(self, plugin: Plugin, prefix: int, groups: Sequence[Prefixes], job: Job) -> list[dict[str, Any]]:
        """A row for every problem without one; a failure becomes an error row."""
        rows = []
        for group in groups:
            name = group.paths[0].problem.id
            if name not in job.lacking[plugin.name, prefix]:
                continue
            row = {"error": self.unavailable[plugin.name]} if plugin.name in self.unavailable else {}
            try:
                row = row or (self._decided if plugin.traits.decides else self._scored)(plugin, group)
            except ScoringError as error:
                row = {"error": str(error)}
                if isinstance(error.__cause__, UnavailableError):
                    self.unavailable[plugin.name] = str(error)
            rows.append({"problem": name} | row)
        return rows

    def _scored(self, plugin: Plugin, group: Prefixes) -> dict[str, Any]:
        """A row of scores and cost, with the cost per path if the method is pointwise."""
        paths = group.paths
        scores, spent = check(plugin.pruner, paths, self.engine, self.task, self.spec.seed, self.time_limit)
        spent = placed(spent, group.placing)
        row = {"scores": _short(scores), **group.row, "cost": asdict(spent.cost)}
        return row | _shares(spent, paths, plugin.traits.pointwise)

    def _decided(self, plugin: Plugin, group: Prefixes) -> dict[str, Any]:
        paths = group.paths
        decision, spent = decide(
            plugin.pruner, paths, self.engine, self.task, self.spec.seed, self.time_limit, plugin.scores_by
        )
        row = {"spent": decision.spent.tolist(), "weights": _short(decision.weights), "cost": asdict(spent.cost)}
        return row | _shares(spent, paths, False)


def _shares(spent: Spent, paths: Sequence[Path], pointwise: bool) -> dict[str, Any]:
    """The cost per path of a pointwise Check, and its token count without sharing."""
    row: dict[str, Any] = {"each": columns(spent.each, paths)} if pointwise else {}
    if pointwise and (once := kinds_of(spent.once)):
        row["once"] = once
    if spent.cold is not None:
        row["cold"] = spent.cold
        if pointwise and spent.cold == sum(spent.cold_each.values()):
            row["cold_each"] = per_path(spent.cold_each, paths)
    return row


Jobs = Iterator[Job | None]  # None: other processes are working on all remaining problems
Crew = Callable[[Worker, Jobs], Iterator[Finished]]
PATIENCE = 0.5  # seconds between two looks at the progress of other processes


def alone(worker: Worker, jobs: Jobs) -> Iterator[Finished]:
    """One worker, in this process."""
    for job in jobs:
        if job is None:
            time.sleep(PATIENCE)
        else:
            yield worker.run(job)


def _short(values: np.ndarray) -> list[float]:
    """Floats whose shortest decimal text gives the same float32, so replay selects by exactly the numbers of a live run."""
    return [float(str(v)) for v in values]


def _statistics(paths: Sequence[Path]) -> str:
    """Digest of the token statistics of some paths."""
    known = [(n, getattr(p.stats, n)) for p in paths if p.stats is not None for n in p.stats.known]
    return digest({"statistics": [(name, hashlib.sha256(values.tobytes()).hexdigest()) for name, values in known]})


def _content(paths: Sequence[Path]) -> str:
    """Digest of the tokens of some paths; of imported ones, which may have no ids, of what stands in their place."""
    given = {"given": [p.given for p in paths]} if any(p.given for p in paths) else {}
    if any(isinstance(p.tokens, Tokens) for p in paths):
        return digest({"contents": [content(p.tokens) for p in paths]} | given)
    return digest({"tokens": [p.tokens for p in paths]} | given)


def _pool_row(task: Task, engine: Engine, paths: Sequence[Path]) -> dict[str, Any]:
    judged = [grading.judged(task, p) for p in paths]
    problem = paths[0].problem
    return {
        "problem": problem.id,
        "prompt": engine.prompt_length(problem),
        "paths": _content(paths),
        "stats": _statistics(paths),
        "answers": [answer for answer, _ in judged],
        "correct": [int(right) for _, right in judged],
        "lengths": [p.drawn for p in paths],
        "stopped": [int(grading.ended(task, p)) for p in paths],
    } | _given(paths)


def _given(paths: Sequence[Path]) -> dict[str, Any]:
    """The row's entry on given tokens, if any: pairs (sampled tokens before, number given) for each path."""
    spans = [[[start - before, stop - start] for before, (start, stop) in _behind(p)] for p in paths]
    return {"given": spans} if any(spans) else {}


def _behind(path: Path) -> Iterator[tuple[int, tuple[int, int]]]:
    """Spans of given tokens, each with the number of given tokens before it."""
    before = 0
    for start, stop in path.given:
        yield before, (start, stop)
        before += stop - start
