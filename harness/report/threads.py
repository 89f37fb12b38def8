"""One function on many methods, on all cores: numpy lets go of the interpreter while it counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MOST = 8  # threads, each of which holds arrays of a sweep's size

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``[function(item) for item in items]``, in the same order."""
    with ThreadPoolExecutor(max(1, min(MOST, os.cpu_count() or 1))) as pool:
        return list(pool.map(function, items))
