"""A pool and one score per path -> accuracy and cost at every (n, k): n paths launched, the best k of them finished.

A smaller launch is a random n of the pool's N paths. What is kept of it has a closed form: a path whose score has rank r
in the pool is finished if it is drawn and fewer than k of its r betters are, which is hypergeometric. Accuracy of the
kept, tokens and FLOPs are linear in that, so they are exact expectations. Votes are not: they are means over draws,
the same draws for every method and every setting. Scores are those given within the full pool, which approximates a
smaller launch for methods that look at a whole set of paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import hypergeom

from harness.api import Cost
from harness.replay.pool import Pool, generation_cost, of_like_length
from harness.rng import generator

DRAWS = 1000
CHUNK = 1 << 22  # elements of an intermediate array, which bounds memory whatever N and the number of draws

Setting = tuple[int, int]  # (n, k)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Expectations per setting and problem, ``[S, Q]`` each."""

    settings: tuple[Setting, ...]
    accuracy: np.ndarray  # avg@k|n
    matched: np.ndarray  # and what of it the kept paths' full lengths alone do not explain
    voted: np.ndarray  # cons@k of n; NaN where no draws were asked for
    tokens: np.ndarray  # the Check's included, scaled by n / N
    flops: np.ndarray

    def at(self, setting: Setting) -> int:
        return self.settings.index(setting)


def sweep(
    pool: Pool,
    scores: np.ndarray | None,
    prefix: int,
    settings: Sequence[Setting],
    checks: Sequence[Cost] | None = None,
    draws: int = DRAWS,
    weighted: bool = False,
) -> Sweep:
    """``scores`` ``[Q, N]``, higher = keep, ties to the lower index; None: a random k, in closed form but for its vote.

    ``weighted``: paths vote with their scores, which are then 0 or more; else each has one vote.
    """
    settings = tuple(settings)
    ranks = None if scores is None else ranks_of(scores)
    accuracy, matched, tokens, flops = (np.zeros((len(settings), len(pool.problems))) for _ in range(4))
    unexplained = pool.correct - of_like_length(pool)
    own = [np.zeros(len(pool.problems))] * 2
    if checks is not None:
        own = [np.array([c.tokens for c in checks], float), np.array([c.flops for c in checks], float)]
    for row, (n, k) in enumerate(settings):
        kept = kept_probability(pool.n, n, k)
        mask = np.full(pool.correct.shape, k / pool.n) if ranks is None else kept[ranks]
        accuracy[row] = (pool.correct * mask).sum(1) / k
        matched[row] = (unexplained * mask).sum(1) / k
        tokens[row], flops[row] = generation_cost(pool, mask, prefix, launched=n / pool.n)
        tokens[row] += own[0] * n / pool.n
        flops[row] += own[1] * n / pool.n
    voted = np.full(accuracy.shape, np.nan)
    if draws:
        voted = votes(pool, ranks, settings, draws, scores if weighted else None)
    return Sweep(settings, accuracy, matched, voted, tokens, flops)


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """0 for the best, ties to the lower index, int ``[Q, N]``."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.argsort(order, axis=1, kind="stable")


@lru_cache(maxsize=4096)
def kept_probability(pool: int, n: int, k: int) -> np.ndarray:
    """P(the path of rank r is finished) when n of ``pool`` paths are launched at random and the best k kept, ``[pool]``."""
    if not 1 <= k <= n <= pool:
        raise ValueError(f"k = {k}, n = {n} and a pool of {pool} paths are not in this order")
    # scipy knows no urn without balls: the only path is kept.
    out = n / pool * hypergeom.cdf(k - 1, pool - 1, np.arange(pool), n - 1) if pool > 1 else np.ones(1)
    out.flags.writeable = False
    return np.asarray(out)


def votes(
    pool: Pool, ranks: np.ndarray | None, settings: Sequence[Setting], draws: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Share of draws whose vote is right, ``[S, Q]``; ties go to the answer seen first (lowest index), as in the loop."""
    out = np.zeros((len(settings), len(pool.problems)))
    by_n: dict[int, list[int]] = {}
    for row, (n, _) in enumerate(settings):
        by_n.setdefault(n, []).append(row)
    for q in range(len(pool.problems)):
        ballot = _ballot(pool.answers[q], pool.correct[q], share=weights is None)
        for n, rows in by_n.items():
            ks = sorted({settings[row][1] for row in rows})
            right = np.zeros(len(ks))
            for places, order in _drawn(pool.n, draws):
                better = order if ranks is None else ranks[q]
                weight = None if weights is None else weights[q].astype(float)
                right += _winners(ballot, places < n, better, ks, weight)
            for row in rows:
                out[row, q] = right[ks.index(settings[row][1])] / draws
    return out


