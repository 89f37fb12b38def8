"""Launch -> Check -> Resume -> Vote for one problem. The engine may be live or banked: the code is the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from harness import grading
from harness.api import ASKED, Check, Cost, Decision, Engine, Path, PathpruneError, Problem, Pruner, Streaming, Task
from harness.ledger import Metered, MeteredProbe
from harness.reader import open_reader
from harness.rng import generator
from harness.spec import Ended as Ended
from harness.spec import RunSpec
from harness.text import reason
from harness.vote import vote

Result = TypeVar("Result")
STAGES = ("launch", "check", "resume")  # that a live run times


class ScoringError(Exception):
    """A method failed on one problem: it becomes an error record, never a score.

    ``__cause__`` is what it raised, if it raised."""


@dataclass(frozen=True, eq=False)
class Round:
    """One stage of one problem: which paths were scored (indices ``[m]``), their scores ``[m]``, and which went on."""

    scored: tuple[int, ...]
    scores: np.ndarray
    kept: tuple[int, ...]
    cost: Cost


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one problem. ``finished`` and ``answers`` are of the paths ``kept``; ``seconds`` of Launch, Check, Resume."""

    rounds: tuple[Round, ...]
    finished: tuple[Path, ...]
    answers: tuple[str | None, ...]
    voted: str | None
    cost: Cost
    seconds: tuple[float, float, float]

    @property
    def kept(self) -> tuple[int, ...]:
        """Indices of the paths that were finished, ascending."""
        return self.rounds[-1].kept

    @property
    def scores(self) -> dict[int, float]:
        """The last score of each path that was scored, by its index."""
        return {i: float(s) for r in self.rounds for i, s in zip(r.scored, r.scores, strict=True)}


def prune(problem: Problem, task: Task, engine: Engine, pruner: Pruner, spec: RunSpec) -> Outcome:
    """One problem, end to end: launch -> (check, keep)* -> resume -> vote; every token is charged to the outcome's cost."""
    ledger = Check(np.random.default_rng())
    meter = Metered(engine, ledger)
    clock = Stopwatch()
    alive = clock.time("launch", lambda: meter.launch([problem], spec.n, spec.prefixes[0], spec.seed)[0])
    rounds: list[Round] = []
    for stage in spec.stages:
        if rounds:
            alive = clock.time("resume", partial(meter.resume, alive, stage.prefix))
        scores, spent = clock.time("check", partial(check, pruner, alive, engine, task, spec.seed))
        on = select(scores, [p.finish == "stop" for p in alive], stage.keep, spec.ended)
        scored = tuple(p.index for p in alive)
        alive, scores_on = [alive[i] for i in on], scores[list(on)]
        rounds.append(Round(scored, scores, tuple(p.index for p in alive), spent.cost))
    finished = clock.time("resume", partial(meter.resume, alive, spec.limit))
    answers = tuple(grading.answer(task, p) for p in finished)
    try:
        voted = vote(spec.vote, answers, scores_on)
    except PathpruneError as error:  # a vote that these scores do not allow
        raise ScoringError(reason(error)) from error
    cost = sum((r.cost for r in rounds), ledger.cost)
    return Outcome(tuple(rounds), tuple(finished), answers, voted, cost, clock.seconds)


