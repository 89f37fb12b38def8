"""Replay policies: launch n paths, cut them at some places by one method's scores, finish survivors until a rule stops.

A smaller launch is a random subset of n of the pool's N paths. Results are means over draws, the same for every policy. If
all N paths are launched and nothing else is random, there is one draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.replay.pool import Pool, vote_correct, votes_right
from harness.replay.stages import Checks
from harness.replay.sweep import orders, ranks_of
from harness.spec import Ended, Stage, schedule_text
from harness.stopping import batch_of, enough, finishing, is_last, order_of

DRAWS = 16


@dataclass(frozen=True, eq=False)
class Policy:
    """``n`` launched paths, ``stages`` of cuts (empty: no cut), and a stopping ``rule`` for the survivors (None: all finish).

    ``ended``: whether a path that ended inside a prefix counts towards the number kept, or is kept in addition.
    """

    n: int
    stages: tuple[Stage, ...] = ()
    rule: Any = None
    rule_name: str = ""
    ended: Ended = "count"

    def __str__(self) -> str:
        """``64 -> 8 at 22, asc:threshold=0.95``"""
        return ", ".join(filter(None, [schedule_text(self.n, self.stages), self.rule_name]))


@dataclass(frozen=True, eq=False)
class Played:
    """Accuracy and cost of a policy, float ``[Q]`` each: means over draws."""

    voted: np.ndarray  # whether the majority vote of the finished paths is right
    tokens: np.ndarray  # all tokens, those of Checks included
    serial: np.ndarray  # generated tokens on the critical path
    rounds: np.ndarray  # rounds of parallel generation: the launch, and one after each decision that lets paths go on


@dataclass(eq=False)
class _State:
    """The surviving paths in R draws of Q problems, and the cost so far, ``[Q, R, ...]``.

    If numbers of survivors differ, the first ``count`` of a draw's m places are taken, and paths of the others are as if they had
    nothing left to generate.
    """

    pool: Pool
    paths: np.ndarray  # int [Q, R, m]
    reached: np.ndarray  # int [Q, R, m] tokens that each has
    tokens: np.ndarray  # float [Q, R]
    serial: np.ndarray  # int [Q, R]
    rounds: np.ndarray  # int [Q, R]
    count: np.ndarray  # int [Q, R]

    @property
    def taken(self) -> np.ndarray:
        """Which places hold a survivor, bool ``[Q, R, m]``."""
        return np.asarray(np.arange(self.paths.shape[2]) < self.count[:, :, None])

    def of(self, values: np.ndarray) -> np.ndarray:
        """Select the values of the surviving paths from ``[Q, N]``."""
        problems, draws, paths = self.paths.shape
        return np.take_along_axis(values, self.paths.reshape(problems, -1), 1).reshape(problems, draws, paths)

    def read(self, reached: np.ndarray) -> np.ndarray:
        """Given tokens of surviving paths before the last of their first ``reached`` sampled ones, ``[Q, R, m]``."""
        read = np.zeros_like(reached)
        for place, count in () if self.pool.given is None else np.moveaxis(self.pool.given, (2, 3), (0, 1)):
            read = read + self.of(count) * (self.of(place) < reached)
        return read

    def spends(self, ends: np.ndarray) -> np.ndarray:
        """Tokens, sampled and given, needed to continue to these lengths, ``[Q, R, m]``."""
        return np.asarray(ends - self.reached + self.read(ends) - self.read(self.reached))

    def grow(self, ends: np.ndarray) -> None:
        """Generate all surviving paths in parallel up to these lengths; longer ones stay as they are."""
        ends = np.maximum(ends, self.reached)
        longest = (ends - self.reached).max(2)
        self.tokens = self.tokens + self.spends(ends).sum(2)
        self.serial, self.rounds = self.serial + longest, self.rounds + (longest > 0)
        self.reached = ends

    def keep(self, ranks: np.ndarray, count: int) -> None:
        """Keep the ``count`` best paths, the best first; ``ranks`` ``[Q, N]``, 0 for the best."""
        self._choose(np.argsort(self.of(ranks), axis=2)[:, :, :count])
        self.count = np.full_like(self.count, self.paths.shape[2])

    def keep_beside(self, ranks: np.ndarray, count: int, ended: np.ndarray) -> None:
        """Keep the paths that have ``ended``, bool ``[Q, N]``, and the ``count`` best of the others, the best first."""
        self._choose(np.argsort(np.where(self.taken, self.of(ranks), self.pool.n), axis=2))
        free = self.of(ended)
        on = self.taken & (free | ((self.taken & ~free).cumsum(2) <= count))
        self.count = on.sum(2)
        self._choose(np.argsort(~on, axis=2, kind="stable")[:, :, : self.count.max(initial=1)])
        self.reached = np.where(self.taken, self.reached, self.of(self.pool.lengths))

    def _choose(self, places: np.ndarray) -> None:
        """Rearrange the paths by these places, ``[Q, R, k]``."""
        self.paths, self.reached = (np.take_along_axis(a, places, 2) for a in (self.paths, self.reached))


def play(pool: Pool, policy: Policy, checks: Sequence[Checks] = (), draws: int = DRAWS) -> Played:
    """Replay a policy; ``checks`` are a method's scores on the whole pool at each of its stages' prefix lengths."""
    state = _cut(pool, policy, checks, draws)
    if policy.rule is not None and order_of(policy.rule) == "parallel":
        return _side_by_side(state, policy.rule)
    if policy.ended == "bypass":
        return _as_many_as_are_left(state, policy.rule)
    return _in_order(state, [state.paths.shape[2]], policy.rule)[0]


def play_keeps(
    pool: Pool, policy: Policy, keeps: Sequence[int], checks: Sequence[Checks], draws: int = DRAWS
) -> list[Played]:
    """``play`` for several numbers kept at the last stage, with one ranking and one set of draws.

    A sequential rule is replayed once, because it sees the same paths in the same order however many are kept. A parallel
    rule is replayed for each number, and so are all policies if ended paths are kept in addition, which moves the others.
    """
    *earlier, last = policy.stages
    is_parallel = policy.rule is not None and order_of(policy.rule) == "parallel"
    if is_parallel or policy.ended == "bypass":
        each = (replace(policy, stages=(*earlier, last._replace(keep=keep))) for keep in keeps)
        return [play(pool, one, checks, draws) for one in each]
    most = replace(policy, stages=(*earlier, last._replace(keep=max(keeps))))
    return _in_order(_cut(pool, most, checks, draws), keeps, policy.rule)


def play_sizes(pool: Pool, rule: Any, sizes: Sequence[int], draws: int = DRAWS) -> list[Played]:
    """``play`` of a rule without a scorer for several numbers of paths.

    A sequential rule is replayed once, because a smaller launch is the start of a larger one.
    """
    if order_of(rule) == "parallel":
        return [play(pool, Policy(n, (), rule), (), draws) for n in sizes]
    return _in_order(_launched(pool, Policy(max(sizes), (), rule), draws), sizes, rule)


def _cut(pool: Pool, policy: Policy, checks: Sequence[Checks], draws: int) -> _State:
    """The survivors of a policy's stages, the best first."""
    state = _launched(pool, policy, draws)
    for number, (stage, check) in enumerate(zip(policy.stages, checks, strict=True)):
        end = check.end(stage)
        state.grow(np.minimum(state.of(pool.lengths), end if isinstance(end, int) else state.of(end)))
        once = check.once_tokens if number else 0.0  # paid by the first check
        spent = state.of(check.path_tokens) * state.taken
        state.tokens += spent.sum(2) + np.reshape(check.shared_tokens - once, (-1, 1))
        if policy.ended == "bypass":
            state.keep_beside(_ranks(check), stage.keep, check.ended(pool, stage))
        else:
            state.keep(_ranks(check), stage.keep)
    return state


