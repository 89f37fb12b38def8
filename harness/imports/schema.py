"""The columns of imported and exported paths: one row per path, identical in a pool's folder and in an exported data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.api import STATISTICS
from harness.imports.rows import Probe
from harness.store.given import GIVEN, are_spans, ends_of, spans_of

PROBE = pa.struct(
    [
        ("position", pa.int32()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("confidence", pa.float64()),
        ("text", pa.string()),
    ]
)
REWARD = pa.struct([("name", pa.string()), ("scores", pa.list_(pa.float64()))])
MEANINGS: dict[str, tuple[pa.DataType, str]] = {
    "problem": (pa.string(), "the problem's id"),
    "index": (pa.int32(), "which of the problem's paths, from 0"),
    "prompt": (pa.string(), "what the model was asked, before any chat template"),
    "golds": (pa.list_(pa.string()), "answers that count as right"),
    "prompt_tokens": (pa.int32(), "tokens of the prompt as the model read it; null where nobody counted them"),
    "text": (pa.string(), "what the model wrote, and between it what a tool gave"),
    "tokens": (
        pa.list_(pa.int32()),
        "token ids, the end token included: generated ones, and between them those that a tool gave",
    ),
    "length": (pa.int32(), "how many tokens were generated"),
    "finish": (pa.string(), "stop: the model ended the path; length: a limit cut it; null: not recorded"),
    "answer": (pa.string(), "the answer in canonical form: equal strings are one vote; null: none"),
    "correct": (pa.bool_(), "is the answer right"),
    "ends": (pa.list_(pa.int32()), "characters of the text after each token"),
    "logprob": (pa.list_(pa.float16()), "log P_t(y_t) of each token, nats, temperature 1"),
    "confidence": (pa.list_(pa.float16()), "DeepConf's: minus the mean of the 20 largest log P_t(j)"),
    "entropy": (pa.list_(pa.float16()), "of the full vocabulary, nats"),
    "self_certainty": (pa.list_(pa.float16()), "KL(uniform || P_t), full vocabulary"),
    "margin": (pa.list_(pa.float16()), "P_t of the most likely token minus the second's"),
    "top_entropy": (pa.list_(pa.float16()), "entropy of the 20 largest P_t(j), renormalised"),
    "probes": (pa.list_(PROBE), "forced answers: what the path would have said after so many tokens"),
    "rewards": (pa.list_(REWARD), "scores of reward models, one for the path or one for each step"),
    GIVEN: (pa.list_(pa.int32()), "start and end of each output of a tool among the tokens; null where there is none"),
}
ENDINGS = ("stop", "length", None)
SCHEMA = pa.schema([(name, kind) for name, (kind, _) in MEANINGS.items()])


@dataclass(frozen=True, eq=False)
class StoredPath:
    """A row: one path with its final answer and grade; unrecorded values are None."""

    text: str | None
    tokens: np.ndarray | None
    length: int
    finish: str | None
    answer: str | None
    correct: bool
    ends: np.ndarray | None
    statistics: dict[str, np.ndarray]
    probes: Sequence[Probe] = ()
    rewards: Sequence[tuple[str, Sequence[float]]] = ()
    given: Sequence[tuple[int, int]] = ()


def table(
    problem: str, prompt: str | None, golds: Sequence[str], prompt_tokens: int | None, paths: Sequence[StoredPath]
) -> pa.Table:
    """The rows of one problem."""
    count = len(paths)
    columns: dict[str, pa.Array] = {
        "problem": pa.array([problem] * count, pa.string()),
        "index": pa.array(range(count), pa.int32()),
        "prompt": pa.array([prompt] * count, pa.string()),
        "golds": pa.array([list(golds)] * count, pa.list_(pa.string())),
        "prompt_tokens": pa.array([prompt_tokens] * count, pa.int32()),
        "tokens": column_of_lists([p.tokens for p in paths], np.dtype(np.int32)),
        "ends": column_of_lists([p.ends for p in paths], np.dtype(np.int32)),
        "probes": pa.array([[vars(q) for q in p.probes] or None for p in paths], pa.list_(PROBE)),
        "rewards": pa.array(
            [[{"name": n, "scores": list(s)} for n, s in p.rewards] or None for p in paths], pa.list_(REWARD)
        ),
    }
    given = [np.asarray(ends_of(p.given)) if p.given else None for p in paths]
    columns[GIVEN] = column_of_lists(given, np.dtype(np.int32))
    for name in ("text", "length", "finish", "answer", "correct"):
        columns[name] = pa.array([getattr(p, name) for p in paths], SCHEMA.field(name).type)
    for name in STATISTICS:
        columns[name] = column_of_lists([p.statistics.get(name) for p in paths], np.dtype(np.float16))
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def column_of_lists(arrays: Sequence[np.ndarray | None], kind: np.dtype[Any]) -> pa.Array:
    """Pack arrays of any lengths into one list column, without a Python object per number; None becomes null."""
    lengths = [0 if a is None else len(a) for a in arrays]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    there = [np.asarray(a, kind) for a in arrays if a is not None]
    values = np.concatenate(there) if there else np.empty(0, kind)
    missing = pa.array([a is None for a in arrays], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), mask=missing)


def lists(column: pa.ChunkedArray, kind: np.dtype[Any]) -> list[np.ndarray | None]:
    """Unpack such a column into arrays, read-only views of one buffer."""
    joined = column.combine_chunks()
    joined = joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined
    offsets = joined.offsets.to_numpy()
    first = int(offsets[0]) if len(offsets) else 0
    last = int(offsets[-1]) if len(offsets) else 0
    values = np.frombuffer(
        joined.values.slice(first, last - first).to_numpy(zero_copy_only=False).astype(kind).tobytes(), kind
    )
    valid = joined.is_valid().to_numpy(zero_copy_only=False)
    return [
        values[a - first : b - first] if v else None for a, b, v in zip(offsets[:-1], offsets[1:], valid, strict=True)
    ]


def with_given(rows: pa.Table) -> pa.Table:
    """Rows with the column of what tools gave, which files of earlier versions do not have."""
    if GIVEN in rows.column_names:
        return rows
    field = SCHEMA.field(GIVEN)
    return rows.append_column(field, pa.nulls(len(rows), field.type))


def spans_in(rows: pa.Table) -> list[tuple[tuple[int, int], ...]]:
    """What a tool gave each path, as ``Path.given`` has it.

    Raises:
        ValueError: what is no list of starts and ends.
    """
    listed = rows[GIVEN].to_pylist()
    for i, ends in enumerate(listed):
        if ends is not None and (not ends or len(ends) % 2 or None in ends):
            raise ValueError(f"what was given to path {i} is no list of starts and ends: {ends}")
    return [spans_of(ends or ()) for ends in listed]


def given_tokens(given: Sequence[tuple[int, int]]) -> int:
    """How many tokens some spans hold."""
    return sum(stop - start for start, stop in given)


def content_digest(rows: pa.Table) -> str:
    """SHA-256 of the rows' content, independent of the file format; paths without tools have the digest that they always had."""
    digest = hashlib.sha256()
    for name in SCHEMA.names:
        if name == GIVEN and rows[name].null_count == len(rows):
            continue
        kind = SCHEMA.field(name).type
        if (
            pa.types.is_list(kind)
            and not pa.types.is_nested(kind.value_type)
            and not pa.types.is_string(kind.value_type)
        ):
            for values in lists(rows[name], np.dtype(kind.value_type.to_pandas_dtype())):
                digest.update(b"-" if values is None else len(values).to_bytes(8, "big") + values.tobytes())
        else:
            digest.update(repr(rows[name].to_pylist()).encode(errors="surrogatepass"))
    return digest.hexdigest()


