"""Streams rows from files of paths: Parquet, JSON lines, JSON, CSV and inspect_ai logs, compressed or not."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import pyarrow as pa

from harness.api import PathpruneError
from harness.imports import parquet
from harness.imports.values import Flaw
from harness.text import shown
from tasks.benchmarks.files import Row, decoded, listed

KINDS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".eval")
PACKED = {".gz": "gzip", ".zst": "zstd"}
SIGNS = {b"PAR1": "Parquet", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}  # first bytes
MOST_WHOLE = 1 << 30  # bytes of the largest unit read at once: a JSON document or a line
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
BLOCK = 1 << 18
UNZIPPED = {
    v for k, v in vars(zipfile).items() if k in ("ZIP_STORED", "ZIP_DEFLATED", "ZIP_BZIP2", "ZIP_LZMA", "ZIP_ZSTANDARD")
}
ZSTD = (20, 93)  # methods of zip
REFUSED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, pa.ArrowException)


@dataclass
class Reached:
    """Bytes read of a file, in its compressed size."""

    bytes: int = 0

    def add(self, count: int) -> None:
        """Advance by ``count`` bytes."""
        self.bytes += count


class Counted(io.RawIOBase):
    """A file object that counts the bytes read."""

    def __init__(self, inner: io.FileIO, reached: Reached) -> None:
        self.inner, self.reached = inner, reached

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read into the buffer and count the bytes."""
        count = self.inner.readinto(buffer)
        self.reached.add(count or 0)
        return count


class Given(NamedTuple):
    """A row, or the flaw in it, with its location."""

    where: str
    row: Any


