"""Memory that runs out: how it looks in Python, torch and its allocators, and the one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.api import PathpruneError

# What allocators say in a bare RuntimeError: torch on a CPU, CUDA itself, cuBLAS.
SAID = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Unable to allocate",
)
ADVICE = "lower memory= (bytes of KV) or rows= (paths side by side) of the engine, or take a smaller model or dtype"


def ran_out(error: BaseException) -> bool:
    """Whether an error, or one that it came from, is memory that ran out."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or type(seen).__name__ == "OutOfMemoryError":
            return True
        if isinstance(seen, RuntimeError) and any(words in str(seen) for words in SAID):
            return True
        seen = seen.__cause__
    return False


def refused(what: str, advice: str = ADVICE) -> PathpruneError:
    """The one line that memory causes."""
    return PathpruneError(f"{what}; {advice}")


@contextmanager
def named(what: str = "memory ran out", advice: str = ADVICE) -> Iterator[None]:
    """Make one line of memory that runs out within, and of nothing else."""
    try:
        yield
    except PathpruneError:
        raise
    except (MemoryError, RuntimeError) as error:
        if ran_out(error):
            raise refused(what, advice) from error
        raise
