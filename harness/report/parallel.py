"""Parallelism over all cores: threads for the methods of a table (numpy releases the GIL), processes for tables."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from typing import TypeVar

from threadpoolctl import threadpool_limits

from harness.signals import deferred

MOST = 8  # workers; each holds the arrays of a whole sweep

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``[function(item) for item in items]``, computed in threads."""
    if _workers() < 2:
        return list(map(function, items))
    with ThreadPoolExecutor(_workers()) as pool:
        return list(pool.map(function, items))


def each_table(
    function: Callable[[Item], Result],
    tables: Sequence[Item],
    done: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """The same in processes, started in the order of ``tables``; ``function`` and its results have to be picklable.

    Args:
        done: called with each result on completion, in any order.
    """
    workers = min(_workers(), len(tables))
    if workers < 2:
        return [_told(function(table), done) for table in tables]
    with ProcessPoolExecutor(workers, initializer=_begin) as pool:
        with deferred():
            futures = [pool.submit(function, table) for table in tables]
        try:
            for future in as_completed(futures):
                done(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # running work completes, and no more is started
            raise
        return [future.result() for future in futures]


def _told(result: Result, done: Callable[[Result], None]) -> Result:
    done(result)
    return result


def _workers() -> int:
    return max(1, min(MOST, os.cpu_count() or 1))


def _begin() -> None:
    """Set up a worker process: the parent handles interrupts, and each worker computes with one thread."""
    global MOST
    MOST = 1
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
