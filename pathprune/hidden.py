"""Our packages have plain names: a user's own ``tasks.py`` in the working folder must not stand in for ours."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGES = ("harness", "pruners", "tasks")
ROOT = Path(__file__).resolve().parent.parent


def ours() -> None:
    """Import our packages where another module of the same name comes first on the path; a warning names that module.

    Raises:
        ImportError: another module of that name is imported already, so that ours cannot be.
    """
    for name in PACKAGES:
        loaded = sys.modules.get(name)
        if loaded is not None:
            if not _is_ours(name, getattr(loaded, "__file__", None)):
                raise ImportError(
                    f"{getattr(loaded, '__file__', name)} hides pathprune's own package {name!r}: rename it, or import pathprune first"
                )
            continue
        found = importlib.util.find_spec(name)
        if found is None or not _is_ours(name, found.origin):
            _load(name)
            if found is not None and found.origin:
                warnings.warn(
                    f"{found.origin} cannot be imported as {name!r} beside pathprune; rename it", stacklevel=3
                )


def _is_ours(name: str, file: str | None) -> bool:
    return file is not None and Path(file).resolve() == ROOT / name / "__init__.py"


def _load(name: str) -> None:
    """Import a package of ours from beside this one."""
    spec = PathFinder.find_spec(name, [str(ROOT)])
    if spec is None or spec.loader is None:
        raise ImportError(f"pathprune is damaged: its package {name!r} is not at {ROOT}; reinstall it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
