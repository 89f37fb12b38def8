"""A limit to what computing something takes, kept by the main thread's own clock."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 0.05  # seconds after which it is raised again, where a library kept it


class LateError(BaseException):
    """Time is up; no handler of a library may keep it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise ``LateError`` in the block after so many seconds of a processor, and again until the block ends.

    A call into compiled code is not interrupted before it returns. Outside of the main thread nothing is limited.
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
