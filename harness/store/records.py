"""Append-only records: a header (spec and provenance), then one JSON line per problem.

Lines are appended as problems finish, so an interrupted run loses at most the line it was writing and the same command
continues.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.api import PathpruneError
from harness.store.files import refused
from harness.store.provenance import provenance

FORMAT = "pathprune-record/1"


class Record:
    """One append-only file. ``lines`` holds what it has, by problem id."""

    def __init__(self, file: Path, header: dict[str, Any], lines: dict[str, dict[str, Any]]) -> None:
        self.file, self.header, self.lines = file, header, lines

    @classmethod
    def open(cls, file: Path, spec: Mapping[str, Any], **about: Any) -> Record:
        """Continue a record, or start one. The header, which holds ``about`` too, is written with the first line."""
        # A file without one whole line is what a full disk leaves of a first append: it is started again.
        if file.exists() and b"\n" in file.read_bytes():
            record = cls.read(file, mend=True)
            if record.header["spec"] != json.loads(json.dumps(spec)):
                raise PathpruneError(f"{file} was written for another spec; move it away and run again")
            return record
        return cls(file, {"format": FORMAT, "spec": dict(spec), **about, "provenance": provenance()}, {})

    @classmethod
    def read(cls, file: Path, mend: bool = False) -> Record:
        """Load a record. A torn last line (a run was killed) is dropped, and cut off when ``mend``."""
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise PathpruneError(f"cannot read {file} ({error.strerror})") from error
        whole = raw[: raw.rfind(b"\n") + 1]
        rows = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise PathpruneError(f"{file} is damaged at line {number}; delete that line or the file") from error
        if not rows or not isinstance(rows[0], dict) or rows[0].get("format") != FORMAT:
            raise PathpruneError(f"{file} is not a {FORMAT} file; delete it or move it out of the results folder")
        if mend and len(whole) < len(raw):
            with file.open("r+b") as stream:
                stream.truncate(len(whole))
        try:
            return cls(file, {**rows[0], "spec": rows[0]["spec"]}, {row["problem"]: row for row in rows[1:]})
        except (KeyError, TypeError) as error:
            raise PathpruneError(f"{file} is damaged: a line has no {error}; delete the file and run again") from error

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write rows at once and make them durable."""
        new = [row for row in rows if row["problem"] not in self.lines or "error" in self.lines[row["problem"]]]
        if not new:
            return
        text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in new)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            fresh = not self.lines
            with self.file.open("w" if fresh else "a") as stream:
                stream.write((json.dumps(self.header) + "\n" if fresh else "") + text)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise refused(self.file, error) from error
        self.lines |= {row["problem"]: row for row in new}
