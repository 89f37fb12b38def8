"""Snapshots of records: one Parquet file (zstd) for all records of one kind in a pool's folder.

``pool.parquet``, ``L22.parquet``, ``own-rule.parquet`` and ``live.parquet`` hold what ``pool.jsonl``, ``L22-*.jsonl``,
``own-rule-*.jsonl`` and ``live/*.jsonl`` held. A record is a row group; its name (that of its journal, relative to the
folder) and its header stand in the file's metadata as JSON. Rows come back as they were: what a column cannot hold to
the last digit, and every key that has no column, is kept as JSON in the column ``rest``. The same records give the
same bytes, and a file whose bytes changed is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness.api import PathpruneError
from harness.store.blame import damaged, other_format, unreadable
from harness.store.files import writable
from harness.store.names import inside, is_file_name

FORMAT = "pathprune-records/1"
SUFFIX = ".parquet"
REST = "rest"
SEAL = "sha256-of-this-file:"
RESTORE = "restore it from a backup, or move it away: repeating the benches then creates all of its records again"
FLOATS, INTS, TEXTS = pa.list_(pa.float32()), pa.list_(pa.int32()), pa.list_(pa.string())
COLUMNS: dict[str, pa.DataType] = {
    "problem": pa.string(),
    "prompt": pa.int32(),
    "paths": pa.string(),
    "stats": pa.string(),
    "scores": FLOATS,
    "spent": INTS,
    "weights": FLOATS,
    "kept": INTS,
    "places": INTS,
    "reached": INTS,
    "answers": TEXTS,
    "correct": INTS,
    "lengths": INTS,
    "stopped": INTS,
    "error": pa.string(),
}

Row = dict[str, Any]


class Packed(NamedTuple):
    """One record of a snapshot; ``name`` is its journal's path relative to the pool's folder."""

    name: str
    header: dict[str, Any]
    rows: Sequence[Row]


def write(file: Path, records: Sequence[Packed]) -> None:
    """Write all records of a snapshot atomically, in the order of their names.

    Raises:
        PathpruneError: the rows would not be stored exactly, or the disk refuses the write.
    """
    records = sorted(records, key=lambda r: r.name)
    tables = [_table(record.rows) for record in records]
    schema = pa.schema([(name, kind) for name, kind in COLUMNS.items() if any(name in t.column_names for t in tables)])
    about = json.dumps([{"name": r.name, "rows": len(r.rows), "header": r.header} for r in records])
    metadata = {"pathprune.format": FORMAT, "pathprune.records": about, "pathprune.sha256": SEAL + "0" * 64}
    schema = schema.append(pa.field(REST, pa.string()))
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 19, "write_statistics": False}
    with writable(file) as part:
        with pq.ParquetWriter(part, schema, store_schema=False, **options) as stream:
            for table in filter(len, tables):
                columns = [
                    table[f.name].combine_chunks() if f.name in table.column_names else pa.nulls(len(table), f.type)
                    for f in schema
                ]
                stream.write_table(pa.table(columns, schema=schema), row_group_size=len(table))
            stream.add_key_value_metadata(metadata)
        part.write_bytes(_sealed(part.read_bytes()))
        for record in records:
            if list(map(_text, rows(part, record.name))) != list(map(_text, record.rows)):
                raise PathpruneError(f"{file} would not hold the rows of {record.name} as they are; it is not written")


def headers(file: Path) -> dict[str, dict[str, Any]]:
    """Headers by record name, in order; empty if the file does not exist. The objects are shared; do not modify them."""
    return {name: header for name, (header, _) in _contents(file).items()}


def rows(file: Path, name: str) -> list[Row]:
    """The rows of one record, exactly as written."""
    group = _contents(file)[name][1]
    if group is None:
        return []
    with blamed(file):
        with pq.ParquetFile(file) as stream:
            table = stream.read_row_group(group)
        columns = {c: _decoded(table[c].combine_chunks()) for c in table.column_names}
        decoded: list[Row] = []
        for number, rest in enumerate(columns.pop(REST)):
            row = {c: values[number] for c, values in columns.items() if values[number] is not None}
            decoded.append(row if rest is None else row | json.loads(rest))
        return decoded


def _contents(file: Path) -> dict[str, tuple[dict[str, Any], int | None]]:
    """Header and row group of every record (None without rows); cached for each state of the file."""
    try:
        state = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise unreadable(file, error) from error
    return _contents_of(file, state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=256)
def _contents_of(file: Path, *state: int) -> dict[str, tuple[dict[str, Any], int | None]]:
    with blamed(file):
        inside(file, file.parent)
        opened = pq.read_metadata(file)
        metadata = opened.metadata or {}
        if metadata.get(b"pathprune.format") != FORMAT.encode():
            raise other_format(file, metadata.get(b"pathprune.format", b"").decode(errors="replace"), FORMAT)
        raw = file.read_bytes()
        if raw != _sealed(raw):
            raise ValueError("its bytes are not those that were written")
        about = json.loads(metadata[b"pathprune.records"])
        _agree(about, [opened.row_group(group).num_rows for group in range(opened.num_row_groups)])
        groups = count()
        return {r["name"]: (r["header"], next(groups) if r["rows"] else None) for r in about}


def _agree(about: Any, groups: list[int]) -> None:
    """Raise ValueError if the list of records does not match the rows, or a name would lead out of the folder."""
    names = [record["name"] for record in about]
    for name in names:
        if not isinstance(name, str) or not is_file_name(name.removeprefix("live/")):
            raise ValueError(f"it names a record {name!r}, which is not a file of this folder")
    if len(set(names)) < len(names):
        raise ValueError("it names a record twice")
    if [record["rows"] for record in about if record["rows"]] != groups:
        raise ValueError("its rows are not those that its list of records counts")
    for record in about:
        header = record["header"]
        if not isinstance(header, dict) or not isinstance(header.get("spec", {}), dict):
            raise ValueError(f"the header of {record['name']} is not an object")


def _sealed(raw: bytes) -> bytes:
    """A file with its SHA-256 in the reserved place, which counts as zeros in the hash."""
    seals = [*re.finditer(SEAL.encode() + rb"([0-9a-f]{64})", raw)]
    if not seals:
        raise ValueError("it has no checksum")
    seal = seals[-1]
    before, after = raw[: seal.start(1)], raw[seal.end(1) :]
    return before + hashlib.sha256(before + b"0" * 64 + after).hexdigest().encode() + after


@contextmanager
def blamed(file: Path) -> Iterator[None]:
    """Turn any error of reading a snapshot into one line that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno:  # Arrow's own have no number
            raise unreadable(file, error) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise damaged(file, reason, RESTORE) from error


