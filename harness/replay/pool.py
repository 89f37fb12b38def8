"""Accuracy and cost from a pool and one score per path, for any number kept. Works on arrays only."""

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

BINS = 4  # path-length quantiles per problem in the length-matched comparison
CHUNK = 1 << 20  # maximum elements of an intermediate array, which bounds memory
DRAWS = 200  # random subsets per problem for votes, which have no closed form


@dataclass(frozen=True, eq=False)
class Pool:
    """The finished paths of Q problems, N each; rows are problems in the order of the pool's record."""

    problems: tuple[str, ...]
    correct: np.ndarray  # bool [Q, N]
    answers: np.ndarray  # int [Q, N], coded per problem in order of appearance; -1: no answer
    lengths: np.ndarray  # int [Q, N], generated tokens
    stopped: np.ndarray  # bool [Q, N]; False: cut at the token limit
    prompts: np.ndarray  # int [Q], prompt tokens
    flops: FlopModel
    given: np.ndarray | None = (
        None  # int [Q, N, spans, 2]: (sampled tokens before the span, given tokens in it); None: no given tokens
    )

    @classmethod
    def from_record(cls, header: Mapping[str, Any], lines: Mapping[str, Mapping[str, Any]], n: int) -> Pool:
        """The first n paths of every problem with at least n, from the rows of a pool's record."""
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
        """Given tokens of each path before the last of its first ``reached`` ``[Q, N]`` sampled tokens, ``[Q, N]``."""
        if self.given is None:
            return np.zeros_like(reached)
        return np.asarray((self.given[..., 1] * (self.given[..., 0] < reached[..., None])).sum(-1))

    @property
    def n(self) -> int:
        """Paths per problem."""
        return self.correct.shape[1]

    def subset(self, problems: Sequence[str]) -> Pool:
        """The pool restricted to these problems, in their order."""
        if tuple(problems) == self.problems:
            return self
        where = {p: i for i, p in enumerate(self.problems)}
        rows = [where[p] for p in problems]
        arrays = {f: getattr(self, f)[rows] for f in ("correct", "answers", "lengths", "stopped", "prompts")}
        arrays |= {} if self.given is None else {"given": self.given[rows]}
        return replace(self, problems=tuple(problems), **arrays)

    def first(self, n: int) -> Pool:
        """The pool restricted to the first n paths of each problem."""
        arrays = {f: getattr(self, f)[:, :n] for f in ("correct", "answers", "lengths", "stopped")}
        arrays |= {} if self.given is None else {"given": self.given[:, :n]}
        return replace(self, **arrays)

    def mixed(self, low: float = 4 / 32, high: float = 28 / 32) -> np.ndarray:
        """Problems whose share of right paths is from ``low`` to ``high``, so selection can matter, bool ``[Q]``."""
        rate = self.correct.mean(1)
        return (rate >= low) & (rate <= high)


def _spans(given: Sequence[Sequence[Sequence[Sequence[int]]]]) -> np.ndarray | None:
    """Spans of given tokens in one array, padded with empty spans; None if no path has any."""
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
    """Accuracy and cost of a method per problem, ``[Q]`` each."""

    accuracy: np.ndarray  # avg@k|n: mean correctness of the kept paths
    voted: np.ndarray  # cons@k: whether the majority vote is right
    generated: np.ndarray  # sampled tokens, as counted in STOP's paper
    tokens: np.ndarray  # all tokens: also appended ones, and those read or generated by other models
    flops: np.ndarray
    kept_length: np.ndarray
    truncated: np.ndarray
    cold: np.ndarray | None = (
        None  # ``tokens`` if the Check's texts shared nothing; None: it reads no text, or not recorded
    )
    latency: Latency | None = None  # None: not recorded


def ended_inside(pool: Pool, prefix: int) -> np.ndarray:
    """Which paths end within ``prefix`` tokens, bool ``[Q, N]``."""
    return np.asarray((pool.lengths <= prefix) & pool.stopped)


