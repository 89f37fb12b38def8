"""A pool's folder while it is written, one problem at a time, under a hidden name. An interrupted import can be resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.api import PathpruneError, UnavailableError
from harness.imports.card import card_of
from harness.imports.pool import CARD, DISAGREEMENTS, PATHS, PROBLEMS
from harness.imports.rows import ImportedProblem, Readable
from harness.imports.schema import content_digest
from harness.imports.wanted import Wanted
from harness.imports.watch import Watch
from harness.imports.work import Work
from harness.store.files import settled, writable
from harness.store.names import file_name
from harness.text import shown, unfit

ENTRY = b"pathprune.entry"
STATED = "importing.json"
LINE = (
    "id",
    "prompt",
    "golds",
    "file",
    "sha256",
    "paths",
    "prompt_tokens",
)  # of what is known of a problem, what its line says


class Draft:
    """A pool's folder while it is written, under a hidden name."""

    def __init__(self, folder: FilePath, wanted: Wanted, key: str, about: Mapping[str, Any]) -> None:
        self.folder, self.wanted, self.key, self.about = folder, wanted, key, about
        stated = folder / STATED
        if folder.exists() and not (stated.is_file() and stated.read_text() == key):
            shutil.rmtree(folder)
        with writable(stated) as part:
            part.write_text(key)
        self.entries: list[dict[str, Any]] = []
        self.skipped: list[str] = []
        self.beside: list[dict[str, Any]] = []  # files of gold answers
        self._places: dict[str, str] = {}

    def fill(self, problems: Iterable[ImportedProblem], watch: Watch) -> None:
        """Write the problems that are not written yet."""
        work = Work.of(self.wanted, self.about)
        self.beside = [work.golds.about] if work.golds is not None else []
        paths = 0
        for number, problem in enumerate(problems, 1):
            try:
                self.entries.append(self._entry(problem, number, work))
            except UnavailableError:
                raise
            except PathpruneError as error:
                if not self.wanted.skip_bad:
                    raise
                self.skipped.append(str(error))
                continue
            paths += self.entries[-1]["paths"]
            watch.say(f"{len(self.entries):,} problems, {paths:,} paths")
        watch.finish()

    def publish(self, reading: Readable, name: str, folder: FilePath) -> None:
        """Write the pool's card and move the folder to its name.

        Raises:
            PathpruneError: no path was read, or the paths have no common unit of length.
        """
        skipped = [*reading.skipped, *self.skipped]
        if not self.entries:
            first = f"; {len(skipped)} were skipped, the first: {skipped[0]}" if skipped else ""
            raise PathpruneError(f"{', '.join(self.wanted.files)}: no problem with paths was read{first}")
        card = card_of(name, self.wanted, self.key, reading, self.entries, self.beside) | {"skipped": skipped}
        _write_lines(self.folder / PROBLEMS, [{k: e[k] for k in LINE} for e in self.entries])
        _write_lines(self.folder / DISAGREEMENTS, [d for e in self.entries for d in e["disagreements"]])
        with writable(self.folder / CARD) as part:
            part.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (self.folder / STATED).unlink()
        listed = {e["file"] for e in self.entries}
        for left in (self.folder / PATHS).iterdir():
            if left.name not in listed:
                left.unlink()
        self.folder.rename(folder)
        settled(folder.parent)

    def _entry(self, problem: ImportedProblem, number: int, work: Work) -> dict[str, Any]:
        name = self._name(problem, number)
        file = self.folder / PATHS / f"{file_name(name)}.parquet"
        if (known := _entry_in(file)) is not None:
            return known
        rows, entry = work.rows(problem, name)
        entry |= {"file": file.name, "sha256": content_digest(rows)}
        with writable(file) as part:
            schema = {ENTRY: json.dumps(entry).encode()}
            pq.write_table(rows.replace_schema_metadata(schema), part, compression="zstd")
        return entry

    def _name(self, problem: ImportedProblem, number: int) -> str:
        name = (
            f"problem-{number:05d}" if problem.id is None else problem.id.strip().replace("/", "_").replace("\\", "_")
        )
        if why := unfit(name):
            raise PathpruneError(f"{problem.where}: the problem's id must name a file, but {why}; change the id")
        if name in self._places:
            raise PathpruneError(
                f"{problem.where}: problem {shown(name)} is also at {self._places[name]}; give all of its paths the same id"
            )
        self._places[name] = problem.where
        return name


def _entry_in(file: FilePath) -> dict[str, Any] | None:
    """What a file that an interrupted import wrote says of its problem; None where it is not there, or not whole."""
    try:
        entry: dict[str, Any] = json.loads(pq.read_schema(file).metadata[ENTRY])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):  # it is written again
        return None
    return entry


def _write_lines(file: FilePath, rows: Sequence[Mapping[str, Any]]) -> None:
    with writable(file) as part:
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
