"""Accuracy and cost from a pool and one score per path at every (n, k): n paths launched, the best k of them finished.

A smaller launch is a random subset of n of the pool's N paths. The kept paths have a closed form: a path of rank r in the
pool is finished if it is drawn and fewer than k of the r better ones are, which is a hypergeometric probability. Accuracy,
tokens and FLOPs are linear in it, so their expectations are exact. Votes are means over draws, the same for every method
and setting. Scores are those within the full pool, an approximation for methods that score paths relative to each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import hypergeom

from harness.api import Cost
from harness.replay.pool import Pool, generation_cost, of_like_length, reading_cost, votes_right
from harness.rng import generator

DRAWS = 1000
CHUNK = 1 << 22  # maximum elements of an intermediate array, which bounds memory

Setting = tuple[int, int]  # (n, k)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Expectations per setting and problem, ``[S, Q]`` each."""

    settings: tuple[Setting, ...]
    accuracy: np.ndarray  # avg@k|n
    matched: np.ndarray  # accuracy minus what the kept paths' full lengths alone explain
    voted: np.ndarray  # cons@k of n; NaN without draws
    tokens: np.ndarray  # Check included; its cost per path is scaled by n / N
    flops: np.ndarray

    def at(self, setting: Setting) -> int:
        """The row of a setting."""
        return self.settings.index(setting)


def sweep(
    pool: Pool,
    scores: np.ndarray | None,
    prefix: int,
    settings: Sequence[Setting],
    checks: Sequence[Cost] | None = None,
    draws: int = DRAWS,
    weighted: bool = False,
    shared: Sequence[Cost] | None = None,
    free: np.ndarray | None = None,
) -> Sweep:
    """Accuracy and cost at each setting.

    Args:
        pool: the finished paths.
        scores: ``[Q, N]``, the highest are kept, ties to the lower index; None: random k, exact except for the vote.
        prefix: prefix length in tokens.
        settings: pairs (n, k).
        checks: cost of scoring all N paths, per problem; None: free.
        draws: random launches for the vote; 0: no vote.
        weighted: paths vote with their scores, which must be 0 or more; else each path has one vote.
        shared: the part of ``checks`` that does not grow with n, such as a prompt that is read once.
        free: paths that are finished in addition to k whenever they are launched, bool ``[Q, N]``; None: no path.
    """
    settings = tuple(settings)
    ranks = None if scores is None else ranks_of(scores)
    accuracy, matched, tokens, flops = (np.zeros((len(settings), len(pool.problems))) for _ in range(4))
    unexplained = pool.correct - of_like_length(pool)
    spent, fixed = _amounts(checks, pool), _amounts(shared, pool)
    for row, (n, k) in enumerate(settings):
        if free is None:
            kept = kept_probability(pool.n, n, k)
            voice = mask = np.full(pool.correct.shape, k / pool.n) if ranks is None else kept[ranks]
        else:
            mask, voice = _beside(ranks, free, n, k)
        accuracy[row] = (pool.correct * voice).sum(1) / k
        matched[row] = (unexplained * voice).sum(1) / k
        tokens[row], flops[row] = generation_cost(pool, mask, prefix, launched=n / pool.n)
        tokens[row] += reading_cost(pool, mask, prefix, launched=n / pool.n)
        tokens[row] += fixed[0] + (spent[0] - fixed[0]) * n / pool.n
        flops[row] += fixed[1] + (spent[1] - fixed[1]) * n / pool.n
    voted = np.full(accuracy.shape, np.nan)
    if draws:
        voted = votes(pool, ranks, settings, draws, scores if weighted else None, free)
    return Sweep(settings, accuracy, matched, voted, tokens, flops)


