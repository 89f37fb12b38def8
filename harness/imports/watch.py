"""Progress of an import, for display."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[int, int, str], None]
SILENT: Progress = lambda done, total, note: None  # noqa: E731
EVERY = 0.1  # seconds between two updates


class Watch:
    """Throttles updates to ``progress``: bytes read, total bytes, and a note.

    ``done`` falls when another pass over the files begins.
    """

    def __init__(self, progress: Progress = SILENT, every: float = EVERY) -> None:
        self.progress, self.every = progress, every
        self.done = self.total = 0
        self.note = ""
        self._told = float("-inf")

    def at(self, done: int, total: int) -> None:
        """Report the bytes read so far."""
        self.done, self.total = done, total
        self._tell()

    def say(self, note: str) -> None:
        """Report a note."""
        self.note = note
        self._tell()

    def finish(self) -> None:
        """Report completion."""
        self.done = self.total
        self.progress(self.done, self.total, self.note)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= self.every:
            self._told = now
            self.progress(self.done, self.total, self.note)
