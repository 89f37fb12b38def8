"""A pool and one score per path -> accuracy and cost, for any number kept. No engine, arrays only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from harness import vote
from harness.api import Cost, FlopModel
from harness.loop import Ended, select
from harness.replay.latency import Latency, expected_longest, expected_some, of_cut
from harness.replay.votes import leaders, small
from harness.rng import generator

BINS = 4  # path-length quantiles per problem of the length-matched comparison
CHUNK = 1 << 20  # elements of an intermediate array, which bounds memory whatever N, answers and draws
DRAWS = 200  # random subsets per problem for votes, which have no closed form


@dataclass(frozen=True, eq=False)
class Pool:
    """Finished paths of Q problems, N each; rows are problems in the pool file's order."""

    problems: tuple[str, ...]
    correct: np.ndarray  # bool [Q, N]
    answers: np.ndarray  # int [Q, N], coded per problem in order of appearance; -1: no answer
    lengths: np.ndarray  # int [Q, N], generated tokens
    stopped: np.ndarray  # bool [Q, N]; False: cut at the token limit
    prompts: np.ndarray  # int [Q], prompt tokens
    flops: FlopModel
    given: np.ndarray | None = (
        None  # int [Q, N, spans, 2]: behind how many drawn tokens, how many were given; None: none was
    )

    @classmethod
    def from_record(cls, header: Mapping[str, Any], lines: Mapping[str, Mapping[str, Any]], n: int) -> Pool:
        """The first n paths of every problem that has so many, from the rows of a pool's record."""
        rows = [row for row in lines.values() if len(row["answers"]) >= n]
        return cls(
            problems=tuple(r["problem"] for r in rows),
            correct=np.array([r["correct"][:n] for r in rows], dtype=bool).reshape(len(rows), n),
            answers=np.array([_coded(r["answers"][:n]) for r in rows], dtype=int).reshape(len(rows), n),
            lengths=np.array([r["lengths"][:n] for r in rows], dtype=int).reshape(len(rows), n),
            stopped=np.array([r["stopped"][:n] for r in rows], dtype=bool).reshape(len(rows), n),
            prompts=np.array([r["prompt"] for r in rows], dtype=int),
            flops=FlopModel(**{name: float(value) for name, value in header["flops"].items()}),
            given=_spans([row.get("given", [[]] * n)[:n] for row in rows]),
        )

    def read(self, reached: np.ndarray) -> np.ndarray:
        """Tokens that paths were given before the last of their first ``reached`` ``[Q, N]`` drawn ones, ``[Q, N]``."""
        if self.given is None:
            return np.zeros_like(reached)
        return np.asarray((self.given[..., 1] * (self.given[..., 0] < reached[..., None])).sum(-1))

    @property
    def n(self) -> int:
        """Paths per problem."""
        return self.correct.shape[1]

    def subset(self, problems: Sequence[str]) -> Pool:
        """The same pool on these problems, in their order."""
        if tuple(problems) == self.problems:
            return self
        where = {p: i for i, p in enumerate(self.problems)}
        rows = [where[p] for p in problems]
        arrays = {f: getattr(self, f)[rows] for f in ("correct", "answers", "lengths", "stopped", "prompts")}
        arrays |= {} if self.given is None else {"given": self.given[rows]}
        return replace(self, problems=tuple(problems), **arrays)

    def first(self, n: int) -> Pool:
        """The same pool with the first n paths of each problem."""
        arrays = {f: getattr(self, f)[:, :n] for f in ("correct", "answers", "lengths", "stopped")}
        arrays |= {} if self.given is None else {"given": self.given[:, :n]}
        return replace(self, **arrays)

    def mixed(self, low: float = 4 / 32, high: float = 28 / 32) -> np.ndarray:
        """Problems on which selection can matter, bool ``[Q]``."""
        rate = self.correct.mean(1)
        return (rate >= low) & (rate <= high)


def _spans(given: Sequence[Sequence[Sequence[Sequence[int]]]]) -> np.ndarray | None:
    """Spans of given tokens in one array, each path's filled up with empty ones; None where no path has any."""
    most = max((len(spans) for row in given for spans in row), default=0)
    if not most:
        return None
    filled = [[[*spans, *[[0, 0]] * (most - len(spans))] for spans in row] for row in given]
    return np.array(filled, dtype=int)