@dataclass(frozen=True)
class Source:
    """One file of rows.

    Args:
        path: its local path.
        name: its name in messages and records.
        kind: its suffix, without that of a compression.
        packing: "gzip", "zstd" or None.
    """

    path: Path
    name: str
    kind: str
    packing: str | None

    @property
    def size(self) -> int:
        """Size in bytes."""
        with self._blamed():
            return self.path.stat().st_size

    def rows(
        self, is_row: Callable[[Any], bool], columns: Sequence[str] | None = None, reached: Reached | None = None
    ) -> Iterator[Given]:
        """Yield its rows in order.

        Args:
            is_row: whether an object that contains a list of objects is itself a row.
            columns: the fields to read; only Parquet skips the others.
            reached: counts the bytes read.

        Raises:
            PathpruneError: the file does not match its suffix, is damaged or truncated.
        """
        reached = reached or Reached()
        with self._blamed():
            if self.kind == ".parquet":
                yield from self._parquet(columns, reached)
            elif self.kind == ".csv":
                yield from self._csv(reached)
            elif self.kind == ".eval":
                yield from self._eval(reached)
            else:
                yield from self._json(is_row, reached)

    def sha256(self, reached: Reached | None = None) -> str:
        """The file's hash, as ``sha256sum`` prints it."""
        with self._blamed(), self.path.open("rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(BLOCK):
                digest.update(block)
                (reached or Reached()).add(len(block))
            return digest.hexdigest()

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        try:
            yield
        except PathpruneError:
            raise
        except PermissionError as error:
            raise PathpruneError(f"{self.name} cannot be read ({error.strerror}); check its permissions") from error
        except REFUSED as error:
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise PathpruneError(
                f"{self.name} is damaged or truncated ({reason}); copy or write it again, nothing was imported"
            ) from error

    @contextmanager
    def _opened(self, reached: Reached) -> Iterator[io.BufferedReader]:
        """The decompressed file; ``reached`` counts compressed bytes."""
        with self.path.open("rb", buffering=0) as raw, io.BufferedReader(Counted(raw, reached), BLOCK) as packed:
            if self.packing == "gzip":
                with gzip.GzipFile(fileobj=packed) as stream:
                    yield cast(io.BufferedReader, stream)
            elif self.packing == "zstd":
                with pa.CompressedInputStream(packed, "zstd") as inner, io.BufferedReader(inner) as stream:
                    yield stream
            else:
                self._refuse_by_sign(packed.peek(1024)[:1024])
                yield cast(io.BufferedReader, packed)

    def _refuse_by_sign(self, first: bytes) -> None:
        sign = next((kind for sign, kind in SIGNS.items() if first.startswith(sign)), None)
        if first.startswith(UTF_16) or (sign is None and _is_wide(first)):
            raise PathpruneError(
                f"{self.name} is UTF-16 text, and only UTF-8 is read; convert it: iconv -f UTF-16 -t UTF-8"
            )
        if sign is not None or b"\x00" in first:
            raise PathpruneError(
                f"{self.name} is a {sign or 'binary'} file, not {self.kind}; give it the suffix of its format ({', '.join((*KINDS, *PACKED))})"
            )

    def _lines(self, stream: io.BufferedReader, first: bytes) -> Iterator[Given]:
        number, line = 1, first
        while line:
            if len(line) > MOST_WHOLE:
                raise PathpruneError(
                    f"{self.name}, line {number}: more than {MOST_WHOLE:,} bytes in one line; write one line per path"
                )
            if line.strip():
                where = f"{self.name}, line {number}"
                row = _read(line, where)
                if number == 1 and isinstance(row, PathpruneError) and line.strip() in (b"{", b"["):
                    raise PathpruneError(
                        f"{self.name} is one JSON document over many lines; name it .json, or write one row per line: jq -c"
                    )
                yield Given(where, row)
            number, line = number + 1, stream.readline(MOST_WHOLE + 1)

    def _json(self, is_row: Callable[[Any], bool], reached: Reached) -> Iterator[Given]:
        """Rows of JSON lines, whatever the suffix, or of a single document."""
        with self._opened(reached) as stream:
            first = stream.readline(MOST_WHOLE + 1).removeprefix(b"\xef\xbb\xbf")
            is_array = first.lstrip().startswith(b"[")
            if (self.kind != ".json" and not is_array) or (_is_object(first) and stream.peek(1).strip()):
                yield from self._lines(stream, first or stream.readline(MOST_WHOLE + 1))
                return
            whole = first + stream.read(MOST_WHOLE + 1)
        if len(whole) > MOST_WHOLE:
            raise PathpruneError(
                f"{self.name} is one JSON document of more than {MOST_WHOLE:,} bytes; convert it to lines: jq -c '.[]'"
            )
        if not whole.strip():
            return
        content = _read(whole, self.name)
        if isinstance(content, PathpruneError):
            raise PathpruneError(str(content) if self.name in str(content) else f"{self.name} {content}")
        if isinstance(content, dict) and isinstance(content.get("samples"), list) and "eval" in content:
            rows: list[Any] = content["samples"]  # a log of inspect_ai
        else:
            rows = [content] if isinstance(content, dict) and is_row(content) else listed(content, self.name)
        size = reached.bytes
        for number, row in enumerate(rows, 1):
            reached.bytes = size * number // len(rows)
            yield Given(f"{self.name}, row {number}", row)

    def _csv(self, reached: Reached) -> Iterator[Given]:
        csv.field_size_limit(MOST_WHOLE)
        with self._opened(reached) as stream:
            try:
                rows = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
                header = next(rows, [])
                named = [name for name in header if name]
                if len(header) == 1 and (other := next((c for c in ";\t|" if c in header[0]), None)):
                    raise PathpruneError(
                        f"{self.name} has one column, {shown(header[0])}: its cells are separated by {other!r}; use commas"
                    )
                if len(set(named)) < len(named):
                    raise PathpruneError(f"{self.name} has two columns with the same name: {', '.join(named)[:200]}")
                for number, cells in enumerate(rows, 1):
                    if cells:
                        yield Given(f"{self.name}, row {number}", _cells(header, cells))
            except UnicodeDecodeError as error:
                raise PathpruneError(
                    f"{self.name}{self._first_undecodable()} is not UTF-8 text ({error.reason}); convert it: iconv -t UTF-8 -f ENCODING"
                ) from error
            except csv.Error as error:
                raise PathpruneError(f"{self.name}, line {rows.line_num}: not CSV ({error}); write it again") from error

    def _first_undecodable(self) -> str:
        """The first line that is not UTF-8, for a message."""
        with self._opened(Reached()) as stream:
            for number, line in enumerate(stream, 1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    return f", line {number},"
        return ""

    def _parquet(self, columns: Sequence[str] | None, reached: Reached) -> Iterator[Given]:
        size = self.size
        for number, (row, share) in enumerate(parquet.rows(self.path, columns), 1):
            reached.bytes = int(share * size)
            yield Given(f"{self.name}, row {number}", row)

    def _eval(self, reached: Reached) -> Iterator[Given]:
        """Samples of a zipped inspect_ai log, by id and epoch."""
        with zipfile.ZipFile(self.path) as archive:
            names = [n for n in archive.namelist() if n.startswith("samples/") and n.endswith(".json")]
            for name in sorted(names, key=natural):
                where, about = f"{self.name}, {name}", archive.getinfo(name)
                if about.file_size > MOST_WHOLE:
                    raise PathpruneError(f"{where}: more than {MOST_WHOLE:,} bytes")
                if about.compress_type not in UNZIPPED:
                    raise PathpruneError(
                        f"{self.name} uses a compression (zip method {about.compress_type}{', zstd' * (about.compress_type in ZSTD)}) that this "
                        f"Python cannot read; convert it to JSON first: inspect log convert {self.name} --to json --output-dir FOLDER"
                    )
                reached.add(about.compress_size)
                yield Given(where, _read(archive.read(name), where))


def _is_wide(first: bytes) -> bool:
    """Is every other byte NUL, as in English text encoded as UTF-16?"""
    halves = (first[0:64:2], first[1:64:2])
    return len(first) >= 4 and any(not any(half) for half in halves) and all(len(half) for half in halves)


def _read(line: bytes, where: str) -> Any:
    """The value of a JSON text, or the flaw in it."""
    try:
        return decoded(line.decode("utf-8"), where)
    except UnicodeDecodeError as error:
        return Flaw(f"is not UTF-8 text ({error.reason})")
    except PathpruneError as error:
        return error


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _cells(header: Sequence[str], cells: Sequence[str]) -> Row | Flaw:
    if len(cells) != len(header):
        return Flaw(f"has {len(cells)} cells, and the header {len(header)}")
    return {name: cell for name, cell in zip(header, cells, strict=True) if name}


def natural(name: str) -> list[tuple[int, str]]:
    """A natural sort key: 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