def _in_order(state: _State, keeps: Sequence[int], rule: Any) -> list[Played]:
    """Finish the first k survivors for each k in ``keeps``, in parallel or until a sequential rule stops."""
    rest = state.of(state.pool.lengths) - state.reached
    if rule is not None:
        seen, batch = _seen(state, rule, rest), batch_of(rule)
        return [_stopped(state, rest, np.minimum(seen, keep), batch) for keep in keeps]
    tokens, serial = state.spends(state.reached + rest).cumsum(2), np.maximum.accumulate(rest, axis=2)
    votes = votes_right(state.pool, slice(None), state.paths, keeps)
    last = [(tokens[:, :, k - 1], serial[:, :, k - 1]) for k in keeps]
    return [
        _means(voted, state.tokens + more, state.serial + longest, state.rounds + (longest > 0))
        for voted, (more, longest) in zip(votes, last, strict=True)
    ]


def _as_many_as_are_left(state: _State, rule: Any) -> Played:
    """Finish all survivors, whose number differs between draws, in parallel or until a sequential rule stops."""
    rest, width = state.of(state.pool.lengths) - state.reached, state.paths.shape[2]
    if rule is None:
        return _stopped(state, rest, state.count, width)
    return _stopped(state, rest, _seen(state, rule, rest), batch_of(rule))


