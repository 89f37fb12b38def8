"""Ctrl-C: never a traceback, and never one of a process that was started beside this one."""

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
    """What Ctrl-C does while a command runs. ``came``: it was pressed, whatever an import has made of it since."""

    def __init__(self) -> None:
        self.came = False

    @contextmanager
    def caught(self, handler: Handler) -> Iterator[None]:
        """``handler`` instead of the usual one; a process that was told to ignore Ctrl-C goes on ignoring it."""
        if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
            yield
            return
        before = signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def remember(self, *_: Any) -> None:
        """Interrupt the work, which puts its files in order."""
        self.came = True
        raise KeyboardInterrupt

    def leave(self, *_: Any) -> None:
        """End this process here: nothing has been begun, and what is being imported may not be interrupted cleanly."""
        os.write(2, b"interrupted before anything was begun\n")
        os._exit(INTERRUPTED)


@contextmanager
def deferred() -> Iterator[None]:
    """Ctrl-C takes effect behind this block. Processes that start inside never see it: they end with this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