def _text(row: Row) -> str:
    return json.dumps(row, sort_keys=True)


def _table(records: Sequence[Row]) -> pa.Table:
    """Rows as columns; values that a column cannot store exactly go to ``rest``."""
    columns, rest = {}, [dict(row) for row in records]
    for name, kind in COLUMNS.items():
        values = [row[name] if _fits(kind, row.get(name)) else None for row in records]
        array = pa.array(values, kind)
        if kind == FLOATS:
            read = _decoded(array)
            values = [v if v is not None and repr(v) == repr(r) else None for v, r in zip(values, read, strict=True)]
            array = pa.array(values, kind)
        if array.null_count < len(array):
            columns[name] = array
        for row, value in zip(rest, values, strict=True):
            if value is not None:
                del row[name]
    columns[REST] = pa.array([json.dumps(row, separators=(",", ":")) if row else None for row in rest], pa.string())
    return pa.table(columns)


def _fits(kind: pa.DataType, value: Any) -> bool:
    if kind == pa.string():
        return isinstance(value, str) and _encodes(value)
    if kind == pa.int32():
        return type(value) is int and abs(value) < 1 << 31
    if not isinstance(value, list):
        return False
    if kind == TEXTS:
        return all(v is None or (isinstance(v, str) and _encodes(v)) for v in value)
    if kind == INTS:
        return all(type(v) is int and abs(v) < 1 << 31 for v in value)
    return all(type(v) is float for v in value)


def _encodes(text: str) -> bool:
    """Whether a text can be encoded as UTF-8; JSON may contain lone surrogates."""
    return text.isascii() or text.encode(errors="ignore").decode() == text


def _decoded(array: pa.Array) -> list[Any]:
    """The values of a column. A float32 becomes the float of its shortest decimal text, as in records."""
    if array.type != FLOATS:
        return list(array.to_pylist())
    flat = array.flatten().cast(pa.string()).cast(pa.float64()).to_numpy(zero_copy_only=False).tolist()
    sizes = pc.list_value_length(array).to_pylist()
    ends = np.cumsum([size or 0 for size in sizes]).tolist()
    return [None if size is None else flat[end - size : end] for size, end in zip(sizes, ends, strict=True)]
