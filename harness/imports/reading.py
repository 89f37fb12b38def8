"""How rows are read by their fields: each row says something of a problem, and of one path of it or of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Protocol

from harness.imports import values
from harness.imports.chats import asked
from harness.imports.files import Given
from harness.imports.gather import Key, Part, digest
from harness.imports.logprobs import Statistics
from harness.imports.mapping import PATH, PROBLEM, TARGETS, add, find, lookup
from harness.imports.paths import golds, path, spread
from harness.imports.values import Flaw, is_list
from harness.text import shown
from tasks.benchmarks import fields
from tasks.benchmarks.files import Row, missing

BESIDE = ("path", "answer", "correct", "probes", "rewards")  # what a row may say beside paths that lie deeper in it
LATER = ("gold", *PATH)  # may first stand in a later row; which problem a row belongs to is told by one field
Paths = Callable[[Row], Iterable[Mapping[str, Any]]]


class Shape(Protocol):
    """A shape of row that is known."""

    name: str

    def fits(self, row: Row) -> bool:
        """Is this a row of it?"""

    def reader(self, row: Row, mapping: Mapping[str, str]) -> FieldReader:
        """Who reads such rows; ``row`` is the first, and ``mapping`` what the user knows better. Raises Flaw."""


@dataclass(frozen=True)
class Flat:
    """A shape that is known by its fields alone.

    Args:
        name: what it is called.
        needs: fields that all of its rows have.
        known: what its fields say, in order of preference where there are several.
        from_file: whether the file's name says which problem it is.
    """

    name: str
    needs: frozenset[str]
    known: Mapping[str, Sequence[str]]
    from_file: bool = False

    def fits(self, row: Row) -> bool:
        """Is this a row of it?"""
        return self.needs <= row.keys() and not (self.from_file and names_problem(row))

    def reader(self, row: Row, mapping: Mapping[str, str]) -> FieldReader:
        """Who reads such rows."""
        return FieldReader(row, mapping, known(row, self.known), from_file=self.from_file)


def known(row: Row, fields_of: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Of each thing the first field that the row has; a field "" says that the thing is not read."""
    found = {}
    for target, names in fields_of.items():
        there = next((name for name in names if not name or has(row, name)), None)
        if there is not None:
            found[target] = there
    return found


def has(row: Row, name: str) -> bool:
    """Is there something at a field, or at a field of a field?"""
    try:
        return lookup(row, name) is not None
    except Flaw:
        return False


def names_problem(row: Row) -> bool:
    """Does a field say which problem the row belongs to?"""
    return bool({"id", "problem"} & find(row, {}, tuple(PROBLEM)).keys())


