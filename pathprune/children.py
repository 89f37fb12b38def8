"""Lets spawned processes import modules that were loaded from a file, since objects are pickled by module name."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

VARIABLE = "PATHPRUNE_PLUGIN_FILES"  # environment variable, inherited by spawned processes
PREFIX = "pathprune_plugin_"


def tell_children(module: str, file: Path) -> None:
    """Let processes spawned from now on import ``module`` from ``file``."""
    os.environ[VARIABLE] = json.dumps(_files() | {module: str(file)})


class Finder:
    """Finds the modules that ``tell_children`` registered in the parent process."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder``."""
        file = _files().get(name) if name.startswith(PREFIX) else None
        return None if file is None else spec_from_file_location(name, file)


def listen() -> None:
    """Install the finder in this process, once."""
    if VARIABLE in os.environ and Finder not in sys.meta_path:
        sys.meta_path.append(Finder)


def _files() -> dict[str, str]:
    try:
        files = json.loads(os.environ.get(VARIABLE, "{}"))
    except ValueError:
        return {}
    return files if isinstance(files, dict) else {}
