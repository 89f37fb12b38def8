"""Keys are for ever; records are append-only and never silently wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.api import PathpruneError
from harness.learn.checkpoints import slug
from harness.store.files import writable
from harness.store.keys import digest
from harness.store.records import FORMAT, Record

SPEC = {"task": "toy", "task_version": "1", "engine": {"model": "toy"}, "seed": 0, "max_tokens": 48, "n": 8}


def test_golden_keys() -> None:
    """SHA-256 of the canonical JSON, checked with sha256sum. A change orphans every stored result: bump KEY_VERSION."""
    assert digest(SPEC) == "f63a2c1732de"
    assert digest(dict(reversed(SPEC.items()))) == digest(SPEC)
    assert digest(SPEC | {"seed": 1}) != digest(SPEC)


def test_names_never_collide() -> None:
    names = ["stop", "stop:rank=0", "stop:rank=0,tokens=1", "mine@Mine"]
    assert len({slug(n) for n in names}) == len(names)


def rows(record: Record) -> list[Any]:
    return [row["scores"] for row in record.lines.values()]


def test_append_and_read_back(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "a" / "r.jsonl", SPEC, quadrant="control")
    record.append([{"problem": "p", "scores": [1.0]}])
    record.append([{"problem": "p", "scores": [2.0]}, {"problem": "q", "scores": [3.0]}])
    again = Record.open(record.file, SPEC)
    assert rows(again) == [[1.0], [3.0]]  # what is there is not overwritten
    assert again.header["quadrant"] == "control" and again.header["provenance"]["versions"]["pathprune"]


def test_an_error_row_can_be_repaired(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "r.jsonl", SPEC)
    record.append([{"problem": "p", "error": "boom"}])
    record.append([{"problem": "p", "scores": [1.0]}])
    assert rows(Record.read(record.file)) == [[1.0]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a"),
        ('{"format": "other/9"}\n', "is not a"),
        ("[1]\n", "is not a"),
        (json.dumps({"format": FORMAT, "spec": SPEC}) + "\n{nonsense}\n", "damaged at line 2"),
    ],
)
def test_a_damaged_record_names_file_and_line(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text(text)
    with pytest.raises(PathpruneError, match=f"r.jsonl.*{says}"):
        Record.read(file)


def test_a_record_of_another_spec_is_refused(tmp_path: Path) -> None:
    Record.open(tmp_path / "r.jsonl", SPEC).append([{"problem": "p", "scores": [1.0]}])
    with pytest.raises(PathpruneError, match="another spec"):
        Record.open(tmp_path / "r.jsonl", SPEC | {"seed": 9})


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old")
    with pytest.raises(PathpruneError, match="No space left"), writable(file) as part:
        part.write_text("half")
        raise OSError(28, "No space left on device")
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
