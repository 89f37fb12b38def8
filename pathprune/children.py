"""Modules that were loaded from a file by name, for processes that start beside this one: what is sent there names its module."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

VARIABLE = "PATHPRUNE_PLUGIN_FILES"  # in the environment, which such processes inherit
PREFIX = "pathprune_plugin_"


def tell_children(module: str, file: Path) -> None:
    """Let processes that are spawned from now on import ``module`` from ``file``."""
    os.environ[VARIABLE] = json.dumps(_files() | {module: str(file)})


class Finder:
    """Finds what ``tell_children`` told in the process that started this one."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder``."""
        file = _files().get(name) if name.startswith(PREFIX) else None
        return None if file is None else spec_from_file_location(name, file)


def listen() -> None:
    """Find such modules here, once."""
    if VARIABLE in os.environ and Finder not in sys.meta_path:
        sys.meta_path.append(Finder)


def _files() -> dict[str, str]:
    try:
        files = json.loads(os.environ.get(VARIABLE, "{}"))
    except ValueError:
        return {}
    return files if isinstance(files, dict) else {}
