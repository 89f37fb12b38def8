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
from harness.replay.pool import Pool, generation_cost, of_like_length, reading_cost, votes_right
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
    tokens: np.ndarray  # the Check's included, what belongs to its paths scaled by n / N
    flops: np.ndarray

    def at(self, setting: Setting) -> int:
        """Row of a setting."""
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
) -> Sweep:
    """``scores`` ``[Q, N]``, higher = keep, ties to the lower index; None: a random k, in closed form but for its vote.

    ``checks`` is what scoring all N cost on each problem, and ``shared`` what of it does not grow with n: a prompt read once.
    ``weighted``: paths vote with their scores, which are then 0 or more; else each has one vote.
    """
    settings = tuple(settings)
    ranks = None if scores is None else ranks_of(scores)
    accuracy, matched, tokens, flops = (np.zeros((len(settings), len(pool.problems))) for _ in range(4))
    unexplained = pool.correct - of_like_length(pool)
    spent, fixed = _amounts(checks, pool), _amounts(shared, pool)
    for row, (n, k) in enumerate(settings):
        kept = kept_probability(pool.n, n, k)
        mask = np.full(pool.correct.shape, k / pool.n) if ranks is None else kept[ranks]
        accuracy[row] = (pool.correct * mask).sum(1) / k
        matched[row] = (unexplained * mask).sum(1) / k
        tokens[row], flops[row] = generation_cost(pool, mask, prefix, launched=n / pool.n)
        tokens[row] += reading_cost(pool, mask, prefix, launched=n / pool.n)
        tokens[row] += fixed[0] + (spent[0] - fixed[0]) * n / pool.n
        flops[row] += fixed[1] + (spent[1] - fixed[1]) * n / pool.n
    voted = np.full(accuracy.shape, np.nan)
    if draws:
        voted = votes(pool, ranks, settings, draws, scores if weighted else None)
    return Sweep(settings, accuracy, matched, voted, tokens, flops)


def _amounts(costs: Sequence[Cost] | None, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and FLOPs, ``[Q]`` each."""
    costs = [Cost()] * len(pool.problems) if costs is None else costs
    return np.array([c.tokens for c in costs], float), np.array([c.flops for c in costs], float)


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
    """Share of draws whose vote is right, ``[S, Q]``; ties go to the answer seen first (lowest index), as in the loop.

    ``ranks`` int ``[Q, N]``, 0 for the best; None: random in every draw. ``weights`` float ``[Q, N]``: each path's vote,
    one each where None."""
    out = np.zeros((len(settings), len(pool.problems)))
    by_n: dict[int, list[int]] = {}
    for row, (n, _) in enumerate(settings):
        by_n.setdefault(n, []).append(row)
    for launched, order in _drawn(pool.n, draws):
        for n, rows in by_n.items():
            alike = n == pool.n and ranks is not None  # whole pools are the same launch in every draw
            paths = launched[: 1 if alike else None, :n]
            ks = sorted({settings[row][1] for row in rows})
            for problems in _runs(len(pool.problems), paths.size):
                kept = _best_random(order, paths, ks[-1]) if ranks is None else _best(ranks[problems], paths, ks[-1])
                right = votes_right(pool, problems, kept, ks, weights).sum(2) * (len(launched) if alike else 1)
                for row in rows:
                    out[row, problems] += right[ks.index(settings[row][1])]
    return out / draws


def _runs(problems: int, size: int) -> Iterator[slice]:
    """Problems in runs, so that an array of ``size`` elements for each stays within ``CHUNK``."""
    step = max(1, CHUNK // max(1, size))
    return (slice(start, min(problems, start + step)) for start in range(0, problems, step))


def _drawn(pool: int, draws: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of ``[R, N]``: the paths of a draw in the order of their launch, and a random rank for the random control."""
    size = max(1, min(draws, CHUNK // pool))
    for start in range(0, draws, size):
        yield _orders(pool, start, min(size, draws - start))


@lru_cache(maxsize=8)
def _orders(pool: int, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = generator("sweep", pool, start)
    turns = rng.random((count, pool)).argsort(1)
    return turns.argsort(1), rng.random((count, pool)).argsort(1)


def orders(pool: int, draws: int) -> np.ndarray:
    """The paths of each draw in the order of their launch, int ``[draws, pool]``: those of ``votes``, for up to ``CHUNK`` of them."""
    return _orders(pool, 0, draws)[0]


def _best(ranks: np.ndarray, paths: np.ndarray, k: int) -> np.ndarray:
    """Of each launch in ``paths`` ``[R, n]`` the best k by ``ranks`` ``[Q, N]``, the best first: indices ``[Q, R, k]``."""
    size = ranks.shape[1]
    # Rank and index in one number: sorting it sorts both. Numbers of 32 bits are those that numpy sorts fastest.
    coded = (ranks * size + np.arange(size)).astype(np.uint32 if size < 1 << 16 else np.uint64)
    drawn = coded.take(paths.ravel(), axis=1).reshape(len(ranks), *paths.shape)
    drawn.sort(axis=2)
    return np.asarray(drawn[:, :, :k] % size)


def _best_random(order: np.ndarray, paths: np.ndarray, k: int) -> np.ndarray:
    """The best k of each launch by ranks ``order`` ``[R, N]`` that differ between draws and not between problems."""
    chosen = np.take_along_axis(order, paths, 1).argsort(1)[:, :k]
    return np.take_along_axis(paths, chosen, 1)[None]


def scaling(
    pool: Pool,
    scores: np.ndarray | None,
    gammas: Sequence[float],
    prefix: int,
    checks: Sequence[Cost] | None = None,
    draws: int = 200,
    shared: Sequence[Cost] | None = None,
) -> dict[float, tuple[list[int], np.ndarray, np.ndarray]]:
    """cons@N and tokens against N (STOP, Fig. 4), by gamma: ``(sizes, voted [sizes, Q], tokens [sizes, Q])``.

    For each N = 2, 4, ... of which the best gamma N, and at least one, are finished."""
    sizes = [2**i for i in range(1, pool.n.bit_length()) if 2**i <= pool.n]
    wanted = {gamma: [(n, max(1, round(gamma * n))) for n in sizes] for gamma in gammas}
    settings = list(dict.fromkeys(s for ss in wanted.values() for s in ss))
    swept = sweep(pool, scores, prefix, settings, checks, draws, shared=shared)
    rows = {gamma: [swept.at(setting) for setting in settings] for gamma, settings in wanted.items()}
    return {gamma: (sizes, swept.voted[row], swept.tokens[row]) for gamma, row in rows.items()}
