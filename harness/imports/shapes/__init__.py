"""Row formats that need no mapping: each module of this folder with a ``SHAPE``. No row fits two formats."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from harness.api import PathpruneError
from harness.imports.reading import Shape
from harness.text import unknown
from tasks.benchmarks.files import Row

ANY = "fields"  # the format of all other rows


@cache
def shapes() -> dict[str, Shape]:
    """All formats by name, the generic one last."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found: list[Shape] = [module.SHAPE for module in modules if hasattr(module, "SHAPE")]
    return {shape.name: shape for shape in sorted(found, key=lambda shape: (shape.name == ANY, shape.name))}


def named(name: str) -> Shape:
    """The format with this name.

    Raises:
        PathpruneError: if no format has this name.
    """
    if name not in shapes():
        raise PathpruneError(unknown("shape of paths", name, list(shapes())))
    return shapes()[name]


def of(row: Row) -> Shape:
    """The format of a row."""
    return next(shape for shape in shapes().values() if shape.fits(row))


def is_row(value: object) -> bool:
    """Is this object, which contains a list of objects, itself a row of a known format?"""
    return isinstance(value, dict) and of(value).name != ANY
