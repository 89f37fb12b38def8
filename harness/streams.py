"""Output streams whose failure must not stop the work: progress, warnings and error messages."""

from __future__ import annotations

from contextlib import suppress
from typing import Any


class Unfailing:
    """A stream that silently drops output that cannot be written, for example because the disk is full."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, ignoring errors of the system."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, ignoring errors of the system."""
        with suppress(OSError):
            self._stream.flush()


def unfailing(stream: Any) -> Any:
    """The stream wrapped in ``Unfailing``, unless it is None or wrapped already."""
    return stream if isinstance(stream, Unfailing) or stream is None else Unfailing(stream)
