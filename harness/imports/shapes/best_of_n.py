"""Best of n: one row per problem with ``completions``, ``scores`` of their steps and ``completion_tokens``.

``pred`` is the selected completion and not the answer of a path.
"""

from __future__ import annotations

from harness.imports.reading import Flat

SHAPE = Flat(
    "best_of_n",
    frozenset({"completions", "scores", "completion_tokens"}),
    {
        "id": ["unique_id", "id", "idx"],
        "problem": ["problem"],
        "gold": ["answer", "solution"],
        "text": ["completions"],
        "length": ["completion_tokens"],
        "rewards": ["scores"],
        "answer": [""],
    },
)
