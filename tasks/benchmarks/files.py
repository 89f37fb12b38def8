"""Reads rows of a benchmark from a JSON, JSONL or Parquet file, or from the Hugging Face Hub."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.api import PathpruneError, UnavailableError
from harness.text import shown

Row = Mapping[str, Any]


class Place(NamedTuple):
    """A row and its location, for messages: ``own.jsonl, line 3``."""

    where: str
    row: Row


class Hub(NamedTuple):
    """The location of a benchmark for ``datasets.load_dataset``."""

    path: str
    config: str | None = None
    split: str = "test"


def read(path: str, refused: list[str] | None = None) -> list[Place]:
    """The rows of a local file, in order. A JSON file is a list of objects, an object with one such list, or JSON lines.

    Args:
        path: the file.
        refused: collects a line per invalid row, which is skipped; None: the first invalid row is an error.

    Raises:
        PathpruneError: a file that is missing, unreadable or without rows; the message names the line or row.
    """
    file = _file(path)
    readers: dict[str, Callable[[Path], Iterable[Place]]] = {
        ".jsonl": lambda file: _lines(file, refused),
        ".json": _json,
        ".parquet": _parquet,
    }
    if file.suffix not in readers:
        raise PathpruneError(f"{path} is not a .json, .jsonl or .parquet file")
    try:
        rows = list(readers[file.suffix](file))
    except OSError as error:
        raise PathpruneError(f"{path} cannot be read ({error.strerror or error})") from error
    if not rows:
        raise PathpruneError(f"{path} has no problems" + (f"; the first: {refused[0]}" if refused else ""))
    good = []
    for where, row in rows:
        if isinstance(row, dict):
            good.append(Place(where, row))
            continue
        flaw = f"{where}: not an object with fields but {shown(row)}"
        if refused is None:
            raise PathpruneError(flaw)
        refused.append(flaw)
    return good


def _file(path: str) -> Path:
    try:
        file = Path(path).expanduser()
        known = file.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # a name that no file has: too long, NUL, ~nobody
        raise PathpruneError(f"no file of problems at {shown(path)} ({type(error).__name__})") from error
    if not known:
        raise PathpruneError(f"no file of problems at {path}" + (", which is a folder" if file.is_dir() else ""))
    return file


def fetch(hub: Hub, name: str) -> list[Place]:
    """The rows of a Hub data set, downloaded once and then read from the cache of ``datasets``."""
    local = f"or give a file of it: --task {name}:data=FILE"
    try:
        import datasets
    except ImportError as error:
        raise UnavailableError(
            f"{name} is on the Hugging Face hub: pip install 'pathprune[benchmarks]', {local}"
        ) from error
    # A missing dataset, a gated one, a missing configuration and no connection at all.
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    refused = (OSError, ValueError, HfHubHTTPError, OfflineModeIsEnabled, datasets.exceptions.DatasetsError)
    try:
        rows = datasets.load_dataset(hub.path, hub.config, split=hub.split)
    except refused as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnavailableError(
            f"{name}: {hub.path} cannot be loaded from the hub ({first[:160]}); check the connection and the access, {local}"
        ) from error
    return _numbered(hub.path, [dict(row) for row in rows])


def missing(value: Any) -> bool:
    """Whether a value is empty: null, NaN, or white space."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def _numbered(source: Any, rows: Sequence[Any]) -> list[Place]:
    return [Place(f"{source}, row {number}", row) for number, row in enumerate(rows, 1)]


def _lines(file: Path, refused: list[str] | None = None) -> Iterator[Place]:
    for number, line in enumerate(_text(file).split("\n"), 1):
        if line.strip():
            where = f"{file}, line {number}"
            try:
                yield Place(where, decoded(line, where))
            except PathpruneError as flaw:
                if refused is None:
                    raise
                refused.append(str(flaw))


def _json(file: Path) -> list[Place]:
    text = _text(file)
    if _is_lines(text):
        return list(_lines(file))
    return _numbered(file, listed(decoded(text, str(file)), str(file)))


def listed(content: Any, where: str) -> list[Any]:
    """The rows of a JSON document: a list, an object with one list of objects, or an object that is the only row."""
    if isinstance(content, dict):  # {"data": [...]}, {"train": [...]}
        lists = [value for value in content.values() if isinstance(value, list) and all(map(_is_row, value))]
        if len(lists) > 1:
            raise PathpruneError(f"{where} is an object with {len(lists)} lists in it, not a list of problems")
        content = lists[0] if lists else [content]
    if not isinstance(content, list):
        raise PathpruneError(f"{where} is not a list of problems but {shown(content)}")
    return content


def _is_row(value: Any) -> bool:
    """Whether a value may be a problem; a chat turn is not."""
    return isinstance(value, dict) and not {"role", "from"} & value.keys()


def _is_lines(text: str) -> bool:
    """Whether a .json file is in fact JSON lines: its first line is an object, and another follows."""
    first, _, rest = text.strip().partition("\n")
    if not rest.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def decoded(text: str, where: str) -> Any:
    """Parse a JSON text, refusing objects with duplicate fields.

    Raises:
        PathpruneError: the text at ``where`` is not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise PathpruneError(f"{where} is nested too deeply") from error
    except ValueError as error:  # not JSON, an integer with too many digits, a duplicate field
        if "integer string conversion" in str(error):
            raise PathpruneError(f"{where} has an integer with thousands of digits, which no field allows") from error
        raise PathpruneError(f"{where} is not JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {shown(twice)} appears twice in one object")
    return fields


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise PathpruneError(f"{file} is not UTF-8 text ({error.reason} in line {line})") from error


def _parquet(file: Path) -> list[Place]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Any] = pq.ParquetFile(file).read().to_pylist()
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:  # damaged, or values beyond Python's
        raise PathpruneError(
            f"{file} is not a Parquet file of problems ({' '.join(str(error).split())[:200]})"
        ) from error
    return _numbered(file, rows)
