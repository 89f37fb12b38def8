"""Write folders atomically."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.api import PathpruneError
from harness.store.files import locks, saying, settled, short

NEW, OLD = ".part", ".old"


@contextmanager
def writable_folder(folder: Path, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder, which is renamed to ``folder`` at the end of the block.

    The temporary folder is private to this process and has the same parent. Leftovers of killed writers are removed first.

    Args:
        folder: the final path.
        replace: replace an existing folder; it is kept until the new one is complete.

    Raises:
        PathpruneError: the disk is full, permission is denied, or the folder exists. An existing folder is kept.
    """
    with saying(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _drop_left(folder)
        with _held(Path(tempfile.mkdtemp(NEW, f".{short(folder.name)}.", folder.parent))) as part:
            part.chmod(0o777 & ~_umask())
            yield part
            _settle(part)
            _take_its_place(part, folder, replace)
        settled(folder.parent)


def apart(out: Path, what: str, *sources: Path) -> None:
    """Refuse an output folder that overlaps an input folder.

    Raises:
        PathpruneError: ``out`` is one of ``sources``, contains it, or is inside it.
    """
    target = out.expanduser().resolve()
    for source in (s.resolve() for s in sources):
        if target == source or target in source.parents or source in target.parents:
            raise PathpruneError(f"{out} overlaps {what} {source.name}; choose a separate folder")


def _take_its_place(part: Path, folder: Path, replace: bool) -> None:
    """Rename ``part`` to ``folder``; an existing folder is moved aside first and removed last."""
    if not os.path.lexists(folder):
        part.rename(folder)
        return
    if not replace:
        raise PathpruneError(f"{folder} exists; choose another folder")
    aside = part.with_suffix(OLD)
    folder.rename(aside)
    try:
        part.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    _remove(aside)


def _drop_left(folder: Path) -> None:
    """Restore or remove the leftovers of killed writers of a folder; living writers hold a lock."""
    prefix = f".{short(folder.name)}."
    for left in sorted(folder.parent.iterdir()):
        if not left.name.startswith(prefix) or left.suffix not in (NEW, OLD) or "." in left.stem[len(prefix) :]:
            continue
        if left.suffix == OLD and not os.path.lexists(folder):
            left.rename(folder)
        elif left.is_dir() and not left.is_symlink() and not _locked(left):
            _remove(left)


@contextmanager
def _held(part: Path) -> Iterator[Path]:
    """Lock a temporary folder; it is removed at the end of the block unless it was renamed."""
    handle = os.open(part, os.O_RDONLY)
    locks(handle, without_locks=True)
    try:
        yield part
    finally:
        _remove(part)
        os.close(handle)


def _locked(folder: Path) -> bool:
    """Whether a living process writes this folder; True if that cannot be determined."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return True
    try:
        return not locks(handle, without_locks=False)
    finally:
        os.close(handle)


def _settle(folder: Path) -> None:
    """Flush the folder's contents to disk before it is renamed."""
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            handle = os.open(file, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