def _amounts(costs: Sequence[Cost] | None, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and FLOPs of costs, ``[Q]`` each."""
    costs = [Cost()] * len(pool.problems) if costs is None else costs
    return np.array([c.tokens for c in costs], float), np.array([c.flops for c in costs], float)


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """Ranks of scores, int ``[Q, N]``: 0 for the best, ties to the lower index."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.argsort(order, axis=1, kind="stable")


@lru_cache(maxsize=4096)
def kept_probability(pool: int, n: int, k: int) -> np.ndarray:
    """P(the path of rank r is finished) when n of ``pool`` paths are launched at random and the best k kept, ``[pool]``."""
    if not 1 <= k <= n <= pool:
        raise ValueError(f"k = {k}, n = {n} and a pool of {pool} paths are not in this order")
    # scipy does not accept an empty urn; the only path is kept.
    out = n / pool * hypergeom.cdf(k - 1, pool - 1, np.arange(pool), n - 1) if pool > 1 else np.ones(1)
    out.flags.writeable = False
    return np.asarray(out)


def _beside(ranks: np.ndarray | None, free: np.ndarray, n: int, k: int) -> np.ndarray:
    """``kept_beside`` of every path, ``[2, Q, N]``; ``ranks`` and ``free`` as in ``sweep``, None for random ranks."""
    problems, size = free.shape
    out = np.zeros((2, problems, size))
    place = free * 0 if ranks is None else ranks_of(-(ranks + size * free))  # the rank among those that are not free
    for count in np.unique(free.sum(1)):
        rows = free.sum(1) == count
        of_free, of_others = kept_beside(size, int(count), n, k)
        if ranks is None and count < size:
            of_others = of_others.mean(1, keepdims=True)
        if count < size:
            out[:, rows] = of_others[:, np.where(free[rows], 0, place[rows])]
        out[:, rows] = np.where(free[rows], of_free[:, None, None], out[:, rows])
    return out


@lru_cache(maxsize=4096)
def kept_beside(pool: int, free: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The case of ``kept_probability`` in which ``free`` of the paths are finished in addition to k whenever they are launched.

    Returns:
        Of a free path, ``[2]``, and of the others by rank among them, ``[2, pool - free]``: the probability of being finished,
        and the expectation of k / (number of finished paths) where it is, 0 elsewhere.
    """
    others = pool - free
    of_free, of_others = np.zeros(2), np.zeros((2, others))
    for launched in range(max(0, n - others), min(free, n) + 1):
        keep = min(k, n - launched)
        scale = hypergeom.pmf(launched, pool, free, n) * np.array([1.0, k / (launched + keep)])
        of_free += scale * (launched / free if free else 0.0)
        if keep:
            of_others += scale[:, None] * kept_probability(others, n - launched, keep)
    return of_free, of_others


def votes(
    pool: Pool,
    ranks: np.ndarray | None,
    settings: Sequence[Setting],
    draws: int,
    weights: np.ndarray | None = None,
    free: np.ndarray | None = None,
) -> np.ndarray:
    """Share of draws whose vote is right, ``[S, Q]``; ties go to the answer seen first (lowest index), as in the loop.

    ``ranks`` int ``[Q, N]``, 0 for the best; None: random in every draw. ``weights`` float ``[Q, N]``, the paths' vote
    weights; None: one vote each. ``free`` bool ``[Q, N]``, the paths that vote in addition to the k best others; None: no path.
    """
    if free is not None and ranks is not None:
        ranks = ranks_of(pool.n * free - ranks)  # the free ones first
    out = np.zeros((len(settings), len(pool.problems)))
    by_n: dict[int, list[int]] = {}
    for row, (n, _) in enumerate(settings):
        by_n.setdefault(n, []).append(row)
    for launched, order in _drawn(pool.n, draws):
        for n, rows in by_n.items():
            alike = n == pool.n and ranks is not None  # every draw launches the whole pool
            paths = launched[: 1 if alike else None, :n]
            ks = sorted({settings[row][1] for row in rows})
            for problems in _runs(len(pool.problems), paths.size):
                ahead = None if free is None else free[problems]
                more = None if ahead is None else ahead[:, paths].sum(2)
                most = min(n, ks[-1] + (0 if more is None else int(more.max(initial=0))))
                kept = _best_random(order, paths, most, ahead) if ranks is None else _best(ranks[problems], paths, most)
                right = votes_right(pool, problems, kept, ks, weights, more).sum(2) * (len(launched) if alike else 1)
                for row in rows:
                    out[row, problems] += right[ks.index(settings[row][1])]
    return out / draws


def _runs(problems: int, size: int) -> Iterator[slice]:
    """Slices of problems for which an array of ``size`` elements per problem stays within ``CHUNK``."""
    step = max(1, CHUNK // max(1, size))
    return (slice(start, min(problems, start + step)) for start in range(0, problems, step))


def _drawn(pool: int, draws: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of draws, ``[R, N]``: the paths in launch order, and random ranks for the random control."""
    size = max(1, min(draws, CHUNK // pool))
    for start in range(0, draws, size):
        yield _orders(pool, start, min(size, draws - start))


@lru_cache(maxsize=8)
def _orders(pool: int, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = generator("sweep", pool, start)
    turns = rng.random((count, pool)).argsort(1)
    return turns.argsort(1), rng.random((count, pool)).argsort(1)


def orders(pool: int, draws: int) -> np.ndarray:
    """The paths of each draw in launch order, int ``[draws, pool]``; the same as in ``votes`` while they fit one chunk."""
    return _orders(pool, 0, draws)[0]


def _best(ranks: np.ndarray, paths: np.ndarray, k: int) -> np.ndarray:
    """Indices ``[Q, R, k]`` of the best k by ``ranks`` ``[Q, N]`` of each launch in ``paths`` ``[R, n]``, the best first."""
    size = ranks.shape[1]
    # Rank and index are packed into one number, so one sort orders both; numpy sorts 32-bit numbers fastest.
    coded = (ranks * size + np.arange(size)).astype(np.uint32 if size < 1 << 16 else np.uint64)
    drawn = coded.take(paths.ravel(), axis=1).reshape(len(ranks), *paths.shape)
    drawn.sort(axis=2)
    return np.asarray(drawn[:, :, :k] % size)


def _best_random(order: np.ndarray, paths: np.ndarray, k: int, free: np.ndarray | None = None) -> np.ndarray:
    """The best k of each launch by ranks ``order`` ``[R, N]`` that differ between draws but not between problems.

    The paths that are ``free``, bool ``[Q, N]``, come first.
    """
    drawn = np.take_along_axis(order, paths, 1)[None]
    if free is not None:
        drawn = drawn - order.shape[1] * free[:, paths]
    chosen = drawn.argsort(2)[:, :, :k]
    return np.take_along_axis(np.broadcast_to(paths, (len(chosen), *paths.shape)), chosen, 2)


def scaling(
    pool: Pool,
    scores: np.ndarray | None,
    gammas: Sequence[float],
    prefix: int,
    checks: Sequence[Cost] | None = None,
    draws: int = 200,
    shared: Sequence[Cost] | None = None,
) -> dict[float, tuple[list[int], np.ndarray, np.ndarray]]:
    """cons@N and tokens as functions of N = 2, 4, ... (STOP, Fig. 4); the best gamma N paths, at least one, are finished.

    Returns:
        By gamma: sizes N, votes ``[sizes, Q]`` and tokens ``[sizes, Q]``. For the other arguments see ``sweep``.
    """
    sizes = [2**i for i in range(1, pool.n.bit_length()) if 2**i <= pool.n]
    wanted = {gamma: [(n, max(1, round(gamma * n))) for n in sizes] for gamma in gammas}
    settings = list(dict.fromkeys(s for ss in wanted.values() for s in ss))
    swept = sweep(pool, scores, prefix, settings, checks, draws, shared=shared)
    rows = {gamma: [swept.at(setting) for setting in settings] for gamma, settings in wanted.items()}
    return {gamma: (sizes, swept.voted[row], swept.tokens[row]) for gamma, row in rows.items()}
