"""From files to a pool: the single entry point."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any

from harness.api import PathpruneError
from harness.imports import opening
from harness.imports.draft import Draft
from harness.imports.pool import Pool
from harness.imports.shapes import pathprune_pool
from harness.imports.wanted import Wanted
from harness.imports.watch import SILENT, Progress, Watch
from harness.store.locks import sole
from harness.store.names import is_file_name
from harness.text import shown


def import_files(wanted: Wanted, name: str, pools: FilePath, progress: Progress = SILENT) -> Pool:
    """Import files as a pool, or open the pool if the same import was done before.

    Args:
        wanted: files and options.
        name: the pool's name.
        pools: the folder of pools.
        progress: receives the progress.

    Raises:
        PathpruneError: a file that cannot be read or graded, with its row; another pool with this name.
    """
    if not is_file_name(name) or name.startswith("."):
        raise PathpruneError(f"a pool's name must be one word that can name a folder, not {shown(name)}")
    folder, key = pools / name, wanted.key
    with sole(folder, "importing"):
        if folder.exists():
            known = Pool.open(folder)
            if known.about.get("key") != key:
                raise PathpruneError(
                    f"{folder} is another pool, with other files or options; choose another name, or move it away"
                )
            return known
        watch = Watch(progress)
        reading = open_reading(wanted, watch)
        draft = Draft(pools / f".{name}.importing", wanted, key, getattr(reading, "about", {}))
        draft.fill(reading, watch)
        draft.publish(reading, name, folder)
    return Pool.open(folder)


def open_reading(wanted: Wanted, watch: Watch) -> Any:
    """Open the problems of some files lazily: our own export, or any known format."""
    for file in wanted.files:
        path = FilePath(file).expanduser()
        if "://" not in file and not path.exists() and not path.is_symlink():
            raise PathpruneError(f"no file or folder at {file}; name the file that contains the paths")
    if wanted.shape in (None, pathprune_pool.NAME) and pathprune_pool.is_ours(wanted.files):
        return pathprune_pool.Reading(wanted.files, watch)
    return opening.read(wanted.files, wanted.mapping, shape=wanted.shape, skip_bad=wanted.skip_bad, watch=watch)
