"""The conformance suite that ships: what any pruner, task or engine, yours or ours, must satisfy.

Each check yields (name, None) when it holds and (name, what is wrong) when it does not. ``pathprune check NAME`` runs
it from the command line; the test suite runs it on everything that is registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from harness.api import Check, Engine, Path, Pruner, Task
from harness.budget import Metered
from harness.loop import ScoringError, check

TOLERANCE = 1e-4  # the same prefix in another batch, fp32
PATHS = 8

Finding = tuple[str, str | None]


def conformance(pruner: Pruner, task: Task, engine: Any, prefix: int, seed: int = 0) -> Iterator[Finding]:
    """Check a pruner on two problems of the dev split."""
    max_tokens = task.defaults.max_tokens
    groups = engine.launch(task.problems("dev", 2), PATHS, prefix, seed)
    try:
        scores = [check(pruner, paths, engine, seed)[0] for paths in groups]
    except ScoringError as error:
        yield "scores every prefix with one finite number, from its declared signals alone", str(error)
        return
    yield "scores every prefix with one finite number, from its declared signals alone", None
    yield "is deterministic", _differs(scores[0], check(pruner, groups[0], engine, seed)[0])
    order = np.random.default_rng(seed).permutation(PATHS)
    shuffled = check(pruner, [groups[0][i] for i in order], engine, seed)[0]
    yield "permuting the prefixes permutes the scores", _differs(scores[0][order], shuffled)
    # Two futures of the same prefixes: whatever the engine or the pruner remembers of them must not show.
    cuts = [p.cut(prefix, engine.decode) for p in engine.resume(groups[0], max_tokens)]
    yield "text after the prefix changes nothing", _differs(scores[0], check(pruner, cuts, engine, seed)[0])
    if "hidden" in pruner.needs:
        yield "its engine calls are all charged", _unmetered(pruner, groups[0], engine)
        yield "probing leaves the continuation as it was", _disturbs(pruner, groups[0], engine, max_tokens, seed)


def _differs(one: np.ndarray, other: np.ndarray) -> str | None:
    worst = float(np.abs(one - other).max())
    return None if worst <= TOLERANCE * max(1.0, float(np.abs(one).max())) else f"scores differ by {worst:.2g}"


class _Counting:
    """Counts calls that reach the engine, and those that came through the meter."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.states = engine, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def probe(self, paths: Sequence[Path], adapter: Any = None) -> np.ndarray:
        states: np.ndarray = self._engine.probe(paths, adapter)
        self.states += states.shape[0] * states.shape[1]
        return states


def _unmetered(pruner: Pruner, prefixes: Sequence[Path], engine: Any) -> str | None:
    counting = _Counting(engine)
    spent = check(pruner, prefixes, counting, 0)[1]
    if spent.probed != counting.states or not spent.flops:
        return f"read {counting.states} states, was charged {spent.probed}"
    return None


def _disturbs(pruner: Pruner, prefixes: Sequence[Path], engine: Any, max_tokens: int, seed: int) -> str | None:
    before = [p.tokens for p in engine.resume(prefixes, max_tokens)]
    check(pruner, prefixes, engine, seed)
    after = [p.tokens for p in engine.resume(prefixes, max_tokens)]
    changed = sum(a != b for a, b in zip(before, after, strict=True))
    return f"{changed} of {len(before)} continuations changed" if changed else None


def engine_conformance(engine: Engine, task: Task, cuts: Sequence[int], seed: int = 0) -> Iterator[Finding]:
    """Check an engine: interruption, batch composition and the ledger change nothing."""
    problems = task.problems("dev", 3)
    max_tokens = task.defaults.max_tokens
    whole = engine.launch(problems, PATHS, max_tokens, seed)
    tokens = [[p.tokens for p in group] for group in whole]
    for cut in cuts:
        launched = engine.launch(problems, PATHS, cut, seed)
        resumed = engine.resume([p for group in launched for p in group], max_tokens)
        flat = [t for group in tokens for t in group]
        changed = sum(p.tokens != t for p, t in zip(resumed, flat, strict=True))
        yield f"launch to {cut} and resume is one uninterrupted sample", f"{changed} paths differ" if changed else None
    alone = engine.launch(problems[1:2], PATHS // 2, max_tokens, seed)[0]
    changed = sum(p.tokens != t for p, t in zip(alone, tokens[1], strict=False))
    yield "a path does not depend on its batch", f"{changed} paths differ" if changed else None
    ledger = Check(np.random.default_rng(0))
    Metered(engine, ledger).launch(problems, PATHS, max_tokens, seed)
    total = sum(len(t) for group in tokens for t in group)
    short = f"{ledger.cost.generated} of {total} tokens" if ledger.cost.generated != total else None
    yield "every generated token is in the ledger", short


def task_conformance(task: Task) -> Iterator[Finding]:
    """Check a task: stable, distinct problems whose own answer is graded right and vote-ready."""
    problems = task.problems("test", 20)
    yield "is the same every time", None if problems == task.problems("test", 20) else "two calls differ"
    yield "has distinct ids", None if len({p.id for p in problems}) == len(problems) else "an id repeats"
    shared = {p.prompt for p in problems} & {p.prompt for p in task.problems("label", 20)}
    yield "keeps its splits apart", f"{len(shared)} prompts shared" if shared else None
    wrong = [p.id for p in problems if not task.correct(p.answer, p)]
    yield "grades its own answers right", f"not for {wrong[0]}" if wrong else None
    yield "grades no answer wrong", "None is correct" if any(task.correct(None, p) for p in problems) else None
