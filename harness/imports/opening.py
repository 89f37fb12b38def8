"""Files of paths of any known format, as one sequence of problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.api import PathpruneError
from harness.imports import mapping as mappings
from harness.imports import shapes
from harness.imports.files import Source
from harness.imports.finding import sources
from harness.imports.gather import Gathered
from harness.imports.reading import FieldReader
from harness.imports.rows import ImportedProblem
from harness.imports.stream import Rows
from harness.imports.watch import Watch

NONE: Mapping[str, str] = MappingProxyType({})


class Reading:
    """The problems of some files with their paths, in order of first appearance.

    Iterating reads the files twice, the first time to find which rows belong together. Only one problem's paths are in memory
    at a time.

    ``shape``: name of the row format. ``skipped``: one line per skipped row, with file, row and reason. ``bytes`` and
    ``bytes_read``: total size, and bytes read in the last pass.
    """

    about: Mapping[str, Any] = NONE

    def __init__(self, files: Sequence[Source], reader: FieldReader, shape: str, rows: Rows) -> None:
        self.shape = shape
        self._files, self._reader, self._rows = files, reader, rows
        self._gathered = Gathered(rows, reader)

    def __iter__(self) -> Iterator[ImportedProblem]:
        is_empty = True
        for problem in self._gathered:
            is_empty = False
            yield problem
        if is_empty:
            first = f"; the first was left out: {self.skipped[0]}" if self.skipped else "; see to what is mapped"
            raise PathpruneError(f"{self._files[0].name}: no path in {self.rows} rows{first}")

    @cached_property
    def problems(self) -> int:
        """Number of problems; counting takes a pass over the files."""
        return self._gathered.count()

    @property
    def rows(self) -> int:
        """Number of rows read, skipped ones included; known after iterating."""
        return sum(self._rows.counts.values())

    @property
    def skipped(self) -> list[str]:
        """One line per skipped row."""
        return list(self._rows.refused.values())

    @property
    def mapping(self) -> dict[str, str]:
        """The field that each target was read from."""
        read = self._reader.mapping
        k = self._reader.statistics.k
        if self._gathered.by_prompt:
            read.pop("id", None)
        return read | ({"top_k": str(k)} if k else {})

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return self._rows.hashes()

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Each file with its SHA-256 and its number of rows; known after iterating."""
        return [
            {"file": source.name, "sha256": self._hashes[source.name], "rows": self._rows.counts.get(source.name)}
            for source in self._files
        ]

    @property
    def bytes(self) -> int:
        """Total size of the files in bytes."""
        return self._rows.bytes

    @property
    def bytes_read(self) -> int:
        """Bytes read so far in the current pass."""
        return self._rows.bytes_read


def read(
    files: Sequence[Path | str],
    mapping: Mapping[str, str] = NONE,
    shape: str | None = None,
    skip_bad: bool = False,
    watch: Watch | None = None,
) -> Reading:
    """Open files of paths; the problems are read on iteration.

    Args:
        files: Parquet, JSONL, JSON, CSV or .eval files, also as .gz or .zst, folders of them, or ``hf://owner/name``.
        mapping: the field of each target, as in ``{"text": "output.text"}``; ``{"gold": ""}`` reads none.
        shape: name of the row format; None: detect it from the first row.
        skip_bad: skip and list invalid rows instead of raising.
        watch: receives the reading progress.

    Raises:
        PathpruneError: an invalid file, row or mapping, here or on iterating.
    """
    chosen = None if shape is None else shapes.named(shape)
    mappings.check(mapping, more=("filter",))
    opened = sources(files)
    rows = Rows(opened, skip_bad, shapes.is_row, watch)
    first = next(iter(rows), None)
    if first is None:
        raise PathpruneError(f"{opened[0].name}: no row can be read; the first: {next(iter(rows.refused.values()))}")
    chosen = chosen or shapes.of(first.row)
    try:
        reader = chosen.reader(first.row, mapping)
    except PathpruneError as flaw:
        raise PathpruneError(f"{first.where}: {flaw}") from flaw
    return Reading(opened, reader, chosen.name, rows)
