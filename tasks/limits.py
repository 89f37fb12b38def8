"""A limit on CPU time, enforced in the main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 0.05  # seconds until the error is raised again, in case a library caught it


class LateError(BaseException):
    """The time limit is exceeded; a BaseException, which libraries rarely catch."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise ``LateError`` in the block after ``seconds`` of CPU time, repeatedly until the block ends.

    Calls into compiled code are not interrupted before they return. Outside the main thread there is no limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise LateError

    handler = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
