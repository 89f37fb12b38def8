"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.api import PathpruneError


@contextmanager
def writable(file: Path) -> Iterator[Path]:
    """Write a file whole or not at all; says what to do when the disk or the permissions refuse."""
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError as error:
        raise refused(file, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


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
    return PathpruneError(
        f"cannot write {file} ({error.strerror or error}); free space or choose another folder with --results and --bank; "
        "what is finished is kept"
    )
