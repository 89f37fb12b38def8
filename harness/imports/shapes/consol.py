"""ConSol: one CSV per problem, identified by the file name. Each row has an ``answer`` and its ``token_usage``."""

from __future__ import annotations

from harness.imports.reading import Flat

SHAPE = Flat(
    "consol",
    frozenset({"answer", "token_usage"}),
    {"answer": ["answer"], "length": ["token_usage"], "gold": [""]},
    from_file=True,
)
