"""The paths of a whole pool in one small file, which reads back to exactly the stored rows.

Each problem is a row group of ``paths.parquet``. Derivable data is not written: texts and their token ends follow from the token
ids and from the text of each id in the file's metadata; prompts and gold answers are in ``problems.jsonl``. If a path's ids do
not reproduce its text (for example, a character that spans several tokens), the text is written too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.api import STATISTICS
from harness.imports.schema import SCHEMA, column_of_lists, lists
from harness.store.files import writable

PACKED = "paths.parquet"
PIECES = b"pathprune.pieces"
OF_PROBLEM = ("problem", "index", "prompt", "golds", "prompt_tokens")
OF_TOKENS = ("text", "ends", "length")
COMPRESSION: dict[str, Any] = {"compression": "zstd", "compression_level": 19, "write_statistics": False}
Pieces = Mapping[int, str]  # text by token id


def pieces_of(tables: Iterable[pa.Table]) -> dict[int, str]:
    """The most frequent text of each token id over some problems' paths."""
    seen: dict[int, Counter[str]] = {}
    for rows in tables:
        for text, ids, ends in _texts(rows):
            for token, piece in zip(ids, _cut(text, ends), strict=True):
                seen.setdefault(token, Counter())[piece] += 1
    return {token: pieces.most_common(1)[0][0] for token, pieces in sorted(seen.items())}


def _texts(rows: pa.Table) -> Iterable[tuple[str, list[int], np.ndarray]]:
    """(text, ids, ends) of each path that has all three."""
    columns = rows["text"].to_pylist(), _arrays(rows, "tokens"), _arrays(rows, "ends")
    for text, ids, ends in zip(*columns, strict=True):
        if text is not None and ids is not None and ends is not None:
            yield text, ids.tolist(), ends


def _cut(text: str, ends: np.ndarray) -> list[str]:
    bounds = [0, *ends.tolist()]
    return [text[start:stop] for start, stop in pairwise(bounds)]


def without(rows: pa.Table, statistics: Sequence[str]) -> pa.Table:
    """The rows without all token statistics but these."""
    for name in set(STATISTICS) - set(statistics):
        rows = rows.set_column(
            SCHEMA.names.index(name), SCHEMA.field(name), pa.nulls(len(rows), SCHEMA.field(name).type)
        )
    return rows


def write(file: FilePath, tables: Sequence[pa.Table], pieces: Pieces) -> dict[str, int]:
    """Write the rows of some problems, one row group each; return the bytes of each non-empty column."""
    bare = [_bare(rows, pieces) for rows in tables]
    kept = [name for name in SCHEMA.names if name in bare[0].column_names]
    used = [name for name in kept if any(rows[name].null_count < len(rows) for rows in bare)]
    halves = [f"{name}.list.element" for name in STATISTICS if name in used]
    others = [n for n in used if n not in STATISTICS and SCHEMA.field(n).type in (pa.string(), pa.bool_())]
    options = COMPRESSION | {"use_dictionary": others, "use_byte_stream_split": halves}
    with writable(file) as part:
        with pq.ParquetWriter(part, bare[0].select(used).schema, **options) as stream:
            for rows in bare:
                stream.write_table(rows.select(used), row_group_size=max(1, len(rows)))
            told = json.dumps({str(k): v for k, v in pieces.items()}, ensure_ascii=False, separators=(",", ":"))
            stream.add_key_value_metadata({PIECES: told.encode()})
        return _sizes(part)


def _sizes(file: FilePath) -> dict[str, int]:
    about, sizes = pq.read_metadata(file), Counter[str]()
    for group in range(about.num_row_groups):
        for i in range(about.num_columns):
            column = about.row_group(group).column(i)
            sizes[column.path_in_schema.partition(".")[0]] += column.total_compressed_size
    return dict(sizes)


