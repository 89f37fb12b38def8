"""Several processes in one folder: one writer at a time, and problems that one of them works on.

A lock is the operating system's, on a file that is deleted when it is released: it dies with its process, and what a killed
process leaves of it is taken by the next.
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

PATIENCE = 60.0  # seconds for which a writer waits for another, whose turn is milliseconds
LOOK = 0.01  # seconds between looks at a lock
MOST = 128  # claims at once, each of which holds a file open
CLAIM = ".claim-"
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)  # nobody samples into such a folder, so nobody waits


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """The only writer in a folder, which is made where it is missing. Not to be entered twice.

    Raises:
        PathpruneError: the folder cannot be written to, or another process does not end writing there.
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
    """The problems in a folder that this process works on: others wait for them, or take other ones.

    Use as a context: at its end, everything is released.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, FileLock] = {}

    def take(self, names: Iterable[str], most: int) -> list[str]:
        """The first of ``names`` that nobody works on, at most ``most`` of them; they are this process's now."""
        free = (name for name in names if name not in self._held and self._try(name))
        return list(islice(free, min(most, MOST)))

    def take_in_order(self, names: Iterable[str]) -> list[str]:
        """``names`` up to the first that somebody works on; they are this process's now."""
        return list(islice(takewhile(self._try, names), MOST))

    def release(self, names: Iterable[str]) -> None:
        """Let others have them."""
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
    """The only process that is ``doing`` something to a file or a folder.

    Raises:
        PathpruneError: another one is.
    """
    with Claims(target.parent) as claims:
        if not claims.take([f"{doing} {target.name}"], 1):
            raise PathpruneError(f"another process is {doing} {target}; wait for it, or choose another folder")
        yield


def _release(lock: FileLock) -> None:
    # Deleted while it is held: whoever waits for a deleted file sees so, and makes a new one.
    with suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
