"""Rows of a benchmark: from a JSON, JSONL or Parquet file, or from the Hugging Face hub."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.api import PathpruneError, UnavailableError

Row = Mapping[str, Any]


class Hub(NamedTuple):
    """Where ``datasets.load_dataset`` finds a benchmark."""

    path: str
    config: str | None = None
    split: str = "test"


def read(path: str) -> list[Row]:
    """The rows of a local file, in order; a JSON file is a list of objects, or one object that holds such a list."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise PathpruneError(f"no file of problems at {path}")
    readers = {".jsonl": _lines, ".json": _json, ".parquet": _parquet}
    if file.suffix not in readers:
        raise PathpruneError(f"{path} is not a .json, .jsonl or .parquet file")
    rows = readers[file.suffix](file)
    if not rows:
        raise PathpruneError(f"{path} holds no problems")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise PathpruneError(f"{path}, row {number}: not an object with fields but {str(row)[:40]!r}")
    return rows


def fetch(hub: Hub, name: str) -> list[Row]:
    """The rows of a hub dataset; downloaded once, then from the cache of ``datasets``."""
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
        return [dict(row) for row in datasets.load_dataset(hub.path, hub.config, split=hub.split)]
    except refused as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnavailableError(
            f"{name}: {hub.path} cannot be loaded from the hub ({first[:160]}); check the connection and the access, {local}"
        ) from error


def missing(value: Any) -> bool:
    """Nothing to ask or to grade by: null, NaN, or white space."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()


def _lines(file: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(_text(file).split("\n"), 1):
        if line.strip():
            rows.append(_decoded(line, f"{file}, line {number}"))
    return rows


def _json(file: Path) -> list[Any]:
    content = _decoded(_text(file), str(file))
    if isinstance(content, dict):  # {"data": [...]}, {"train": [...]}
        lists = [value for value in content.values() if isinstance(value, list)]
        if len(lists) != 1:
            raise PathpruneError(f"{file} is an object with {len(lists)} lists in it, not a list of problems")
        content = lists[0]
    if not isinstance(content, list):
        raise PathpruneError(f"{file} is not a list of problems but {str(content)[:40]!r}")
    return content


def _decoded(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise PathpruneError(f"{where} is not JSON: {error}") from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PathpruneError(f"{file} is not UTF-8 text ({error.reason} at byte {error.start})") from error


def _parquet(file: Path) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Any] = pq.read_table(file).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise PathpruneError(f"{file} is not a Parquet file ({error})") from error
    return rows
