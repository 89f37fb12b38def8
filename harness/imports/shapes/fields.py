"""Any rows whose fields have common names, one row for each path or one for each problem, or names that are mapped."""

from __future__ import annotations

from harness.imports.reading import Flat

SHAPE = Flat("fields", frozenset(), {})
