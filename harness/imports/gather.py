"""Groups rows into problems, wherever the rows are, with memory for one problem at a time.

A first pass finds the problem of each row and the number of rows per problem. The second pass keeps the rows of the current
problem in memory, and spools those of later problems to a temporary file.
"""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from harness.api import PathpruneError
from harness.imports.files import Given
from harness.imports.rows import ImportedPath, ImportedProblem
from harness.imports.stream import Rows
from harness.imports.values import Flaw
from harness.store.files import saying
from harness.text import shown

SPOOLED = 64 << 20  # bytes of spooled rows in memory before they go to disk


class Key(NamedTuple):
    """Identifies a row's problem: its id in the file, and a digest of its prompt."""

    id: str | None
    prompt: str | None


@dataclass
class Part:
    """The content of one row.

    Args:
        id, prompt, golds: as in ``ImportedProblem``.
        paths: the row's paths.
        numbers: each path's number within its problem; None if the file has none.
        where: location of the row.
    """

    id: str | None
    prompt: str | None
    golds: tuple[str, ...]
    paths: list[ImportedPath]
    where: str
    numbers: list[str | None] = field(default_factory=list)


class RowReader(Protocol):
    """Reads one row format. ``columns``: the fields that ``key`` needs; None: all."""

    columns: Sequence[str] | None

    def key(self, given: Given, source: str) -> Key:
        """The key of a row's problem. Raises Flaw if no field identifies it."""

    def part(self, given: Given, source: str) -> Part:
        """The content of a row. Raises Flaw if it cannot be read."""


def digest(prompt: str | None) -> str | None:
    """A short digest of a prompt; None for None."""
    return None if prompt is None else hashlib.blake2b(prompt.encode(), digest_size=12).hexdigest()


class Gathered:
    """The problems of some rows, in order of first appearance."""

    def __init__(self, rows: Rows, reader: RowReader) -> None:
        self.rows, self.reader = rows, reader
        self.by_prompt = False
        self.left: dict[Key, int] = {}  # rows by problem
        self.counted = -1  # rows that were refused when they were counted

    def count(self) -> int:
        """Run the first pass; return the number of problems."""
        if self.counted == len(self.rows.refused):
            return len(self.left)
        keys: list[Key] = []
        self.rows.watch.say("learning which rows belong together")
        for given in self.rows.only(self.reader.columns):
            try:
                keys.append(self.reader.key(given, self.rows.source.name))
            except PathpruneError as flaw:
                self.rows.refuse(given.where, flaw)
        self.by_prompt = _ids_name_paths(keys)
        self.left = {}
        for key in keys:
            name = self._name(key)
            self.left[name] = self.left.get(name, 0) + 1
        self.counted = len(self.rows.refused)
        return len(self.left)

    def _name(self, key: Key) -> Key:
        if key.prompt is not None and (self.by_prompt or key.id is None):
            return Key(None, key.prompt)
        return Key(key.id, None)

    def __iter__(self) -> Iterator[ImportedProblem]:
        self.count()
        order, left = list(self.left), dict(self.left)
        with saying(Path(tempfile.gettempdir()) / "paths that wait for their problem"), Spool() as waiting:
            draft, position = Draft(self.rows), 0
            for given in self.rows:
                name, part = self._read(given)
                if name is None:
                    continue
                left[name] -= 1
                if part is not None and name == order[position]:
                    draft.add(part)
                elif part is not None:
                    waiting.put(name, part)
                while position < len(order) and not left[order[position]]:
                    yield from draft.finished()
                    position, draft = position + 1, Draft(self.rows)
                    for part in waiting.take(order[position]) if position < len(order) else ():
                        draft.add(part)

    def _read(self, given: Given) -> tuple[Key | None, Part | None]:
        """(key of a row's problem, content of the row); None for a refused row."""
        name, source = None, self.rows.source.name
        try:
            name = self._name(self.reader.key(given, source))
            part = self.reader.part(given, source)
        except PathpruneError as flaw:
            self.rows.refuse(given.where, flaw)
            return name, None
        if self.by_prompt:
            part.id = None
        return name, part


def _ids_name_paths(keys: Sequence[Key]) -> bool:
    """Whether ids differ from row to row while prompts repeat, in which case they identify paths, not problems."""
    if not keys or any(key.id is None or key.prompt is None for key in keys):
        return False
    ids, prompts = {key.id for key in keys}, {key.prompt for key in keys}
    return len(ids) == len(keys) >= 2 * len(prompts)


class Draft:
    """A problem under construction."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.first: Part | None = None
        self.paths: list[ImportedPath] = []
        self.numbered: dict[str, str] = {}  # location of each numbered path

    def add(self, part: Part) -> None:
        """Add a row, unless it contradicts those before it."""
        try:
            self._check(part)
        except Flaw as flaw:
            self.rows.refuse(part.where, flaw)
            return
        if self.first is None:
            self.first = part
        self.numbered.update((number, part.where) for number in part.numbers if number is not None)
        self.first.prompt = self.first.prompt if self.first.prompt is not None else part.prompt
        self.first.golds = self.first.golds or part.golds
        self.paths += part.paths

    def _check(self, part: Part) -> None:
        if self.first is not None:
            self._agree(self.first, part)
        numbers = [number for number in part.numbers if number is not None]
        twice = next((n for i, n in enumerate(numbers) if n in self.numbered or n in numbers[:i]), None)
        if twice is not None:
            raise Flaw(
                f"path {twice} of problem {shown(part.id or part.prompt)} appears twice, first in {self.numbered.get(twice, part.where)}"
            )

    @staticmethod
    def _agree(first: Part, part: Part) -> None:
        if part.prompt is not None and first.prompt is not None and part.prompt != first.prompt:
            raise Flaw(
                f"problem {shown(part.id)} asks {shown(part.prompt)}, but {shown(first.prompt)} in {first.where}; give each problem its own id"
            )
        if part.golds and first.golds and part.golds != first.golds:
            raise Flaw(
                f"problem {shown(part.id or part.prompt)} has the gold answer {shown(part.golds[0])}, but {shown(first.golds[0])} in {first.where}"
            )

    def finished(self) -> Iterator[ImportedProblem]:
        """Yield the problem, unless all of its rows were skipped."""
        if self.first is not None and self.paths:
            yield ImportedProblem(self.first.id, self.first.prompt, self.first.golds, self.paths, self.first.where)


class Spool:
    """Rows spooled to a temporary file, which ends with the process."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(SPOOLED)  # noqa: SIM115
        self._places: dict[Key, list[int]] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def put(self, name: Key, part: Part) -> None:
        """Store a part of a problem."""
        self._places.setdefault(name, []).append(self._file.seek(0, 2) if self._places else 0)
        pickle.dump(part, self._file, pickle.HIGHEST_PROTOCOL)

    def take(self, name: Key) -> Iterator[Part]:
        """Yield the parts of a problem in the order in which they were stored."""
        for place in self._places.pop(name, ()):
            self._file.seek(place)
            yield pickle.load(self._file)