def kept_mask(pool: Pool, scores: np.ndarray, keep: int, prefix: int, ended: Ended = "count") -> np.ndarray:
    """Which paths are kept, bool ``[Q, N]``, by the rule of the loop (``harness.loop.select``)."""
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
    """Accuracy and cost of finishing exactly the paths of ``mask``.

    Args:
        pool: the finished paths.
        mask: bool ``[Q, N]``, the kept paths.
        prefix: prefix length in tokens.
        checks: cost of scoring per problem; None: free.
        cold: tokens of scoring if nothing were shared, ``[Q]``; None: not recorded.
    """
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

    ``mask`` may hold probabilities of being kept, and ``launched`` the share of paths that are launched: the cost is linear
    in both, so expectations are exact. The prompt is computed once, however many paths there are.
    """
    cut = np.minimum(pool.lengths, prefix)
    start = pool.prompts[:, None]
    tokens = launched * cut.sum(1) + ((pool.lengths - cut) * mask).sum(1)
    ends, whole = start + cut + pool.read(cut), start + pool.lengths + pool.read(pool.lengths)
    launch = pool.flops(0, pool.prompts) + launched * pool.flops(start, ends).sum(1)
    rest = pool.flops(ends, whole) * mask
    return tokens, launch + rest.sum(1)


def reading_cost(pool: Pool, mask: np.ndarray, prefix: int, launched: float = 1.0) -> np.ndarray:
    """Given tokens that are read in addition to ``generation_cost``, ``[Q]``; also linear in ``mask``."""
    cut = pool.read(np.minimum(pool.lengths, prefix))
    return np.asarray(launched * cut.sum(1) + ((pool.read(pool.lengths) - cut) * mask).sum(1))


def no_pruning(pool: Pool) -> PerProblem:
    """The baseline that finishes every path: avg@N and cons@N."""
    return replay(pool, np.ones(pool.correct.shape, dtype=bool), prefix=int(pool.lengths.max()))


def random_pruning(pool: Pool, keep: int, prefix: int) -> PerProblem:
    """Expectation over uniformly random subsets of ``keep`` paths: exact, except for the vote, a mean over DRAWS draws."""
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
    """Exact expected latency if ``keeps[i]`` random paths go on at cut i, which is one length or one per path ``[Q, N]``."""
    ends = [np.minimum(pool.lengths, cut) for cut in cuts] + [pool.lengths]
    serial, rounds = ends[0].max(1).astype(float), np.ones(len(ends[0]))
    for before, after, keep in zip(ends[:-1], ends[1:], keeps, strict=True):
        serial = serial + expected_longest(after - before, keep)
        rounds = rounds + expected_some(after - before, keep)
    return Latency(serial, rounds)


def vote_correct(pool: Pool, masks: np.ndarray) -> np.ndarray:
    """Whether the majority vote is right, float ``[Q, R]``, for R subsets of each problem, ``masks`` bool ``[Q, R, N]``."""
    ballots = ballots_of(pool)
    column = np.where(masks, ballots.column[:, None, :], ballots.none)
    problems, subsets, n = masks.shape
    first = leaders(
        column.reshape(-1, n).T, np.broadcast_to(np.arange(n)[:, None], (n, problems * subsets)), ballots.none
    )
    return ballots.won(np.arange(problems).repeat(subsets), first).astype(float).reshape(problems, subsets)


def votes_right(
    pool: Pool,
    problems: slice,
    kept: np.ndarray,
    sizes: Sequence[int],
    weights: np.ndarray | None = None,
    more: np.ndarray | None = None,
) -> np.ndarray:
    """Whether the vote of the first k of the ``kept`` paths is right, for each k in ``sizes``.

    Args:
        pool: the finished paths.
        problems: the Q problems of the pool to evaluate.
        kept: indices of paths, int ``[Q, R, k]`` for R subsets per problem; ``[1, R, k]`` if all problems share the subsets.
        sizes: numbers of voters.
        weights: ``[problems of the pool, N]``; None: one vote each.
        more: voters in addition to each of ``sizes``, int ``[Q, R]``; None: none.

    Returns:
        bool ``[len(sizes), Q, R]``.
    """
    ballots, number = ballots_of(pool), np.arange(len(pool.problems), dtype=np.int32)[problems]
    kept = np.broadcast_to(kept, (len(number), *kept.shape[1:]))
    step = max(1, CHUNK // max(1, kept.shape[1] * max(kept.shape[2], ballots.none + 1)))
    runs = [slice(start, start + step) for start in range(0, len(number), step)]
    return np.concatenate(
        [
            _votes_right(pool, ballots, number[run], kept[run], sizes, weights, None if more is None else more[run])
            for run in runs
        ],
        1,
    )


def _votes_right(
    pool: Pool, ballots: Ballots, number: np.ndarray, kept: np.ndarray, sizes: Sequence[int], weights: np.ndarray | None,
    more: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    """``votes_right`` for a chunk of problems."""
    path = np.ascontiguousarray(kept.reshape(-1, kept.shape[2]).T)  # [k, Q R]: contiguous per voter
    problem = number.repeat(kept.shape[1])
    flat = path + problem * np.int32(pool.n)
    column, path = small(ballots.column, ballots.none).take(flat), small(path, pool.n)
    weight = None if weights is None else weights.take(flat)
    right = []
    for k in sizes:
        width, voting = k, column[:k]
        if more is not None:
            ends = k + more.ravel()
            width = min(len(column), int(ends.max(initial=0)))
            voting = np.where(np.arange(width)[:, None] < ends, column[:width], column.dtype.type(ballots.none))
        leader = leaders(voting, path[:width], ballots.none, None if weight is None else weight[:width])
        right.append(ballots.won(problem, leader))
    return np.stack(right).reshape(len(right), *kept.shape[:2])


@dataclass(frozen=True, eq=False)
class Ballots:
    """The answers of a pool, encoded for votes."""

    column: np.ndarray  # int [Q, N], the answer's code; ``none``: no answer
    right: np.ndarray  # bool [Q, N], whether the path's answer is right
    none: int

    def won(self, problem: np.ndarray, leader: np.ndarray) -> np.ndarray:
        """Whether the answers of these leading paths are right, bool; a leader of -1 (no voter) is wrong."""
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
    """Whether the weighted vote is right, float ``[Q]``; ``weights`` ``[Q, N]``, 0 for paths that do not vote."""
    out = np.zeros(len(pool.problems))
    for q, (codes, weight) in enumerate(zip(pool.answers, weights, strict=True)):
        voters = (codes >= 0) & (weight > 0)
        if voters.any():
            totals = np.bincount(codes[voters], weight[voters])
            winner = next(c for c in codes[voters] if totals[c] == totals.max())
            out[q] = pool.correct[q][codes == winner].any()
    return out


def vote_weights(pool: Pool, mask: np.ndarray, scores: np.ndarray, rule: str) -> np.ndarray:
    """Weights ``[Q, N]`` of the kept paths in a vote of ``harness.vote``."""
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
    """Accuracy and cost of a decision rule; ``spent`` and ``weights`` ``[Q, N]`` as in ``harness.api.Decision``.

    A problem on which no path votes has no answer: its accuracy and vote are 0.
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
    """The accuracy explained by the full lengths of the kept paths alone, ``[Q]``; 0 if nothing is kept.

    Each kept path counts as the mean correctness of its problem's paths in the same length quantile. A pruner that only
    selects short paths does not exceed this baseline.
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
