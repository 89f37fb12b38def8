"""Requests of one kind at a time: a server's batch that mixes kinds may answer one as if it were of the other."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from threading import Condition


class Turns:
    """Lets any number of threads in that are of one kind, and those of another when these have left.

    A kind that waits is next: nobody of the kind that is in enters before it, so that neither waits for ever.
    """

    def __init__(self) -> None:
        self._bell = Condition()
        self._kind: Hashable = None
        self._inside = 0
        self._waiting: list[tuple[Hashable, object]] = []  # in the order in which they came

    @contextmanager
    def of(self, kind: Hashable) -> Iterator[None]:
        """Wait for a turn of this kind, and keep it in the block."""
        me = (kind, object())
        with self._bell:
            self._waiting.append(me)
            self._bell.wait_for(lambda: self._may_enter(me))
            self._waiting.remove(me)
            self._kind, self._inside = kind, self._inside + 1
            self._bell.notify_all()
        try:
            yield
        finally:
            with self._bell:
                self._inside -= 1
                self._bell.notify_all()

    def _may_enter(self, me: tuple[Hashable, object]) -> bool:
        """Is nobody of another kind inside, or waiting for longer?"""
        earlier = self._waiting[: self._waiting.index(me)]
        return (not self._inside or self._kind == me[0]) and all(kind == me[0] for kind, _ in earlier)
