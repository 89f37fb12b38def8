"""ConSol: a CSV for each problem, which its name says, with an ``answer`` and its ``token_usage`` in each row."""

from __future__ import annotations

from harness.imports.reading import Flat

SHAPE = Flat(
    "consol",
    frozenset({"answer", "token_usage"}),
    {"answer": ["answer"], "length": ["token_usage"], "gold": [""]},
    from_file=True,
)
