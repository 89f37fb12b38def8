"""Reads rows by their fields: each row describes a problem and one or more of its paths."""

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

BESIDE = ("path", "answer", "correct", "probes", "rewards")  # targets in a row's own fields when its paths are nested
LATER = ("gold", *PATH)  # targets that may first appear in a later row
Paths = Callable[[Row], Iterable[Mapping[str, Any]]]


class Shape(Protocol):
    """A known row format."""

    name: str

    def fits(self, row: Row) -> bool:
        """Does this row have the format?"""

    def reader(self, row: Row, mapping: Mapping[str, str]) -> FieldReader:
        """The reader for such rows, from the first row and the user's mapping, which takes precedence. Raises Flaw."""


@dataclass(frozen=True)
class Flat:
    """A format that is recognised by its fields alone.

    Args:
        name: its name.
        needs: fields that all of its rows have.
        known: the fields of each target, in order of preference.
        from_file: whether the file's name identifies the problem.
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
    """The first field of each target that the row has; the field "" means that the target is not read."""
    found = {}
    for target, names in fields_of.items():
        there = next((name for name in names if not name or has(row, name)), None)
        if there is not None:
            found[target] = there
    return found


def has(row: Row, name: str) -> bool:
    """Does the row have a non-null value at a field or a dotted path?"""
    try:
        return lookup(row, name) is not None
    except Flaw:
        return False


def names_problem(row: Row) -> bool:
    """Does a field identify the row's problem?"""
    return bool({"id", "problem"} & find(row, {}, tuple(PROBLEM)).keys())


@dataclass
class FieldReader:
    """Reads rows by their fields.

    Args:
        row: the first row.
        given: the user's mapping.
        shape: the mapping of the row format.
        paths_of: for nested paths, a function from a row to the values of each path, by target.
        names: field names of those values, for messages.
        beside: targets to find in the row's own fields when its paths are nested.
        from_file: whether the file's name identifies the problem.
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
    read: set[str] = field(default_factory=set)  # targets that any row had
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
        """The field that each target was read from."""
        named = {**self.names, **self.found, **({"id": "(the file's name)"} if self.stems else {})}
        return {target: named[target] for target in (*PROBLEM, *PATH) if target in self.read and target in named}

    def key(self, given: Given, source: str) -> Key:
        """The key of a row's problem. Raises Flaw if no field identifies it."""
        name, prompt = self._id(given.row, source), self._prompt(given)
        if name is None and prompt is None:
            raise Flaw(f"no field identifies its problem: {self._asked_in(given.row)}; map one: problem=FIELD")
        return Key(name, digest(prompt))

    def _asked_in(self, row: Row) -> str:
        """Why no field of a row identifies its problem."""
        named = next((name for name in PROBLEM["problem"] if name in row), None)
        return (
            "no id, problem, question or prompt" if named is None else f"{named} is {shown(row[named])}, not a question"
        )

    def part(self, given: Given, source: str) -> Part:
        """The content of a row. Raises Flaw if it cannot be read."""
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
            raise Flaw(f"has {len(beside)} entries for {len(deep)} paths; each path needs one")
        return [{**one, **(beside[i] if beside else {})} for i, one in enumerate(deep)]

    def _has(self, row: Row, target: str) -> bool:
        return target in self.given or self.found[target] in row or has(row, self.found[target])

    def _value(self, row: Row, target: str) -> Any:
        """The value of a target's field; a field that the user mapped must exist."""
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
                f"its problem is named {stem} after the file, like that of {self.stems[stem]}; import one folder at a time"
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
    """The first of a list of chats, since all ask the same question; any other value itself."""
    return turns[0] if is_list(turns) and len(turns) and is_list(turns[0]) else turns


def missing_gold(value: Any) -> bool:
    """Is this value no gold answer?"""
    return missing(value) or (is_list(value) and not len(value))
