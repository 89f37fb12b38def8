"""Common prefixes ("heads") of prompts, by token ids. Each head is computed once and shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from harness.api import Heads

Ids = tuple[int, ...]
LEAST = 16  # minimum tokens that a head must save; for fewer, the extra forward pass costs more than it saves


def heads_of(sequences: Sequence[Ids], known: Sequence[Ids] = ()) -> Heads:
    """Plan the heads to compute for ``sequences``, given that the KV of ``known`` heads is cached.

    A head always leaves at least one token of each of its sequences to compute.
    """
    every = set(known)
    new: list[tuple[Ids, int]] = []
    for head in sorted(set(_branches(sorted(set(sequences)), 0)), key=len):
        covered = _longest(head, every)
        if head not in every:
            new.append((head, len(covered)))
            every.add(head)
    return Heads(tuple(new), tuple(_longest(ids[:-1], every) for ids in sequences))


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _longest(ids: Ids, heads: set[Ids]) -> Ids:
    fit = (head for head in heads if len(head) <= len(ids) and head[-1] == ids[len(head) - 1])
    return max((head for head in fit if ids[: len(head)] == head), key=len, default=())


def _branches(ordered: Sequence[Ids], covered: int) -> Iterator[Ids]:
    """Common prefixes of two or more of some sorted sequences, whose first ``covered`` tokens are a head already."""
    if len(ordered) < 2:
        return
    common = min(shared(ordered[0], ordered[-1]), min(map(len, ordered)) - 1)
    if (common - covered) * (len(ordered) - 1) >= LEAST:
        yield ordered[0][:common]
        covered = common
    for _, group in groupby(ordered, key=lambda ids: ids[: common + 1]):
        alike = list(group)
        if len(alike) < len(ordered):
            yield from _branches(alike, covered)
