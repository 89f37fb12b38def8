"""Folders that appear under their name when they are whole."""

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
    """Where to write a folder that appears under its name when it is whole.

    The path given is a new, empty folder of this process alone beside ``folder``. What killed writers of ``folder`` left
    goes first.

    Args:
        folder: its name in the end.
        replace: whether a folder that is there already is replaced, in the last moment; it is never lost.

    Raises:
        PathpruneError: the disk or the permissions refuse, or there is such a folder. What was there stays.
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
    """Refuse to write where something is read from.

    Raises:
        PathpruneError: ``out`` is, holds or lies in one of ``sources``.
    """
    target = out.expanduser().resolve()
    for source in (s.resolve() for s in sources):
        if target == source or target in source.parents or source in target.parents:
            raise PathpruneError(f"{out} is or holds or lies in {what} {source.name}; choose a folder of its own")


def _take_its_place(part: Path, folder: Path, replace: bool) -> None:
    """Rename ``part`` to ``folder``; one that was there steps aside first and goes last."""
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
    """Put back or drop what killed writers of a folder left: those of living ones are locked."""
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
    """The folder, locked; it goes when this ends unless it has another name by then."""
    handle = os.open(part, os.O_RDONLY)
    locks(handle, without_locks=True)
    try:
        yield part
    finally:
        _remove(part)
        os.close(handle)


def _locked(folder: Path) -> bool:
    """Whether a living process writes this folder; where nothing can be told, it is taken for one that does."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return True
    try:
        return not locks(handle, without_locks=False)
    finally:
        os.close(handle)


def _settle(folder: Path) -> None:
    """Make what was written durable, before it has its name."""
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
