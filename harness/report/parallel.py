"""All cores: threads over the methods of one table, where numpy lets go of the interpreter, and processes over tables."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

from harness.signals import deferred

MOST = 8  # workers, each of which holds arrays of a sweep's size

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``[function(item) for item in items]``, in the same order."""
    if _workers() < 2:
        return list(map(function, items))
    with ThreadPoolExecutor(_workers()) as pool:
        return list(pool.map(function, items))


def each_table(function: Callable[[Item], Result], tables: Sequence[Item]) -> list[Result]:
    """The same in processes of their own, the first tables first; ``function`` and what it returns are picklable."""
    workers = min(_workers(), len(tables))
    if workers < 2:
        return [function(table) for table in tables]
    with ProcessPoolExecutor(workers, initializer=_begin) as pool:
        with deferred():
            results = pool.map(function, tables)
        return list(results)


def _workers() -> int:
    return max(1, min(MOST, os.cpu_count() or 1))


def _begin() -> None:
    """In a process of one's own: interrupts are the parent's, and the cores are shared out already."""
    global MOST
    MOST = 1
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
