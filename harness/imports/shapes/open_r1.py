"""OpenR1: one row per problem with ``generations`` and their grades ``correctness_math_verify``."""

from __future__ import annotations

from harness.imports.reading import Flat

SHAPE = Flat(
    "open_r1",
    frozenset({"generations", "correctness_math_verify"}),
    {
        "id": ["uuid"],
        "problem": ["problem"],
        "gold": ["answer", "solution"],
        "text": ["generations"],
        "correct": ["correctness_math_verify"],
        "finish": ["finish_reasons"],
        "messages": [""],
    },
)