def _means(*of_draws: np.ndarray) -> Played:
    """Means over draws of votes, tokens, serial tokens and rounds, ``[Q, R]`` each."""
    return Played(*(np.asarray(values, float).mean(1) for values in of_draws))


def _answers(codes: np.ndarray) -> list[list[list[Any]]]:
    """Answers by code ``[Q, R, m]``, None for no answer."""
    coded = codes.astype(object)
    coded[codes < 0] = None
    answers: list[list[list[Any]]] = coded.tolist()
    return answers


def _seen(state: _State, rule: Any, rest: np.ndarray) -> np.ndarray:
    """Number of finished paths when a sequential rule stops, int ``[Q, R]``."""
    ends = {int(count): finishing(rule, rest[0, 0, :count])[1] for count in np.unique(state.count)}
    answers = _answers(state.of(state.pool.answers))
    each = zip(answers, state.count.tolist(), strict=True)
    return np.array(
        [[enough(rule, a[:m], ends[m]) for a, m in zip(problem, counts, strict=True)] for problem, counts in each]
    )


def _stopped(state: _State, rest: np.ndarray, seen: np.ndarray, batch: int) -> Played:
    """Finish the first ``seen`` survivors, ``batch`` at a time."""
    finished = np.arange(rest.shape[2]) < seen[:, :, None]
    added = rest * finished
    longest = np.maximum.reduceat(added, np.arange(0, rest.shape[2], batch), axis=2)
    voting = np.zeros((*rest.shape[:2], state.pool.n), dtype=bool)
    np.put_along_axis(voting, state.paths, finished, 2)
    voted, rounds = vote_correct(state.pool, voting), state.rounds + (longest > 0).sum(2)
    spent = (state.spends(state.reached + rest) * finished).sum(2)
    return _means(voted, state.tokens + spent, state.serial + longest.sum(2), rounds)


def _side_by_side(state: _State, rule: Any) -> Played:
    """Run all survivors in parallel until the rule stops the unfinished ones."""
    rest, taken = state.of(state.pool.lengths) - state.reached, state.taken
    until = np.where(taken, rest, np.iinfo(rest.dtype).max)
    order = np.argsort(until, axis=2, kind="stable")
    ends = np.take_along_axis(until, order, 2)
    answers = _answers(np.take_along_axis(state.of(state.pool.answers), order, 2))
    last = np.zeros(rest.shape[:2], dtype=int)  # the token at which the rule stops
    counts, asked_at = np.arange(1, rest.shape[2] + 1), is_last(ends)
    for q, r in np.ndindex(*last.shape):
        m = state.count[q, r]
        last[q, r] = ends[q, r, enough(rule, answers[q][r][:m], counts[:m][asked_at[q, r, :m]].tolist()) - 1]
    voting = np.zeros((*rest.shape[:2], state.pool.n), dtype=bool)
    np.put_along_axis(voting, state.paths, taken & (rest <= last[:, :, None]), 2)
    tokens = state.tokens + state.spends(state.reached + np.minimum(rest, last[:, :, None])).sum(2)
    return _means(vote_correct(state.pool, voting), tokens, state.serial + last, state.rounds + (last > 0))


def _launched(pool: Pool, policy: Policy, draws: int) -> _State:
    if not 1 <= policy.n <= pool.n:
        raise ValueError(f"{policy.n} of {pool.n} paths cannot be launched")
    in_order = policy.rule is not None and order_of(policy.rule) == "sequential" and not policy.stages
    is_drawn = policy.n < pool.n or in_order
    launched = orders(pool.n, draws)[:, : policy.n] if is_drawn else np.arange(pool.n)[None]
    paths = np.broadcast_to(launched, (len(pool.problems), *launched.shape))
    zeros = np.zeros(paths.shape[:2], dtype=int)
    left = np.full(paths.shape[:2], policy.n)
    return _State(pool, paths, np.zeros(paths.shape, dtype=int), zeros.astype(float), zeros, zeros, left)


def _ranks(check: Checks) -> np.ndarray:
    """Ranks, int ``[Q, N]``, 0 for the best, ties to the lower index; cached across policies."""
    if "_ranks" not in check.__dict__:
        check.__dict__["_ranks"] = ranks_of(check.scores)
    ranks: np.ndarray = check.__dict__["_ranks"]
    return ranks