def _drawn(pool: int, draws: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of ``[R, N]``: each path's place in the launch order of a draw, and a random rank for the random control."""
    size = max(1, min(draws, CHUNK // pool))
    for start in range(0, draws, size):
        yield _orders(pool, start, min(size, draws - start))


@lru_cache(maxsize=8)
def _orders(pool: int, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = generator("sweep", pool, start)
    return rng.random((count, pool)).argsort(1), rng.random((count, pool)).argsort(1)


@dataclass(frozen=True, eq=False)
class _Ballot:
    """One problem's answers as columns. Wrong answers that only one path gives share a column of at most one vote.

    Such an answer can win only when no answer has two votes, and then the first seen wins: which of them does not matter.
    """

    column: np.ndarray  # int [N]; -1: no answer
    truth: np.ndarray  # bool [A]
    single: int  # the shared column, or -1


def _ballot(codes: np.ndarray, correct: np.ndarray, share: bool) -> _Ballot:
    answered = codes >= 0
    counts = np.bincount(codes[answered], minlength=1)
    right = np.zeros(len(counts), dtype=bool)
    right[codes[correct & answered]] = True
    shared = (counts == 1) & ~right & share
    own = np.cumsum(~shared) - 1
    single = int((~shared).sum()) if shared.any() else -1
    column = np.where(answered, np.where(shared[codes], single, own[codes]), -1)
    truth = np.concatenate([right[~shared], np.zeros(int(shared.any()), dtype=bool)])
    return _Ballot(column, truth, single)


def _winners(
    ballot: _Ballot, inside: np.ndarray, rank: np.ndarray, ks: Sequence[int], weight: np.ndarray | None
) -> np.ndarray:
    """How many of R launches ``inside`` ``[R, N]`` have a right vote among their best k by ``rank``, for each k, ``[K]``.

    ``rank`` ``[N]``, or ``[R, N]`` where it differs between draws.
    """
    draws, n = inside.shape
    if rank.ndim == 1:  # a method ranks paths the same in every draw
        place = np.cumsum(inside[:, rank.argsort()], 1)[:, rank] - 1
    else:
        place = np.take_along_axis(np.cumsum(np.take_along_axis(inside, rank.argsort(1), 1), 1), rank, 1) - 1
    step = np.searchsorted(ks, np.arange(n), side="right")[place]  # the first k of ``ks`` at which a path is kept
    voters = inside & (ballot.column >= 0) & (step < len(ks))
    if weight is not None:
        voters &= weight > 0
    # Paths from the last to the first, so that of several the lowest index is written last.
    draw, path = np.nonzero(voters[:, ::-1])
    path = n - 1 - path
    columns = len(ballot.truth)
    shape = (draws, len(ks), columns)
    key = (draw * len(ks) + step[draw, path]) * columns + ballot.column[path]
    size = int(np.prod(shape))
    total = np.bincount(key, None if weight is None else weight[path], size).reshape(shape).cumsum(1)
    first = np.full(size, n)
    first[key] = path
    seen = np.minimum.accumulate(first.reshape(shape), axis=1)
    if ballot.single >= 0:
        total[:, :, ballot.single] = np.minimum(total[:, :, ballot.single], 1)
    most = total.max(2)
    leader = np.where(total == most[:, :, None], seen, n + 1).argmin(2)
    return np.asarray((ballot.truth[leader] & (most > 0)).sum(0), dtype=float)


def scaling(
    pool: Pool,
    scores: np.ndarray | None,
    gamma: float,
    prefix: int,
    checks: Sequence[Cost] | None = None,
    draws: int = 200,
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """cons@N and tokens against N (STOP, Fig. 4): ``(sizes, voted [sizes, Q], tokens [sizes, Q])``.

    For each N = 2, 4, ... of which the best gamma N, and at least one, are finished.
    """
    sizes = [2**i for i in range(1, pool.n.bit_length()) if 2**i <= pool.n]
    swept = sweep(pool, scores, prefix, [(n, max(1, round(gamma * n))) for n in sizes], checks, draws)
    return sizes, swept.voted, swept.tokens
