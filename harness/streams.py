"""Streams for what nobody's work may depend on: progress, warnings, the line of an error."""

from __future__ import annotations

from contextlib import suppress
from typing import Any


class Unfailing:
    """A stream that gives up what cannot be written, as on a full disk, and tells nobody."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be written."""
        with suppress(OSError):
            self._stream.flush()


def unfailing(stream: Any) -> Any:
    """The stream, made unfailing unless it is."""
    return stream if isinstance(stream, Unfailing) or stream is None else Unfailing(stream)
