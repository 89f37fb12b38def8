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
from harness.spec import Stage, schedule_text
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
        return ", ".join(filter(None, [schedule_text(self.n, self.stages), self.rule_name]))


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
    state, stages = _cut(pool, policy, checks, draws), len(policy.stages)
    if policy.rule is not None and order_of(policy.rule) == "parallel":
        return _side_by_side(state, policy.rule, stages)
    return _in_order(state, [state.paths.shape[2]], policy.rule, stages)[0]


def play_keeps(
    pool: Pool, policy: Policy, keeps: Sequence[int], checks: Sequence[Checks], draws: int = DRAWS
) -> list[Played]:
    """``play`` where the last stage keeps each of ``keeps``: ranked, drawn, and walked once for all of them.

    For no rule and for sequential ones, which see the same paths in the same order however many are kept.
    """
    last = policy.stages[-1]._replace(keep=max(keeps))
    state = _cut(pool, Policy(policy.n, (*policy.stages[:-1], last)), checks, draws)
    return _in_order(state, keeps, policy.rule, len(policy.stages))


def _cut(pool: Pool, policy: Policy, checks: Sequence[Checks], draws: int) -> _State:
    """What the stages of a policy leave, the best first."""
    state = _launched(pool, policy, draws)
    for number, (stage, check) in enumerate(zip(policy.stages, checks, strict=True)):
        end = check.end(stage)
        state.grow(np.minimum(state.of(pool.lengths), end if isinstance(end, int) else state.of(end)))
        once = check.once_tokens if number else 0.0  # the first check has paid it
        state.tokens += state.of(check.path_tokens).sum(2) + np.reshape(check.shared_tokens - once, (-1, 1))
        state.keep(_ranks(check), stage.keep)
    return state


def _in_order(state: _State, keeps: Sequence[int], rule: Any, stages: int) -> list[Played]:
    """Finish the first of the alive paths, so many of them, side by side or until a sequential rule stops."""
    rest = state.of(state.pool.lengths) - state.reached
    if rule is not None:
        seen, batch = _seen(state, rule, rest), batch_of(rule)
        return [_stopped(state, rest, np.minimum(seen, keep), batch, stages) for keep in keeps]
    tokens, serial = rest.cumsum(2), np.maximum.accumulate(rest, axis=2)
    votes = votes_right(state.pool, slice(None), state.paths, keeps)
    rounds = np.full(rest.shape[:2], 1 + stages)
    spent = ((state.tokens + tokens[:, :, k - 1], state.serial + serial[:, :, k - 1]) for k in keeps)
    return [_means(voted, *costs, rounds) for voted, costs in zip(votes, spent, strict=True)]


def _means(*of_draws: np.ndarray) -> Played:
    """Votes, tokens, serial tokens and rounds ``[Q, R]`` as means over the draws."""
    return Played(*(np.asarray(values, float).mean(1) for values in of_draws))


def _answers(state: _State) -> list[list[list[Any]]]:
    """The answers of alive paths, None where there is none."""
    codes = state.of(state.pool.answers)
    coded = codes.astype(object)
    coded[codes < 0] = None
    answers: list[list[list[Any]]] = coded.tolist()
    return answers


def _seen(state: _State, rule: Any, rest: np.ndarray) -> np.ndarray:
    """How many paths have finished when a sequential rule stops, int ``[Q, R]``."""
    ends = finishing(rule, rest[0, 0])[1]
    return np.array([[enough(rule, draw, ends) for draw in problem] for problem in _answers(state)])


def _stopped(state: _State, rest: np.ndarray, seen: np.ndarray, batch: int, stages: int) -> Played:
    """The first ``seen`` alive paths finish, ``batch`` at a time."""
    finished = np.arange(rest.shape[2]) < seen[:, :, None]
    added = rest * finished
    longest = np.maximum.reduceat(added, np.arange(0, rest.shape[2], batch), axis=2)
    voting = np.zeros((*rest.shape[:2], state.pool.n), dtype=bool)
    np.put_along_axis(voting, state.paths, finished, 2)
    rounds = stages + -(-seen // batch)
    voted = vote_correct(state.pool, voting)
    return _means(voted, state.tokens + added.sum(2), state.serial + longest.sum(2), rounds)


def _side_by_side(state: _State, rule: Any, stages: int) -> Played:
    """All alive paths run at once, and the rule stops those that still do."""
    rest, answers = state.of(state.pool.lengths) - state.reached, _answers(state)
    voting = np.zeros((*rest.shape[:2], state.pool.n), dtype=bool)
    last = np.zeros(rest.shape[:2], dtype=int)
    for q, r in np.ndindex(*rest.shape[:2]):
        order, ends = finishing(rule, rest[q, r])
        seen = enough(rule, [answers[q][r][i] for i in order], ends)
        voting[q, r, state.paths[q, r, order[:seen]]] = True
        last[q, r] = rest[q, r, order[seen - 1]]
    tokens = state.tokens + np.minimum(rest, last[:, :, None]).sum(2)
    return _means(vote_correct(state.pool, voting), tokens, state.serial + last, np.full(rest.shape[:2], 1 + stages))


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
