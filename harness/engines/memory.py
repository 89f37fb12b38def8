"""Recognise out-of-memory errors of Python, torch and its allocators, and turn them into one line with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.api import PathpruneError

# Messages of allocators in a plain RuntimeError: torch on a CPU, CUDA, cuBLAS.
SAID = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Unable to allocate",
)
ADVICE = "lower memory= (bytes of KV) or rows= (paths side by side) of the engine, or take a smaller model or dtype"


def ran_out(error: BaseException) -> bool:
    """Whether an error, or one of its causes, is an out-of-memory error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or type(seen).__name__ == "OutOfMemoryError":
            return True
        if isinstance(seen, RuntimeError) and any(words in str(seen) for words in SAID):
            return True
        seen = seen.__cause__
    return False


def refused(what: str, advice: str = ADVICE) -> PathpruneError:
    """The one-line error for insufficient memory."""
    return PathpruneError(f"{what}; {advice}")


@contextmanager
def named(what: str = "memory ran out", advice: str = ADVICE) -> Iterator[None]:
    """Turn out-of-memory errors within the block into one line; other errors pass."""
    try:
        yield
    except PathpruneError:
        raise
    except (MemoryError, RuntimeError) as error:
        if ran_out(error):
            raise refused(what, advice) from error
        raise
