"""Launch -> Check -> Resume -> Vote for one problem. The engine may be live or banked: the code is the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from harness import grading
from harness.api import ASKED, Check, Cost, Decision, Engine, Path, PathpruneError, Problem, Pruner, Streaming, Task
from harness.ledger import Metered, MeteredProbe
from harness.reader import open_reader
from harness.rng import generator
from harness.vote import vote

Ended = Literal["count", "bypass"]
STAGES = ("launch", "check", "resume")  # that a live run times


class ScoringError(Exception):
    """A method failed on one problem: it becomes an error record, never a score.

    ``__cause__`` is what it raised, if it raised."""


@dataclass(frozen=True)
class Plan:
    """N paths, cut at ``prefix`` tokens, ``keep`` of them finished to at most ``max_tokens``."""

    n: int
    keep: int
    prefix: int
    max_tokens: int
    seed: int = 0
    ended: Ended = "count"
    vote: str = "majority"


@dataclass(frozen=True)
class Outcome:
    """What came of one problem: ``finished`` and ``answers`` of the paths ``kept``, ``seconds`` of Launch, Check, Resume."""

    scores: np.ndarray
    kept: tuple[int, ...]
    finished: tuple[Path, ...]
    answers: tuple[str | None, ...]
    voted: str | None
    cost: Cost
    seconds: tuple[float, float, float]


def prune(problem: Problem, task: Task, engine: Engine, pruner: Pruner, plan: Plan) -> Outcome:
    """One problem, end to end; every token is charged to the outcome's cost."""
    ledger = Check(np.random.default_rng())
    meter = Metered(engine, ledger)
    clock = [time.perf_counter()]
    prefixes = meter.launch([problem], plan.n, plan.prefix, plan.seed)[0]
    clock.append(time.perf_counter())
    scores, spent = check(pruner, prefixes, engine, task, plan.seed)
    clock.append(time.perf_counter())
    kept = select(scores, [p.finish == "stop" for p in prefixes], plan.keep, plan.ended)
    finished = meter.resume([prefixes[i] for i in kept], plan.max_tokens)
    clock.append(time.perf_counter())
    answers = tuple(grading.answer(task, p) for p in finished)
    try:
        voted = vote(plan.vote, answers, scores[list(kept)])
    except PathpruneError as error:  # a vote that these scores do not allow
        raise ScoringError(reason(error)) from error
    launch, checked, resume = np.diff(clock).tolist()
    return Outcome(scores, kept, tuple(finished), answers, voted, ledger.cost + spent, (launch, checked, resume))


def check(pruner: Pruner, prefixes: Sequence[Path], engine: Any, task: Task, seed: int) -> tuple[np.ndarray, Cost]:
    """Scores of one problem's prefixes, float32 ``[n]`` as records hold them, and what scoring them cost.

    The pruner sees only the signals it declared. Whatever it raises, a wrong count or a value that is not finite
    is a ``ScoringError`` that says so.
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
    return scores, ledger.cost


def decide(method: Streaming, paths: Sequence[Path], engine: Any, task: Task, seed: int) -> tuple[Decision, Cost]:
    """What a method's own rule does to one problem's finished paths, and what it cost besides generating them."""
    ledger, seen = opened(method, paths, engine, task, seed)
    try:
        made = method.decide(seen, ledger)
        decision = Decision(np.asarray(made.spent, dtype=int), np.asarray(made.weights, dtype=np.float32))
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


def reason(error: Exception) -> str:
    """One line; a user's mistake already reads as one."""
    text = str(error) if isinstance(error, PathpruneError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def opened(
    method: Pruner | Streaming, paths: Sequence[Path], engine: Any, task: Task, seed: int
) -> tuple[Check, list[Path]]:
    """A fresh ledger with what the method may touch, and the paths as it may see them."""
    ledger = Check(generator(seed, paths[0].problem.id, type(method).__name__))
    equip(ledger, method, engine, task)
    if method.needs & ASKED:
        ledger.engine = MeteredProbe(engine, ledger, method.needs)
    return ledger, [_declared(p, method.needs) for p in paths]


def equip(ledger: Check, method: Any, engine: Any, task: Task) -> None:
    """What a method that needs text may use besides."""
    if "text" in method.needs:
        ledger.answer, ledger.closing, ledger.step = task.answer, task.defaults.closing, task.defaults.step
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