def _bare(rows: pa.Table, pieces: Pieces) -> pa.Table:
    """The rows without derivable columns."""
    texts, ends, lengths = rows["text"].to_pylist(), _arrays(rows, "ends"), rows["length"].to_pylist()
    for i, ids in enumerate(_arrays(rows, "tokens")):
        if ids is None or not pieces:
            continue
        lengths[i] = None if lengths[i] == len(ids) else lengths[i]
        text, stops = told(ids.tolist(), pieces)
        known = ends[i]
        if texts[i] == text and known is not None and np.array_equal(known, stops):
            texts[i] = ends[i] = None
    for name, column in (
        ("text", pa.array(texts, pa.string())),
        ("ends", column_of_lists(ends, np.dtype(np.int32))),
        ("length", pa.array(lengths, pa.int32())),
    ):
        rows = rows.set_column(SCHEMA.names.index(name), SCHEMA.field(name), column)
    return rows.drop_columns([*OF_PROBLEM]).replace_schema_metadata({})


def told(ids: Sequence[int], pieces: Pieces) -> tuple[str, np.ndarray]:
    """(the text of token ids, the end offset of each token in it in characters)."""
    parts = [pieces.get(token, "") for token in ids]
    return "".join(parts), np.cumsum([len(part) for part in parts], dtype=np.int64).astype(np.int32)


def pieces_in(file: FilePath) -> dict[int, str]:
    """The text of each token id, from a file's metadata.

    Raises:
        ValueError: the metadata lack it.
    """
    stated = (pq.read_metadata(file).metadata or {}).get(PIECES)
    pieces = json.loads(stated) if stated else None
    if not isinstance(pieces, dict) or not all(isinstance(v, str) for v in pieces.values()):
        raise ValueError("its metadata lack the texts of its token ids")
    return {int(token): piece for token, piece in pieces.items()}


def read(
    file: FilePath,
    group: int,
    about: Mapping[str, Any],
    pieces: Pieces,
    columns: Sequence[str] | None = None,
    metadata: pq.FileMetaData | None = None,
) -> pa.Table:
    """Read the rows of a problem as they were before ``write``.

    Args:
        file: the packed file.
        group: index of the problem's row group.
        about: values of the columns that are constant per problem.
        pieces: text by token id.
        columns: the columns to read; None: all.
        metadata: the file's metadata, if already read.

    Raises:
        ValueError: a column is missing or of another type.
    """
    wanted = list(columns or SCHEMA.names)
    needed = {*wanted, *((*OF_TOKENS, "tokens") if set(wanted) & {*OF_TOKENS} else ())}
    with pq.ParquetFile(file, metadata=metadata) as stream:
        if group >= stream.num_row_groups:
            raise ValueError(f"it has {stream.num_row_groups} problems, fewer than listed")
        stored = stream.read_row_group(group, [n for n in stream.schema_arrow.names if n in needed])
        count = stream.metadata.row_group(group).num_rows
    whole = {name: _column(name, stored, count, about) for name in SCHEMA.names if name in needed}
    if needed.issuperset(OF_TOKENS):
        whole |= _of_tokens(whole, pieces)
    return pa.table([whole[name] for name in wanted], schema=pa.schema([SCHEMA.field(name) for name in wanted]))


def _column(name: str, stored: pa.Table, count: int, about: Mapping[str, Any]) -> Any:
    kind = SCHEMA.field(name).type
    if name in about:
        return pa.array([about[name]] * count, kind)
    if name == "index":
        return pa.array(range(count), pa.int32())
    if name not in stored.column_names:
        return pa.chunked_array([pa.nulls(count, kind)])
    if stored.schema.field(name).type != kind:
        raise ValueError(f"its column {name} is of type {stored.schema.field(name).type}, not {kind}")
    return stored[name]


def _of_tokens(columns: Mapping[str, Any], pieces: Pieces) -> dict[str, pa.Array]:
    """Columns for texts, ends and lengths, derived from the token ids where they were not written."""
    kind = np.dtype(np.int32)
    texts, lengths = columns["text"].to_pylist(), columns["length"].to_pylist()
    ids_of, ends = (lists(columns[n], kind) for n in ("tokens", "ends"))
    for i, ids in enumerate(ids_of):
        if ids is None or not pieces:
            continue
        lengths[i] = len(ids) if lengths[i] is None else lengths[i]
        if texts[i] is None and ends[i] is None:
            texts[i], ends[i] = told(ids.tolist(), pieces)
    return {
        "text": pa.array(texts, pa.string()),
        "ends": column_of_lists(ends, kind),
        "length": pa.array(lengths, pa.int32()),
    }


def _arrays(rows: pa.Table, name: str) -> list[np.ndarray | None]:
    return lists(rows[name], np.dtype(np.int32))
