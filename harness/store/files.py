"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.api import PathpruneError

try:
    import fcntl
except ImportError:  # Windows: what a killed process leaves stays there
    fcntl = None  # type: ignore[assignment]

PART = ".part"
# What safetensors and torch say of a write that failed; neither raises an OSError.
FAILED_WRITES = ("I/O error", "IoError", "PytorchStreamWriter", "iostream error", "unexpected pos", "basic_ios")
MENDS = {  # by what the system says of a write
    (errno.ENOSPC, errno.EFBIG, errno.EDQUOT): "free space, or choose another folder",
    (errno.EACCES, errno.EPERM, errno.EROFS): "get the permission to write there, or choose another folder",
}


@contextmanager
def writable(file: Path) -> Iterator[Path]:
    """Where to write a file that appears under its name when it is whole.

    The path given is a new file of this process alone beside ``file``; two writers of one file do not meet, and the last to
    end wins. A symbolic link at ``file`` is replaced, never followed.

    Raises:
        PathpruneError: the disk or the permissions refuse; says what to do. What was there stays.
    """
    with saying(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(file) as part:
            yield part
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            part.replace(file)


@contextmanager
def saying(where: Path) -> Iterator[None]:
    """Make one line about ``where`` of a write that the disk or the permissions refuse, whichever library was writing."""
    try:
        yield
    except OSError as error:
        raise refused(where, error) from error
    except PathpruneError:
        raise
    except Exception as error:
        if not any(words in str(error) for words in FAILED_WRITES):
            raise
        raise refused(where, OSError(errno.ENOSPC, " ".join(str(error).split())[:160])) from error


@contextmanager
def _part_of(file: Path) -> Iterator[Path]:
    """A new file beside ``file``, which goes when this ends; those that killed writers of ``file`` left go first."""
    for left in file.parent.glob(f".{glob.escape(short(file.name))}.*{PART}"):
        _drop_if_left(left)
    while True:
        part = file.with_name(f".{short(file.name)}.{secrets.token_hex(4)}{PART}")
        handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        # Another writer may have taken it for one that was left, before it was locked.
        if locks(handle, without_locks=True) and part.exists():
            break
        os.close(handle)
    try:
        yield part
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        os.close(handle)


def short(name: str) -> str:
    """A file's name that leaves room for what is added to it: names of files hold 255 bytes."""
    return name.encode()[:200].decode(errors="ignore")


def _drop_if_left(part: Path) -> None:
    """Delete a file whose writer has died: those of living ones are locked."""
    with suppress(OSError):
        handle = os.open(part, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            if locks(handle, without_locks=False):
                part.unlink()
        finally:
            os.close(handle)


def locks(handle: int, without_locks: bool) -> bool:
    """Is the file this process's alone? ``without_locks`` is the answer of a system that has no locks."""
    if fcntl is None:
        return without_locks
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without_locks
    return True


def settled(folder: Path) -> None:
    """Make the names in a folder durable, those of files that were just written or replaced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # not every system opens folders
        return
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def refused(file: Path, error: OSError) -> PathpruneError:
    """The one line that a disk or its permissions cause."""
    mend = next((advice for numbers, advice in MENDS.items() if error.errno in numbers), "choose another folder")
    return PathpruneError(
        f"cannot write {file} ({error.strerror or error}); {mend}; what is finished is kept, and the same command goes on"
    )
