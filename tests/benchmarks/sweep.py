"""Replay at every (n, k), against the plain loop that prunes and votes draw by draw.

``make perf NAME=sweep``. The job is that of a paper's figure: 30 problems x 64 paths x 20 methods x 60 settings x 1,000 draws. The reference does a
small share of it, and the ratio is that of votes per second in this run. Then the same with larger pools.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from harness.replay.pool import Pool
from harness.replay.sweep import sweep
from harness.vote import majority
from tests.benchmarks.lines import Lines, begun
from tests.benchmarks.memory import peak, reset_peak
from tests.test_sweep import PREFIX, benchmark

PROBLEMS, METHODS, DRAWS = 30, 20, 1000


def grid(n: int, count: int = 60) -> list[tuple[int, int]]:
    """The ``count`` largest of all pairs of powers of two, and their neighbours, with k <= n."""
    sizes = sorted({2**i for i in range(n.bit_length())} | {3 * 2**i for i in range(n.bit_length() - 1)})
    return [(a, b) for a in sizes for b in sizes if b <= a <= n][-count:]


def plain(pool: Pool, scores: np.ndarray, settings: list[tuple[int, int]], draws: int) -> None:
    """What anybody would write first: choose n, sort, keep k, count the answers."""
    rng = np.random.default_rng(0)
    for q in range(len(pool.problems)):
        for n, k in settings:
            for _ in range(draws):
                chosen = rng.choice(pool.n, n, replace=False)
                best = chosen[np.argsort(-scores[q, chosen], kind="stable")[:k]]
                majority([str(pool.answers[q, i]) for i in sorted(best)])


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    table = Lines(
        "N",
        "problems x methods x settings x draws",
        "seconds",
        "votes per second",
        "against the loop",
        "peak MiB",
        widths=(5,),
    )
    for n, methods in ((64, METHODS), (256, 2), (1024, 1)):
        begun(f"N = {n}")
        pool, scores = benchmark(PROBLEMS, n, 0.7)
        settings = grid(n)
        before = reset_peak()
        took = seconds(lambda: [sweep(pool, scores, PREFIX, settings, draws=DRAWS) for _ in range(methods)])  # noqa: B023
        memory = peak() - before
        votes = PROBLEMS * methods * len(settings) * DRAWS
        small = seconds(lambda: plain(pool.subset(pool.problems[:2]), scores[:2], settings, 4))  # noqa: B023
        ratio = (votes / took) / (2 * len(settings) * 4 / small)
        shape = f"{PROBLEMS} x {methods} x {len(settings)} x {DRAWS:,}"
        table.add(f"{n:,}", shape, f"{took:.1f}", f"{votes / took:,.0f}", f"{ratio:.0f}x", f"{memory:,.0f}")
