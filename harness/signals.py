"""Ctrl-C handling without tracebacks, neither of this process nor of its child processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

INTERRUPTED = 130  # the exit code
Handler = Any


class Interrupts:
    """Ctrl-C handling while a command runs. ``came``: Ctrl-C was pressed, even if an import swallowed the exception."""

    def __init__(self) -> None:
        self.came = False

    @contextmanager
    def caught(self, handler: Handler) -> Iterator[None]:
        """Install ``handler`` within the block; a process that ignores Ctrl-C keeps ignoring it."""
        if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
            yield
            return
        before = signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def remember(self, *_: Any) -> None:
        """Interrupt the work, which then leaves its files in a valid state."""
        self.came = True
        raise KeyboardInterrupt

    def leave(self, *_: Any) -> None:
        """Exit immediately: no work has started, and an import may not handle the interrupt cleanly."""
        os.write(2, b"interrupted before any work started\n")
        os._exit(INTERRUPTED)


@contextmanager
def deferred() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block. Processes started inside never receive it; they end with this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
