"""Rows of a Parquet file, a few at a time. Lists of numbers stay arrays, which keeps rows of many tokens cheap."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.api import PathpruneError

BATCH = 64 << 20  # bytes decoded at once
BUFFER = 1 << 20


def rows(file: Path, columns: Sequence[str] | None) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield the rows in order, each with the fraction of the file that has been read after it.

    ``columns``: the columns to read, missing ones ignored; None: all.
    """
    with pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False) as parquet:
        known = parquet.schema_arrow.names
        if len(set(known)) < len(known):
            twice = next(name for name in known if known.count(name) > 1)
            raise PathpruneError(f"{file} has two columns of one name: {twice}")
        wanted = known if columns is None else [name for name in known if name in columns]
        groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
        shares = _shares(groups)
        if not wanted:  # the rows are there, though nothing of them is asked
            yield from (({}, share) for share in shares)
            return
        for batch in parquet.iter_batches(_batch(groups), columns=list(wanted), use_threads=False):
            values = [_values(column) for column in batch.columns]
            for cells in zip(*values, strict=True):
                yield dict(zip(batch.schema.names, cells, strict=True)), next(shares)


def _batch(groups: Sequence[Any]) -> int:
    """Number of rows to decode at once."""
    largest = max((_bytes(group) / max(group.num_rows, 1) for group in groups), default=1)
    return int(min(max(BATCH / max(largest, 1), 1), 4096))


def _shares(groups: Sequence[Any]) -> Iterator[float]:
    """For each row, the fraction of the file's compressed bytes before its end."""
    sizes = [sum(group.column(i).total_compressed_size for i in range(group.num_columns)) for group in groups]
    whole, before = max(1, sum(sizes)), 0
    for group, size in zip(groups, sizes, strict=True):
        for row in range(1, group.num_rows + 1):
            yield (before + size * row / group.num_rows) / whole
        before += size


def _bytes(group: Any) -> int:
    """Estimated size of a decoded row group; repeated values are small only in the file."""
    columns = [group.column(i) for i in range(group.num_columns)]
    return sum(max(column.total_uncompressed_size, 8 * column.num_values) for column in columns)


def _values(column: pa.Array) -> list[Any]:
    """The values of a column as Python objects, lists of numbers as arrays."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _values(column.dictionary_decode())
    if pa.types.is_map(kind):
        return [None if pairs is None else dict(pairs) for pairs in column.to_pylist()]
    if pa.types.is_struct(kind):
        fields = [_values(column.field(i)) for i in range(kind.num_fields)]
        names = [kind.field(i).name for i in range(kind.num_fields)]
        structs = [dict(zip(names, cells, strict=True)) for cells in zip(*fields, strict=True)] if fields else [{}]
        return [s if valid else None for s, valid in zip(structs, column.is_valid().to_pylist(), strict=True)]
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return column.to_pylist()
    ends = column.offsets.to_numpy()
    inner = column.values.slice(ends[0], ends[-1] - ends[0])
    ends = ends - ends[0]
    flat: Any = inner.to_numpy(zero_copy_only=False) if _is_number(kind.value_type) else _values(inner)
    lists = [flat[first:last] for first, last in itertools.pairwise(ends)]
    # A view would keep the whole batch alive for one row.
    lists = [v.copy() if isinstance(v, np.ndarray) else v for v in lists]
    return [v if valid else None for v, valid in zip(lists, column.is_valid().to_pylist(), strict=True)]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
