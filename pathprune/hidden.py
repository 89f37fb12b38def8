"""Our packages have plain names: a user's own ``tasks.py`` in the working folder must not stand in for ours."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
import traceback
import warnings
from functools import cache
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


def stand_in(error: BaseException) -> str | None:
    """A file that was imported in place of a library or a module of Python of the same name, if that may be why ``error`` came."""
    modules = [frame.f_globals for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, ImportError | AttributeError):  # it lacks something that the library has
        modules += [vars(module) for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
    named = {str(m.get("__name__")): str(m.get("__file__")) for m in modules if m.get("__file__")}
    return next((file for name, file in named.items() if _hides(name, file)), None)


def _hides(name: str, file: str) -> bool:
    """Does a module lie outside of where the library of its name is installed?"""
    if "." in name:
        return False
    real = Path(file).resolve()
    if any(real.is_relative_to(home) for home in (*_homes(), ROOT)):
        return False
    theirs = PathFinder.find_spec(name, [str(home) for home in _homes()])
    return theirs is not None and theirs.origin is not None


@cache
def _homes() -> tuple[Path, ...]:
    """Where Python's own modules and installed libraries lie."""
    return tuple(Path(sysconfig.get_path(home)).resolve() for home in ("stdlib", "platstdlib", "purelib", "platlib"))


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