@dataclass
class FieldReader:
    """Reads rows by their fields.

    Args:
        row: the first row.
        given: what the user says of fields.
        shape: what the shape says of them.
        paths_of: the paths of a row, as values by what they say, where they lie deeper than its fields.
        names: fields of those values, for messages.
        beside: what is looked for in fields of the row beside such paths.
        from_file: whether the file's name says which problem it is.
    """

    row: Row
    given: Mapping[str, str]
    shape: Mapping[str, str]
    paths_of: Paths | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    beside: Sequence[str] = ()
    from_file: bool = False
    statistics: Statistics = field(default_factory=Statistics)
    stems: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)  # what was said by any row
    columns: Sequence[str] | None = field(init=False)

    def __post_init__(self) -> None:
        self.targets = TARGETS if self.paths_of is None else (*PROBLEM, *self.beside)
        self.found = find(self.row, {**self.shape, **self.given}, self.targets)
        asked_in = [self.found.get(target) for target in ("id", "problem")]
        if "problem" not in self.found:
            asked_in.append(self.found.get("messages"))
        deep = [part for name in asked_in if name for part in (name, name.split(".")[0])]
        self.columns = [*deep, *fields.CONTEXTS, "input"]

    @property
    def mapping(self) -> dict[str, str]:
        """What was read from which field."""
        named = {**self.names, **self.found, **({"id": "(the file's name)"} if self.stems else {})}
        return {target: named[target] for target in (*PROBLEM, *PATH) if target in self.read and target in named}

    def key(self, given: Given, source: str) -> Key:
        """To which problem a row belongs. Raises Flaw where nothing says so."""
        name, prompt = self._id(given.row, source), self._prompt(given)
        if name is None and prompt is None:
            raise Flaw(f"nothing says which problem it belongs to: {self._asked_in(given.row)}; map one: problem=FIELD")
        return Key(name, digest(prompt))

    def _asked_in(self, row: Row) -> str:
        """Why no field of a row says which problem it is of."""
        named = next((name for name in PROBLEM["problem"] if name in row), None)
        return (
            "no id, problem, question or prompt" if named is None else f"{named} is {shown(row[named])}, not a question"
        )

    def part(self, given: Given, source: str) -> Part:
        """What a row says. Raises Flaw where it cannot be read."""
        row = given.row
        if self.paths_of is None:
            add(row, self.found, {**self.shape, **self.given}, LATER)
        names = {**self.names, **self.found}
        said = {target: self._value(row, target) for target in PATH if target in self.found and self._has(row, target)}
        told = list(spread(said, names)) if said or self.paths_of is None else []
        if self.paths_of is not None:
            told = list(self._merged(list(self.paths_of(row)), told))
        gold = self._value(row, "gold") if "gold" in self.found else None
        part = Part(
            id=self._id(row, source),
            prompt=self._prompt(given),
            golds=() if missing_gold(gold) else golds(gold, self.found["gold"], given.where),
            paths=[path(one, names, self.statistics) for one in told],
            where=given.where,
            numbers=[values.word(one.get("path"), names.get("path", "path")) for one in told],
        )
        about = {"id": part.id, "problem": part.prompt, "gold": part.golds or None}
        self.read.update(target for target, value in about.items() if value is not None)
        self.read.update(*told)
        return part

    def _merged(self, deep: list[Mapping[str, Any]], beside: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        if beside and deep and len(beside) != len(deep):
            raise Flaw(f"{len(beside)} entries stand beside {len(deep)} paths; each path needs one")
        return [{**one, **(beside[i] if beside else {})} for i, one in enumerate(deep)]

    def _has(self, row: Row, target: str) -> bool:
        return target in self.given or self.found[target] in row or has(row, self.found[target])

    def _value(self, row: Row, target: str) -> Any:
        """The value of a field; one that the user named must be there."""
        name = self.found[target]
        if name in row:
            return row[name]
        return lookup(row, name) if target in self.given or has(row, name) else None

    def _id(self, row: Row, source: str) -> str | None:
        name = values.word(self._value(row, "id"), self.found["id"]) if "id" in self.found else None
        if (name is not None and name.strip()) or not self.from_file:
            return name.strip() or None if name is not None else None
        stem = PurePath(source).name.split(".")[0]
        if self.stems.setdefault(stem, source) != source:
            raise Flaw(
                f"its problem is named {stem} after the file, and so is that of {self.stems[stem]}; import one folder at a time"
            )
        return stem

    def _prompt(self, given: Given) -> str | None:
        name = self.found.get("problem")
        if name is None:
            turns = self._value(given.row, "messages") if "messages" in self.found else None
            return asked(_one_chat(turns), self.found["messages"]) if turns is not None else None
        value = self._value(given.row, "problem")
        if value is None or (isinstance(value, str) and missing(value)):
            return None
        if not isinstance(value, str):
            return asked(value, name)
        about = {k: given.row[k] for k in (*fields.CONTEXTS, "input") if k in given.row and k != name}
        return fields.question({name if name in fields.QUESTIONS else "problem": value, **about}, given.where)


def _one_chat(turns: Any) -> Any:
    """Of a list of chats the first, whose question is that of all."""
    return turns[0] if is_list(turns) and len(turns) and is_list(turns[0]) else turns


def missing_gold(value: Any) -> bool:
    """Is there no gold answer?"""
    return missing(value) or (is_list(value) and not len(value))