def flaw_of(rows: pa.Table) -> str:
    """The reason why these rows are not the paths of one problem; "" if they are."""
    for name in ("problem", "index", "length", "correct"):
        if rows[name].null_count:
            return f"{name} of a path is missing"
    if rows["index"].to_pylist() != list(range(len(rows))):
        return "its paths are not numbered 0, 1, 2 and so on"
    if len(rows["problem"].unique()) > 1:
        return "its paths are of several problems"
    for i, (length, finish) in enumerate(zip(rows["length"].to_pylist(), rows["finish"].to_pylist(), strict=True)):
        if length < 0 or finish not in ENDINGS:
            return f"path {i} has {length} tokens and ended by {finish!r}"
    if pc.any(pc.and_(rows["correct"], rows["answer"].is_null())).as_py():
        return "a path is graded right but has no answer"
    return _flaw_of_tokens(rows)


def _flaw_of_tokens(rows: pa.Table) -> str:
    """Which list of numbers of which path is not one per token: statistics of generated ones, the others of all."""
    lengths = rows["length"].to_pylist()
    try:
        spans = spans_in(rows)
    except ValueError as error:
        return str(error)
    every = [length + given_tokens(given) for length, given in zip(lengths, spans, strict=True)]
    for i, (given, ids, ends) in enumerate(zip(spans, rows["tokens"], rows["ends"], strict=True)):
        if given and not (ids.is_valid and ends.is_valid and are_spans(given, every[i])):
            return f"what was given to path {i} is no list of spans of its {every[i]} tokens: {ends_of(given)}"
    for name in (*STATISTICS, "tokens", "ends"):
        counts = pc.list_value_length(rows[name]).to_pylist()
        wanted = lengths if name in STATISTICS else every
        for i, (count, length) in enumerate(zip(counts, wanted, strict=True)):
            if count is not None and count != length:
                return f"path {i} has {count} {name} for {length} tokens"
        if pc.list_flatten(rows[name]).null_count:
            return f"a number among its {name} is missing"
    return ""
