"""How far an import is, for whoever shows it."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[int, int, str], None]
SILENT: Progress = lambda done, total, note: None  # noqa: E731
EVERY = 0.1  # seconds between two tellings


class Watch:
    """Is told often, and tells ``progress`` seldom: bytes that were gone through of how many, and a note.

    ``done`` that goes back says that the files are gone through again.
    """

    def __init__(self, progress: Progress = SILENT, every: float = EVERY) -> None:
        self.progress, self.every = progress, every
        self.done = self.total = 0
        self.note = ""
        self._told = float("-inf")

    def at(self, done: int, total: int) -> None:
        """Say how far it is."""
        self.done, self.total = done, total
        self._tell()

    def say(self, note: str) -> None:
        """Say what there is by now."""
        self.note = note
        self._tell()

    def finish(self) -> None:
        """Say that all was gone through."""
        self.done = self.total
        self.progress(self.done, self.total, self.note)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= self.every:
            self._told = now
            self.progress(self.done, self.total, self.note)
