"""Given tokens of paths on disk: a column that exists only in pools and labels with tools."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

GIVEN = "given"


def are_spans(given: Any, length: int) -> bool:
    """Whether these are valid spans of ``length`` tokens: ascending, with sampled tokens before, between and after them."""
    if type(given) is not tuple or not all(type(span) is tuple and len(span) == 2 for span in given):
        return False
    ends = [0, *(end for span in given for end in span), length]
    return not given or (all(type(end) is int for end in ends) and all(a < b for a, b in pairwise(ends)))


def spans_of(ends: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Convert a flat list of starts and ends, as stored, to the spans of a path."""
    return tuple(zip(ends[::2], ends[1::2], strict=True))


def ends_of(given: Sequence[tuple[int, int]]) -> list[int]:
    """Convert the spans of a path to a flat list, for storage."""
    return [end for span in given for end in span]


def counted(table: pa.Table, lengths: pa.Array) -> pa.Array:
    """Number of given tokens of each path in a table.

    Raises:
        ValueError: the spans are not valid for paths of these lengths.
    """
    kind = table.schema.field(GIVEN).type
    if not (pa.types.is_list(kind) and pa.types.is_integer(kind.value_type)):
        raise ValueError(f"its column {GIVEN} must have lists of integers, not type {kind}")
    counts = []
    for ends, length in zip(table[GIVEN].to_pylist(), lengths.to_pylist(), strict=True):
        if ends is None or len(ends) % 2 or None in ends or not are_spans(spans_of(ends), length):
            raise ValueError(f"what was given to a path of {length} tokens is no list of spans of them: {ends}")
        counts.append(sum(stop - start for start, stop in spans_of(ends)))
    return pa.array(counts, lengths.type)
