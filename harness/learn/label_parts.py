"""Read parts of label folders, and validate every column, count and success rate."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness.api import PathpruneError
from harness.store.blame import damaged, other_format, unreadable
from harness.store.given import GIVEN, counted

AGAIN = "move it away and run the same command, which labels its problems again"
CLOSE = 1e-4  # of a number of right continuations, from a success rate in float32

Opened = TypeVar("Opened")


def opened(read: Callable[[Path], Opened], part: Path) -> Opened:
    """The result of ``read`` on a part.

    Raises:
        PathpruneError: the part cannot be read or is damaged.
    """
    try:
        return read(part)
    except (OSError, ValueError) as error:  # Arrow's own are both
        if isinstance(error, OSError) and error.errno:
            raise unreadable(part, error) from error
        raise damaged(part, (str(error).strip() or type(error).__name__).splitlines()[0], AGAIN) from error


def stated(part: Path, name: str, expected: str) -> Any:
    """The metadata entry ``pathprune.<name>`` of a part; None if it is missing. ``expected`` is the format."""
    metadata = opened(pq.read_schema, part).metadata or {}
    form = metadata.get(b"pathprune.format")
    texts = {"format": form, name: metadata.get(f"pathprune.{name}".encode())}
    try:
        values = {key: None if text is None else json.loads(text) for key, text in texts.items()}
    except (ValueError, RecursionError) as error:
        raise damaged(part, f"its metadata is not JSON ({error})", AGAIN) from error
    if values["format"] not in (None, expected):
        raise other_format(part, values["format"], expected)
    return values[name]


def cost_of(part: Path, kind: type[Opened], expected: str) -> Opened:
    """The cost stated in a part, as a dataclass ``kind`` of non-negative numbers."""
    cost = stated(part, "cost", expected)
    if cost is None:
        raise damaged(part, "it does not state its cost", AGAIN)
    known = {f.name: float if f.type == "float" else int for f in fields(kind)}  # type: ignore[arg-type]
    right = isinstance(cost, dict) and cost.keys() <= known.keys()
    if not right or not all(_is_amount(value, known[name]) for name, value in cost.items()):
        raise damaged(part, f"its cost {str(cost)[:60]} is not of finite numbers of 0 or more", AGAIN)
    return kind(**cost)


def _is_amount(value: Any, kind: type) -> bool:
    whole = type(value) is int
    return (whole or (kind is float and type(value) is float)) and 0 <= value < float("inf")


def rows(part: Path, schema: pa.Schema, ids: Sequence[str] | None, recipe: Any, expected: str) -> list[dict[str, Any]]:
    """The rows of a part.

    Args:
        ids: of all problems that it covers; None if not all of them are known.
        recipe: of the labels, for the numbers of paths, continuations and tokens.

    Raises:
        PathpruneError: the part is damaged; names the column.
    """
    stated(part, "format", expected)
    table = opened(pq.read_table, part)
    try:
        _check(table, schema, ids, recipe)
    except ValueError as error:
        raise damaged(part, str(error), AGAIN) from error
    return list(table.select([*schema.names, *({GIVEN} & set(table.column_names))]).to_pylist())


def _check(table: pa.Table, schema: pa.Schema, ids: Sequence[str] | None, recipe: Any) -> None:
    for field in schema:
        if field.name not in table.column_names:
            raise ValueError(f"it has no column {field.name}")
        if table.schema.field(field.name).type != field.type:
            raise ValueError(
                f"its column {field.name} is of type {table.schema.field(field.name).type}, not {field.type}"
            )
        if table[field.name].null_count:
            raise ValueError(f"its column {field.name} has gaps")
    if not len(table):
        return
    kinds = np.array(table["kind"].to_pylist())
    if strange := set(kinds.tolist()) - {"monte-carlo", "outcome"}:
        raise ValueError(f"its kind {min(strange)!r} is neither 'monte-carlo' nor 'outcome'")
    if ids is not None and (strange := set(table["problem"].to_pylist()) - set(ids)):
        raise ValueError(f"it has labels of {min(strange)!r}, which is not one of the problems in its name")
    counted = np.where(kinds == "outcome", 1, recipe.continuations)
    _check_numbers(table, counted, recipe)
    lengths = _drawn(table)
    if other := set(lengths[kinds == "monte-carlo"].tolist()) - set(recipe.prefixes):
        raise ValueError(
            f"it labels prefixes of {min(other)} tokens, and the recipe's have {', '.join(map(str, recipe.prefixes))}"
        )
    labelled = list(
        zip(
            table["problem"].to_pylist(),
            table["index"].to_pylist(),
            kinds.tolist(),
            np.where(kinds == "outcome", 0, lengths).tolist(),
            strict=True,
        )
    )
    if len(set(labelled)) < len(labelled):
        raise ValueError("it labels a path or a prefix twice")
    if cut := {key[:2] for key in labelled if key[2] == "monte-carlo"} - {
        key[:2] for key in labelled if key[2] == "outcome"
    }:
        raise ValueError(f"it has a prefix of {min(cut)[0]!r} without the outcome of its path")


def _drawn(table: pa.Table) -> np.ndarray:
    """Number of sampled tokens of each label; raises ValueError for invalid spans of given tokens."""
    lengths = pc.list_value_length(table["tokens"].combine_chunks())
    if GIVEN in table.column_names:
        lengths = pc.subtract(lengths, counted(table, lengths))
    return lengths.to_numpy()


def _check_numbers(table: pa.Table, counted: np.ndarray, recipe: Any) -> None:
    success, continuations, index = (table[name].to_numpy() for name in ("success", "continuations", "index"))
    if not (np.isfinite(success) & (success >= 0) & (success <= 1)).all():
        raise ValueError("a success rate must be from 0 to 1")
    if not (continuations == counted).all():
        raise ValueError(
            f"its numbers of continuations are not those of the recipe, {recipe.continuations} of a prefix and 1 of a path"
        )
    right = success.astype(float) * counted
    if (np.abs(right - right.round()) > CLOSE * np.maximum(1, counted)).any():
        raise ValueError("a success rate must be a number of right continuations divided by their number")
    if index.min() < 0 or index.max() >= recipe.n:
        raise ValueError(f"the index of a path is not from 0 to {recipe.n - 1}")
    tokens = table["tokens"].combine_chunks()
    flat, lengths = pc.list_flatten(tokens), _drawn(table)
    if flat.null_count or (len(flat) and pc.min(flat).as_py() < 0):
        raise ValueError("a token id must be 0 or more")
    if lengths.max() > recipe.max_tokens:
        raise ValueError(f"a path has {lengths.max()} tokens, more than the limit of {recipe.max_tokens}")


def apart(parts: Sequence[tuple[int, int, Path]]) -> None:
    """Refuse two parts that cover the same problem, because its labels would count twice.

    Raises:
        PathpruneError: names both parts.
    """
    for (_, stop, first), (start, _, second) in pairwise(parts):
        if start < stop:
            raise PathpruneError(
                f"{first} and {second.name} both have labels of problem {start}, which would count twice; move one of them away: "
                "the same command labels again what only that one had"
            )
