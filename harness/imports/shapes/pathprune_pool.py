"""Our export: Parquet files with the columns of ``harness.imports.schema``, and metadata on the grading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.api import STATISTICS, PathpruneError
from harness.imports.rows import ImportedPath, ImportedProblem, Probe
from harness.imports.schema import SCHEMA, lists, spans_in, with_given
from harness.imports.watch import Watch
from harness.store.blame import damaged, unreadable
from harness.store.given import GIVEN

NAME = "pathprune"
METADATA = b"pathprune.pool"
FORMAT = "pathprune-paths/1"
RESTORE = "restore it from where you have it"
BLOCK = 1 << 20


def parts(files: Sequence[str]) -> list[FilePath]:
    """The Parquet files of some files and folders, in order."""
    found: list[FilePath] = []
    for name in files:
        path = FilePath(name).expanduser()
        found += sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    return found


def is_ours(files: Sequence[str]) -> bool:
    """Are all of these files from our export?"""
    if any("://" in name for name in files):
        return False
    found = parts(files)
    return bool(found) and all(_metadata(file) for file in found)


def _metadata(file: FilePath) -> dict[str, Any]:
    """The metadata of our export; empty for any other file."""
    if file.suffix != ".parquet":
        return {}
    try:
        stated = (pq.read_schema(file).metadata or {}).get(METADATA)
        about = json.loads(stated) if stated else {}
    except (OSError, ValueError, pa.ArrowException):  # the reader of the file reports the error
        return {}
    return about if isinstance(about, dict) and about.get("format") == FORMAT else {}


class Reading:
    """The problems of exported files. The rows of a problem are contiguous."""

    shape = NAME
    mapping: Mapping[str, str] = MappingProxyType({})

    def __init__(self, files: Sequence[str], watch: Watch | None = None) -> None:
        self.files, self.watch = parts(files), watch or Watch()
        self.about = _metadata(self.files[0])
        self.skipped: list[str] = []
        self.sources: list[dict[str, Any]] = []
        self.bytes, self.bytes_read = sum(f.stat().st_size for f in self.files), 0
        if any(_metadata(file) != self.about for file in self.files):
            raise PathpruneError(f"{', '.join(files)} are of several exports; import one at a time")

    @cached_property
    def rows(self) -> int:
        """Number of paths in all files."""
        return sum(pq.read_metadata(f).num_rows for f in self.files)

    def __iter__(self) -> Iterator[ImportedProblem]:
        for file in self.files:
            try:
                with pq.ParquetFile(file) as stream:
                    self._check(file, stream.schema_arrow)
                    yield from self._problems(file, stream)
                    rows = stream.metadata.num_rows
            except (pa.ArrowException, OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno:
                    raise unreadable(file, error) from error
                raise damaged(file, str(error).splitlines()[0], RESTORE) from error
            self.sources.append({"file": file.name, "sha256": _sha256(file), "rows": rows})

    def _check(self, file: FilePath, schema: pa.Schema) -> None:
        for field in SCHEMA:
            if field.name == GIVEN and GIVEN not in schema.names:  # an export of an earlier version
                continue
            if field.name not in schema.names or schema.field(field.name).type != field.type:
                raise damaged(file, f"its column {field.name} is missing or of another type", RESTORE)

    def _problems(self, file: FilePath, stream: pq.ParquetFile) -> Iterator[ImportedProblem]:
        """The rows of each problem, which may continue in the next row group."""
        held: list[pa.Table] = []
        begun, row = 0, 0
        for group in range(stream.num_row_groups):
            rows = with_given(stream.read_row_group(group))
            about = stream.metadata.row_group(group)
            self.bytes_read += sum(about.column(i).total_compressed_size for i in range(about.num_columns))
            self.watch.at(min(self.bytes_read, self.bytes), self.bytes)
            for run in _runs(rows):
                if held and held[0]["problem"][0] != run["problem"][0]:
                    yield _problem(pa.concat_tables(held), f"{file}, row {begun + 1}")
                    held, begun = [], row
                held.append(run)
                row += len(run)
        if held:
            yield _problem(pa.concat_tables(held), f"{file}, row {begun + 1}")


def _runs(rows: pa.Table) -> Iterator[pa.Table]:
    """Parts of a table, one per problem."""
    names = rows["problem"].to_pylist()
    start = 0
    for i in range(1, len(names) + 1):
        if i == len(names) or names[i] != names[start]:
            yield rows.slice(start, i - start)
            start = i


def _problem(rows: pa.Table, where: str) -> ImportedProblem:
    names = ("problem", "prompt", "golds", "prompt_tokens", "index")
    (name, prompt, golds, prompt_tokens, _), indices = ([rows[n][0].as_py() for n in names], rows["index"].to_pylist())
    if indices != list(range(len(indices))):
        raise PathpruneError(f"{where}: the paths of {name} are not numbered 0, 1, 2 and so on; {RESTORE}")
    numbers = {
        n: lists(rows[n], np.dtype(SCHEMA.field(n).type.value_type.to_pandas_dtype()))
        for n in (*STATISTICS, "tokens", "ends")
    }
    plain = {n: rows[n].to_pylist() for n in ("text", "length", "finish", "answer", "correct", "probes", "rewards")}
    paths, spans = [], spans_in(rows)
    for i in range(len(rows)):
        about = {n: values[i] for n, values in plain.items()}
        paths.append(
            ImportedPath(
                text=about["text"], tokens=numbers["tokens"][i], length=about["length"], answer=about["answer"] or "",
                correct=about["correct"], finish=about["finish"], ends=numbers["ends"][i], given=spans[i],
                statistics={n: v for n in STATISTICS if (v := numbers[n][i]) is not None},
                probes=tuple(Probe(**p) for p in about["probes"] or ()),
                rewards={r["name"]: r["scores"] for r in about["rewards"] or ()},
            )
        )  # fmt: skip
    return ImportedProblem(name, prompt, tuple(golds or ()), paths, where, prompt_tokens)


def _sha256(file: FilePath) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