class Stopwatch:
    """Seconds of each of STAGES, added up."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(STAGES, 0.0)

    def time(self, stage: str, work: Callable[[], Result]) -> Result:
        """Do the work and add what it took."""
        began = time.perf_counter()
        done = work()
        self.spent[stage] += time.perf_counter() - began
        return done

    @property
    def seconds(self) -> tuple[float, float, float]:
        """In the order of STAGES."""
        launch, check, resume = self.spent.values()
        return launch, check, resume


@dataclass(frozen=True)
class Spent:
    """What a Check cost: in all, and by path index what of it belongs to single paths."""

    cost: Cost
    each: Mapping[int, Cost]


def check(pruner: Pruner, prefixes: Sequence[Path], engine: Any, task: Task, seed: int) -> tuple[np.ndarray, Spent]:
    """Scores of one problem's prefixes, float32 ``[n]`` as records hold them, and what scoring them cost.

    The pruner sees only the signals it declared.

    Raises:
        ScoringError: whatever the pruner raises, a wrong count, or a value that is not finite.
    """
    ledger, seen = opened(pruner, prefixes, engine, task, seed)
    try:
        scores = np.asarray(pruner.score(seen, ledger), dtype=np.float32)
    except Exception as error:
        raise ScoringError(reason(error)) from error
    if scores.shape != (len(prefixes),):
        raise ScoringError(f"returned shape {scores.shape} for {len(prefixes)} prefixes")
    if not np.isfinite(scores).all():
        raise ScoringError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    return scores, Spent(ledger.cost, ledger.each)


def decide(method: Streaming, paths: Sequence[Path], engine: Any, task: Task, seed: int) -> tuple[Decision, Cost]:
    """What a method's own rule does to one problem's finished paths, and what it cost besides generating them."""
    ledger, seen = opened(method, paths, engine, task, seed)
    try:
        given = method.decide(seen, ledger)
        decision = Decision(np.asarray(given.spent, dtype=int), np.asarray(given.weights, dtype=np.float32))
    except Exception as error:
        raise ScoringError(reason(error)) from error
    lengths = np.array([len(p.tokens) for p in paths])
    if decision.spent.shape != lengths.shape or decision.weights.shape != lengths.shape:
        raise ScoringError(f"decided on {decision.spent.shape} and {decision.weights.shape} of {len(paths)} paths")
    if (decision.spent < 0).any() or (decision.spent > lengths).any():
        raise ScoringError("a path is said to have spent more tokens than it has, or fewer than none")
    warming = np.argsort(np.argsort([p.index for p in paths])) < method.warmup
    if (decision.spent < lengths)[warming].any():
        raise ScoringError(f"one of the first {method.warmup} paths, its warm-up, is aborted")
    if not np.isfinite(decision.weights).all() or (decision.weights < 0).any():
        raise ScoringError("a vote's weight is negative or not finite")
    if (decision.weights[decision.spent < lengths] > 0).any():
        raise ScoringError("an aborted path votes")
    return decision, ledger.cost


def opened(
    method: Pruner | Streaming, paths: Sequence[Path], engine: Any, task: Task, seed: int
) -> tuple[Check, list[Path]]:
    """A fresh ledger with what the method may touch, and the paths as it may see them."""
    ledger = Check(generator(seed, paths[0].problem.id, type(method).__name__))
    equip(ledger, method, engine, task)
    needs = frozenset(method.needs)
    if needs & ASKED:
        ledger.engine = MeteredProbe(engine, ledger, needs)
    return ledger, [_declared(p, needs) for p in paths]


def equip(ledger: Check, method: Any, engine: Any, task: Task) -> None:
    """What a method that needs text may use besides."""
    if "text" in method.needs:
        # A plain function: no attribute of what a method is handed is the task, which knows the gold answers.
        ledger.answer = lambda text: grading.read(task, text)
        ledger.closing, ledger.step = task.defaults.closing, task.defaults.step
        ledger.decode = lambda tokens: str(engine.decode(tokens))
        ledger.reader = partial(open_reader, ledger)


def _declared(path: Path, needs: frozenset[str]) -> Path:
    return replace(
        path,
        problem=replace(path.problem, answer=""),
        text=path.text if "text" in needs else "",
        stats=path.stats if "token_stats" in needs else None,
    )


def select(scores: np.ndarray, ended: Sequence[bool], keep: int, policy: Ended) -> tuple[int, ...]:
    """Indices kept, ascending: the ``keep`` highest scores, ties to the lower index.

    A path that ended inside its prefix is scored like the others ("count"), or votes unscored on top of the
    ``keep`` that are selected among the rest ("bypass", the rule of the official STOP code).
    """
    order = np.argsort(-scores, kind="stable")
    free = [int(i) for i in order if ended[i]] if policy == "bypass" else []
    rest = [int(i) for i in order if not (policy == "bypass" and ended[i])]
    return tuple(sorted(free + rest[:keep]))
