"""Write files atomically."""

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
except ImportError:  # Windows: files of killed processes are not cleaned up
    fcntl = None  # type: ignore[assignment]

PART = ".part"
# Messages of safetensors and torch for a failed write; neither raises an OSError.
FAILED_WRITES = ("I/O error", "IoError", "PytorchStreamWriter", "iostream error", "unexpected pos", "basic_ios")
MENDS = {  # remedies by error number
    (errno.ENOSPC, errno.EFBIG, errno.EDQUOT): "free space, or choose another folder",
    (errno.EACCES, errno.EPERM, errno.EROFS): "get the permission to write there, or choose another folder",
}


@contextmanager
def writable(file: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which is renamed to ``file`` at the end of the block.

    The temporary file is private to this process and in the same folder. If several processes write ``file``, the last one
    to finish wins. A symbolic link at ``file`` is replaced, never followed.

    Raises:
        PathpruneError: the disk is full or permission is denied; states the remedy. An existing file is kept.
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
    """Turn a failed write within the block, by any library, into one line about ``where``."""
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
    """A temporary file beside ``file``, removed at the end of the block; leftovers of killed writers are removed first."""
    for left in file.parent.glob(f".{glob.escape(short(file.name))}.*{PART}"):
        _drop_if_left(left)
    while True:
        part = file.with_name(f".{short(file.name)}.{secrets.token_hex(4)}{PART}")
        handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        # Before it was locked, another writer may have mistaken it for a leftover.
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
    """A file name shortened to leave room for suffixes within 255 bytes."""
    return name.encode()[:200].decode(errors="ignore")


def _drop_if_left(part: Path) -> None:
    """Remove a temporary file if its writer has died; living writers hold a lock."""
    with suppress(OSError):
        handle = os.open(part, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            if locks(handle, without_locks=False):
                part.unlink()
        finally:
            os.close(handle)


def locks(handle: int, without_locks: bool) -> bool:
    """Try to lock a file; returns whether this process holds it. ``without_locks``: the result on systems without locks."""
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
    """Flush a folder's directory entries to disk, after files were written or renamed."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # some systems cannot open folders
        return
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def refused(file: Path, error: OSError) -> PathpruneError:
    """The error for a failed write, with a remedy."""
    mend = next((advice for numbers, advice in MENDS.items() if error.errno in numbers), "choose another folder")
    return PathpruneError(
        f"cannot write {file} ({error.strerror or error}); {mend}; finished work is kept, and the same command continues it"
    )
