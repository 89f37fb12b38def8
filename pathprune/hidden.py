"""Guards against shadowing: our packages have plain names, and a user's ``tasks.py`` must not replace ours."""

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
    """Import our packages even if another module of the same name comes first on the path; a warning names that module.

    Raises:
        ImportError: another module of that name is already imported.
    """
    for name in PACKAGES:
        loaded = sys.modules.get(name)
        if loaded is not None:
            if not _is_ours(name, getattr(loaded, "__file__", None)):
                raise ImportError(
                    f"{getattr(loaded, '__file__', name)} shadows pathprune's package {name!r}: rename it, or import pathprune first"
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
    """The file that shadows a library or a standard module of the same name, if that may have caused ``error``."""
    modules = [frame.f_globals for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, ImportError | AttributeError):  # the shadowing module lacks a name of the library
        modules += [vars(module) for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
    named = {str(m.get("__name__")): str(m.get("__file__")) for m in modules if m.get("__file__")}
    return next((file for name, file in named.items() if _hides(name, file)), None)


def _hides(name: str, file: str) -> bool:
    """Is a module outside the folders in which a library of its name would be installed?"""
    if "." in name:
        return False
    real = Path(file).resolve()
    if any(real.is_relative_to(home) for home in (*_homes(), ROOT)):
        return False
    theirs = PathFinder.find_spec(name, [str(home) for home in _homes()])
    return theirs is not None and theirs.origin is not None


@cache
def _homes() -> tuple[Path, ...]:
    """The folders of Python's standard modules and installed libraries."""
    return tuple(Path(sysconfig.get_path(home)).resolve() for home in ("stdlib", "platstdlib", "purelib", "platlib"))


def _is_ours(name: str, file: str | None) -> bool:
    return file is not None and Path(file).resolve() == ROOT / name / "__init__.py"


def _load(name: str) -> None:
    """Import one of our packages from the folder next to this one."""
    spec = PathFinder.find_spec(name, [str(ROOT)])
    if spec is None or spec.loader is None:
        raise ImportError(f"pathprune is damaged: its package {name!r} is not at {ROOT}; reinstall it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