def _coded(answers: Sequence[str | None]) -> list[int]:
    codes: dict[str, int] = {}
    return [-1 if a is None else codes.setdefault(a, len(codes)) for a in answers]


@dataclass(frozen=True, eq=False)
class PerProblem:
    """Per problem, ``[Q]``: what a method reaches and what it spends."""

    accuracy: np.ndarray  # avg@k|n: mean correctness of the kept paths
    voted: np.ndarray  # cons@k: is the majority answer right
    generated: np.ndarray  # tokens that the model sampled, as STOP's paper counts
    tokens: np.ndarray  # and those that were appended, read again or generated elsewhere
    flops: np.ndarray
    kept_length: np.ndarray
    truncated: np.ndarray
    cold: np.ndarray | None = (
        None  # ``tokens`` if the Check's texts had nothing in common; None: it reads none, or not recorded
    )
    latency: Latency | None = None  # None: not recorded


def ended_inside(pool: Pool, prefix: int) -> np.ndarray:
    """Which paths end within their first ``prefix`` tokens, bool ``[Q, N]``."""
    return np.asarray((pool.lengths <= prefix) & pool.stopped)


def kept_mask(pool: Pool, scores: np.ndarray, keep: int, prefix: int, ended: Ended = "count") -> np.ndarray:
    """Which paths are finished, bool ``[Q, N]``, by the very rule of the loop (``harness.loop.select``)."""
    mask = np.zeros(pool.correct.shape, dtype=bool)
    if ended == "count":
        np.put_along_axis(mask, np.argsort(-scores, axis=1, kind="stable")[:, :keep], True, axis=1)
        return mask
    inside = ended_inside(pool, prefix)
    for row, (values, over) in enumerate(zip(scores, inside, strict=True)):
        mask[row, list(select(values, over.tolist(), keep, ended))] = True
    return mask


def replay(
    pool: Pool, mask: np.ndarray, prefix: int, checks: Sequence[Cost] | None = None, cold: np.ndarray | None = None
) -> PerProblem:
    """What finishing exactly the paths of ``mask`` gives and costs; ``checks`` is what scoring cost per problem.

    ``cold`` ``[Q]`` is what scoring would cost in tokens with nothing shared."""
    kept = mask.sum(1)
    generated, flops = generation_cost(pool, mask, prefix)
    read = generated + reading_cost(pool, mask, prefix)
    tokens = read
    if checks is not None:
        tokens = read + np.array([c.tokens for c in checks])
        flops = flops + np.array([c.flops for c in checks])
    return PerProblem(
        accuracy=(pool.correct * mask).sum(1) / kept,
        voted=vote_correct(pool, mask[:, None, :])[:, 0],
        generated=generated.astype(float),
        tokens=tokens.astype(float),
        flops=flops,
        kept_length=(pool.lengths * mask).sum(1) / kept,
        truncated=(~pool.stopped * mask).sum(1) / kept,
        cold=None if cold is None else read + cold,
        latency=of_cut(np.minimum(pool.lengths, prefix), np.maximum(pool.lengths - prefix, 0) * mask),
    )


