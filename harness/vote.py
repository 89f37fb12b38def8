"""Majority vote over canonical answers."""

from __future__ import annotations

from collections.abc import Sequence


def majority(answers: Sequence[str | None]) -> str | None:
    """The most frequent answer; a path without an answer does not vote; a tie goes to the answer seen first."""
    counts: dict[str, int] = {}
    for answer in answers:
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + 1
    return max(counts, key=counts.__getitem__) if counts else None
