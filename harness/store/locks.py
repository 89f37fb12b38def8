"""Coordinate several processes in one folder: one writer at a time, and claims on problems.

Locks are those of the operating system, on files that are deleted on release. A lock ends with its process, and the file
that a killed process leaves is reused by the next one.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice, takewhile
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from harness.api import PathpruneError
from harness.store.files import refused
from harness.store.keys import digest

PATIENCE = 60.0  # seconds that a writer waits for another one; a write takes milliseconds
LOOK = 0.01  # seconds between two attempts to take a lock
MOST = 128  # maximum concurrent claims, each of which is an open file
CLAIM = ".claim-"
READ_ONLY = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
)  # no process can write to such a folder, so there is nothing to wait for


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the only writer in a folder, which is created if missing. Not reentrant.

    Raises:
        PathpruneError: the folder is not writable, or another process holds it for too long.
    """
    lock = FileLock(folder / ".writing.lock", timeout=PATIENCE, poll_interval=LOOK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise PathpruneError(
            f"another process has been writing in {folder} for {PATIENCE:.0f} seconds; end it, or wait and run again"
        ) from error
    except OSError as error:
        raise refused(folder, error) from error
    try:
        yield
    finally:
        _release(lock)


class Claims:
    """The problems in a folder that this process is working on; other processes wait for them or take others.

    Use it as a context manager, which releases all claims at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, FileLock] = {}

    def take(self, names: Iterable[str], most: int) -> list[str]:
        """Claim the first of ``names`` that no other process has claimed, at most ``most``; returns them."""
        free = (name for name in names if name not in self._held and self._try(name))
        return list(islice(free, min(most, MOST)))

    def take_in_order(self, names: Iterable[str]) -> list[str]:
        """Claim ``names`` up to the first one that another process has claimed; returns them."""
        return list(islice(takewhile(self._try, names), MOST))

    def release(self, names: Iterable[str]) -> None:
        """Release claims."""
        for name in names:
            _release(self._held.pop(name))

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(list(self._held))
        for left in self.folder.glob(f"{CLAIM}{'[0-9a-f]' * 12}"):
            lock = FileLock(left, timeout=0)
            with suppress(Timeout, OSError):
                lock.acquire()
                _release(lock)

    def _try(self, name: str) -> bool:
        lock = FileLock(self.folder / f"{CLAIM}{digest({'name': name})}", timeout=0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise refused(self.folder, error) from error
        self._held[name] = lock
        return True


@contextmanager
def sole(target: Path, doing: str) -> Iterator[None]:
    """Be the only process that is ``doing`` something to a file or folder.

    Raises:
        PathpruneError: another process is doing it.
    """
    with Claims(target.parent) as claims:
        if not claims.take([f"{doing} {target.name}"], 1):
            raise PathpruneError(f"another process is {doing} {target}; wait for it, or choose another folder")
        yield


def _release(lock: FileLock) -> None:
    # Deleted while held: a process that waits for a deleted file notices that and creates a new one.
    with suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
