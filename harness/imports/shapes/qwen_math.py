"""Qwen2.5-Math's evaluation: one row per problem with lists ``code`` (texts), ``pred``, ``score`` and ``pred_score``."""

from __future__ import annotations

from harness.imports.reading import Flat

SHAPE = Flat(
    "qwen_math",
    frozenset({"code", "pred", "score"}),
    {
        "id": ["idx"],
        "problem": ["question"],
        "gold": ["gt", "answer"],
        "text": ["code"],
        "answer": ["pred"],
        "correct": ["score"],
        "rewards": ["pred_score", ""],
    },
)
