"""Policies replayed: launch n paths, cut them at some places by one method's scores, finish survivors until a rule says enough.

A smaller launch is a random n of the pool's N paths, so what a policy gives is a mean over draws, the same ones for every
policy. Where all N are launched and nothing else is random, there is one draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.replay.pool import Pool, vote_correct, votes_right
from harness.replay.stages import Checks
from harness.replay.sweep import orders, ranks_of
from harness.spec import Stage
from harness.stopping import batch_of, enough, finishing, order_of

DRAWS = 16


@dataclass(frozen=True, eq=False)
class Policy:
    """``n`` paths, ``stages`` of cuts (none: nothing is cut), and a stopping ``rule`` among those that are left (None: all finish)."""

    n: int
    stages: tuple[Stage, ...] = ()
    rule: Any = None
    rule_name: str = ""

    def __str__(self) -> str:
        """``64 -> 8 at 22, asc:threshold=0.95``"""
        cuts = " -> ".join([str(self.n), *(f"{s.keep} at {s.prefix}" for s in self.stages)])
        return ", ".join(filter(None, [cuts, self.rule_name]))


@dataclass(frozen=True, eq=False)
class Played:
    """What a policy gives and costs, float ``[Q]`` each: means over draws."""

    voted: np.ndarray  # is the majority of the finished paths right
    tokens: np.ndarray  # all of them, the Checks' included
    serial: np.ndarray  # generated tokens on the longest chain that must come one after another
    rounds: np.ndarray  # how often generation has to wait for a decision, and the first start


@dataclass(eq=False)
class _State:
    """Paths that are still alive in every draw of every problem, and what was spent on the way, ``[Q, R, ...]``."""

    pool: Pool
    paths: np.ndarray  # int [Q, R, m]
    reached: np.ndarray  # int [Q, R, m] tokens that each has
    tokens: np.ndarray  # float [Q, R]
    serial: np.ndarray  # int [Q, R]

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values of the alive paths, of ``[Q, N]``."""
        problems, draws, paths = self.paths.shape
        return np.take_along_axis(values, self.paths.reshape(problems, -1), 1).reshape(problems, draws, paths)

    def grow(self, ends: np.ndarray) -> None:
        """Generate all alive paths at once, to these lengths."""
        self.tokens = self.tokens + (ends - self.reached).sum(2)
        self.serial = self.serial + (ends - self.reached).max(2)
        self.reached = ends

    def keep(self, ranks: np.ndarray, count: int) -> None:
        """Let the ``count`` best go on, the best first; ``ranks`` ``[Q, N]``, 0 for the best."""
        best = np.argsort(self.of(ranks), axis=2)[:, :, :count]
        self.paths, self.reached = (np.take_along_axis(a, best, 2) for a in (self.paths, self.reached))


def play(pool: Pool, policy: Policy, checks: Sequence[Checks] = (), draws: int = DRAWS) -> Played:
    """Replay a policy; ``checks`` are a method's scores on the whole pool at each of its stages' prefix lengths."""
    state = _cut(pool, policy, checks, draws)
    if policy.rule is None:
        return _finished(state, [state.paths.shape[2]], len(policy.stages))[0]
    voted, rounds = _until_enough(state, policy.rule)
    rounds = rounds + len(policy.stages)
    return Played(*(np.asarray(a, float).mean(1) for a in (voted, state.tokens, state.serial, rounds)))


def play_keeps(
    pool: Pool, n: int, stages: Sequence[Stage], keeps: Sequence[int], checks: Sequence[Checks], draws: int = DRAWS
) -> list[Played]:
    """``play`` without a rule, where the last stage keeps each of ``keeps``: ranked and drawn once for all of them."""
    last = Stage(stages[-1].prefix, max(keeps))
    state = _cut(pool, Policy(n, (*stages[:-1], last)), checks, draws)
    return _finished(state, keeps, len(stages))


