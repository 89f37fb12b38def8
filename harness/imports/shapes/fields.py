"""Generic rows, one per path or one per problem, whose fields have common or mapped names."""

from __future__ import annotations

from harness.imports.reading import Flat

SHAPE = Flat("fields", frozenset(), {})