def generation_cost(pool: Pool, mask: np.ndarray, prefix: int, launched: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and FLOPs of generating every prefix and the rest of the kept paths, ``[Q]`` each.

    ``mask`` may be fractional (a probability of being kept), as may the share of paths that is ``launched``: both
    are linear in them, so expectations are exact. The prompt is computed once, however many paths there are.
    """
    cut = np.minimum(pool.lengths, prefix)
    start = pool.prompts[:, None]
    tokens = launched * cut.sum(1) + ((pool.lengths - cut) * mask).sum(1)
    ends, whole = start + cut + pool.read(cut), start + pool.lengths + pool.read(pool.lengths)
    launch = pool.flops(0, pool.prompts) + launched * pool.flops(start, ends).sum(1)
    rest = pool.flops(ends, whole) * mask
    return tokens, launch + rest.sum(1)


def reading_cost(pool: Pool, mask: np.ndarray, prefix: int, launched: float = 1.0) -> np.ndarray:
    """Given tokens that are read beside what ``generation_cost`` counts, ``[Q]``; likewise linear in ``mask``."""
    cut = pool.read(np.minimum(pool.lengths, prefix))
    return np.asarray(launched * cut.sum(1) + ((pool.read(pool.lengths) - cut) * mask).sum(1))


def no_pruning(pool: Pool) -> PerProblem:
    """Every path is finished: avg@N and cons@N."""
    return replay(pool, np.ones(pool.correct.shape, dtype=bool), prefix=int(pool.lengths.max()))


def random_pruning(pool: Pool, keep: int, prefix: int) -> PerProblem:
    """Expectation over a uniformly random ``keep`` of N: exact, except the vote, which is the mean of DRAWS draws."""
    share = np.full(pool.correct.shape, keep / pool.n)
    tokens, flops = generation_cost(pool, share, prefix)
    order = generator("random pruning", pool.n).random((DRAWS, pool.n)).argsort(1)
    kept = np.nonzero(order < keep)[1].reshape(DRAWS, keep)
    return PerProblem(
        accuracy=pool.correct.mean(1),
        voted=votes_right(pool, slice(None), kept[None], [keep])[0].mean(1),
        generated=tokens,
        tokens=tokens + reading_cost(pool, share, prefix),
        flops=flops,
        kept_length=pool.lengths.mean(1),
        truncated=(~pool.stopped).mean(1),
        latency=random_latency(pool, [prefix], [keep]),
    )


def random_latency(pool: Pool, cuts: Sequence[int | np.ndarray], keeps: Sequence[int]) -> Latency:
    """Expectation where random paths go on at each cut, a length or one for each path ``[Q, N]``, so many of them; exact."""
    ends = [np.minimum(pool.lengths, cut) for cut in cuts] + [pool.lengths]
    serial, rounds = ends[0].max(1).astype(float), np.ones(len(ends[0]))
    for before, after, keep in zip(ends[:-1], ends[1:], keeps, strict=True):
        serial = serial + expected_longest(after - before, keep)
        rounds = rounds + expected_some(after - before, keep)
    return Latency(serial, rounds)


def vote_correct(pool: Pool, masks: np.ndarray) -> np.ndarray:
    """Is the majority answer right, float ``[Q, R]`` for R subsets of each problem, ``masks`` bool ``[Q, R, N]``."""
    ballots = ballots_of(pool)
    column = np.where(masks, ballots.column[:, None, :], ballots.none)
    problems, subsets, n = masks.shape
    first = leaders(
        column.reshape(-1, n).T, np.broadcast_to(np.arange(n)[:, None], (n, problems * subsets)), ballots.none
    )
    return ballots.won(np.arange(problems).repeat(subsets), first).astype(float).reshape(problems, subsets)


def votes_right(
    pool: Pool, problems: slice, kept: np.ndarray, sizes: Sequence[int], weights: np.ndarray | None = None
) -> np.ndarray:
    """Is the vote of the first k of the ``kept`` paths right, bool ``[sizes, Q, R]`` for R subsets of each problem.

    ``kept`` int ``[Q, R, k]`` holds indices of paths, ``[1, R, k]`` where all problems have the same subsets. ``weights``
    ``[problems of the pool, N]``; one vote each where None."""
    ballots, number = ballots_of(pool), np.arange(len(pool.problems), dtype=np.int32)[problems]
    kept = np.broadcast_to(kept, (len(number), *kept.shape[1:]))
    step = max(1, CHUNK // max(1, kept.shape[1] * max(kept.shape[2], ballots.none + 1)))
    runs = [slice(start, start + step) for start in range(0, len(number), step)]
    return np.concatenate([_votes_right(pool, ballots, number[run], kept[run], sizes, weights) for run in runs], 1)


def _votes_right(
    pool: Pool, ballots: Ballots, number: np.ndarray, kept: np.ndarray, sizes: Sequence[int], weights: np.ndarray | None
) -> np.ndarray:
    """``votes_right`` of some problems, whose arrays are all in memory at once."""
    path = np.ascontiguousarray(kept.reshape(-1, kept.shape[2]).T)  # [k, Q R]: voters lie one behind the other
    problem = number.repeat(kept.shape[1])
    flat = path + problem * np.int32(pool.n)
    column, path = small(ballots.column, ballots.none).take(flat), small(path, pool.n)
    weight = None if weights is None else weights.take(flat)
    right = [
        ballots.won(problem, leaders(column[:k], path[:k], ballots.none, None if weight is None else weight[:k]))
        for k in sizes
    ]
    return np.stack(right).reshape(len(right), *kept.shape[:2])


@dataclass(frozen=True, eq=False)
class Ballots:
    """The answers of a pool as votes need them."""

    column: np.ndarray  # int [Q, N], the answer's code; ``none``: no answer
    right: np.ndarray  # bool [Q, N], is the answer that the path gives right
    none: int

    def won(self, problem: np.ndarray, leader: np.ndarray) -> np.ndarray:
        """Is the answer of these paths right, bool; -1 for a vote that nobody took part in."""
        return self.right[problem, leader] & (leader >= 0)


@lru_cache(maxsize=8)
def ballots_of(pool: Pool) -> Ballots:
    """The answers of a pool as columns of votes."""
    none = int(pool.answers.max(initial=-1)) + 1
    column = np.where(pool.answers >= 0, pool.answers, none)
    truth = np.zeros((len(pool.problems), none + 1), dtype=bool)
    problem, path = np.nonzero(pool.correct & (pool.answers >= 0))
    truth[problem, column[problem, path]] = True
    return Ballots(column, np.take_along_axis(truth, column, 1), none)


def weighted_vote(pool: Pool, weights: np.ndarray) -> np.ndarray:
    """Is the answer of the largest total weight right, float ``[Q]``; ``weights`` ``[Q, N]``, 0 for who does not vote."""
    out = np.zeros(len(pool.problems))
    for q, (codes, weight) in enumerate(zip(pool.answers, weights, strict=True)):
        voters = (codes >= 0) & (weight > 0)
        if voters.any():
            totals = np.bincount(codes[voters], weight[voters])
            winner = next(c for c in codes[voters] if totals[c] == totals.max())
            out[q] = pool.correct[q][codes == winner].any()
    return out


def vote_weights(pool: Pool, mask: np.ndarray, scores: np.ndarray, rule: str) -> np.ndarray:
    """Weights ``[Q, N]`` that a vote of ``harness.vote`` gives the kept paths."""
    out = np.zeros(mask.shape)
    for q, kept in enumerate(mask):
        out[q, kept] = vote.weights(rule, scores[q, kept], pool.answers[q, kept] >= 0)
    return out


def own_rule(
    pool: Pool,
    spent: np.ndarray,
    weights: np.ndarray,
    checks: Sequence[Cost],
    cold: np.ndarray | None = None,
    latency: Latency | None = None,
) -> PerProblem:
    """What a decision rule of its own gives and costs; ``spent`` and ``weights`` as in ``harness.api.Decision``.

    A problem on which no path is left to vote has no answer: its accuracy and its vote are 0.
    """
    mask = weights > 0
    kept = np.maximum(1, mask.sum(1))
    start, read = pool.prompts[:, None], pool.read(spent)
    flops = pool.flops(0, pool.prompts) + pool.flops(start, start + spent + read).sum(1)
    return PerProblem(
        accuracy=(pool.correct * mask).sum(1) / kept,
        voted=vote_correct(pool, mask[:, None, :])[:, 0],
        generated=spent.sum(1).astype(float),
        tokens=(spent.sum(1) + read.sum(1) + np.array([c.tokens for c in checks])).astype(float),
        flops=flops + np.array([c.flops for c in checks]),
        kept_length=(pool.lengths * mask).sum(1) / kept,
        truncated=(~pool.stopped * mask).sum(1) / kept,
        cold=None if cold is None else spent.sum(1) + read.sum(1) + cold,
        latency=latency,
    )


def length_matched(pool: Pool, mask: np.ndarray) -> np.ndarray:
    """Accuracy that the kept paths' full lengths alone would give, ``[Q]``; 0 where nothing is kept.

    Each kept path counts as the mean correctness of its problem's paths in the same length quantile: a pruner
    that only picks short paths gains nothing over this.
    """
    return (of_like_length(pool) * mask).sum(1) / np.maximum(1, mask.sum(1))


@lru_cache(maxsize=8)
def of_like_length(pool: Pool) -> np.ndarray:
    """Mean correctness of the paths of each path's length quantile, ``[Q, N]``."""
    out = np.zeros(pool.lengths.shape)
    for q, (lengths, correct) in enumerate(zip(pool.lengths, pool.correct, strict=True)):
        edges = np.quantile(lengths, np.linspace(0, 1, BINS + 1)[1:-1])
        bins = np.searchsorted(edges, lengths, side="left")
        counts = np.bincount(bins, minlength=BINS)
        out[q] = (np.bincount(bins, correct, minlength=BINS) / np.maximum(1, counts))[bins]
    return out