def _cut(pool: Pool, policy: Policy, checks: Sequence[Checks], draws: int) -> _State:
    """What the stages of a policy leave, the best first."""
    state = _launched(pool, policy, draws)
    for number, (stage, check) in enumerate(zip(policy.stages, checks, strict=True)):
        state.grow(np.minimum(state.of(pool.lengths), stage.prefix))
        once = check.once_tokens if number else 0.0  # the first check has paid it
        state.tokens += state.of(check.path_tokens).sum(2) + np.reshape(check.shared_tokens - once, (-1, 1))
        state.keep(_ranks(check), stage.keep)
    return state


def _finished(state: _State, keeps: Sequence[int], stages: int) -> list[Played]:
    """Finish the first of the alive paths, so many of them."""
    rest = state.of(state.pool.lengths) - state.reached
    tokens, serial = rest.cumsum(2), np.maximum.accumulate(rest, axis=2)
    votes = votes_right(state.pool, slice(None), state.paths, keeps)
    rounds = np.full(len(rest), 1.0 + stages)
    return [
        Played(
            voted.mean(1),
            (state.tokens + tokens[:, :, keep - 1]).mean(1),
            (state.serial + serial[:, :, keep - 1]).mean(1),
            rounds,
        )
        for keep, voted in zip(keeps, votes, strict=True)
    ]


def _launched(pool: Pool, policy: Policy, draws: int) -> _State:
    if not 1 <= policy.n <= pool.n:
        raise ValueError(f"{policy.n} of {pool.n} paths cannot be launched")
    is_drawn = policy.n < pool.n or (policy.rule is not None and not policy.stages)
    launched = orders(pool.n, draws)[:, : policy.n] if is_drawn else np.arange(pool.n)[None]
    paths = np.broadcast_to(launched, (len(pool.problems), *launched.shape))
    zeros = np.zeros(paths.shape[:2], dtype=int)
    return _State(pool, paths, np.zeros(paths.shape, dtype=int), zeros.astype(float), zeros)


def _ranks(check: Checks) -> np.ndarray:
    """0 for the best, ties to the lower index, int ``[Q, N]``; ranked once for all policies."""
    if "_ranks" not in check.__dict__:
        check.__dict__["_ranks"] = ranks_of(check.scores)
    ranks: np.ndarray = check.__dict__["_ranks"]
    return ranks


def _until_enough(state: _State, rule: Any) -> tuple[np.ndarray, np.ndarray]:
    """Finish alive paths until the rule stops: (is the vote right, rounds of generation), ``[Q, R]`` each."""
    pool = state.pool
    rest = state.of(pool.lengths) - state.reached
    codes = state.of(pool.answers)
    coded = codes.astype(object)
    coded[codes < 0] = None
    answers = coded.tolist()
    ask = _in_sequence if order_of(rule) == "sequential" else _side_by_side
    voting = np.zeros((*rest.shape[:2], pool.n), dtype=bool)
    rounds = np.ones(rest.shape[:2], dtype=int)
    for q, r in np.ndindex(*rest.shape[:2]):
        finished, tokens, serial, rounds[q, r] = ask(rule, answers[q][r], rest[q, r])
        voting[q, r, state.paths[q, r, finished]] = True
        state.tokens[q, r] += tokens
        state.serial[q, r] += serial
    return vote_correct(pool, voting), rounds


def _in_sequence(rule: Any, answers: Sequence[Any], rest: np.ndarray) -> tuple[np.ndarray, int, int, int]:
    """(finished paths, tokens spent, the longest of each batch in all, batches) of one problem, batch after batch."""
    batch = batch_of(rule)
    order, ends = finishing(rule, rest)
    seen = enough(rule, answers, ends)
    starts = np.arange(0, seen, batch)
    return order[:seen], int(rest[:seen].sum()), int(np.maximum.reduceat(rest[:seen], starts).sum()), len(starts)


def _side_by_side(rule: Any, answers: Sequence[Any], rest: np.ndarray) -> tuple[np.ndarray, int, int, int]:
    """The same where all paths run at once and the rule stops those that still do."""
    order, ends = finishing(rule, rest)
    seen = enough(rule, [answers[i] for i in order], ends)
    last = int(rest[order[seen - 1]])
    return order[:seen], int(np.minimum(rest, last).sum()), last, 1
