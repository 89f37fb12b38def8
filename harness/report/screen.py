"""A table in a terminal: as many columns as fit, and notes as letters that are explained below the table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from harness.report import Group
from harness.report.rows import Row
from harness.report.tables import cells, columns
from harness.text import folded, one_line

NAME, AVERAGE, NOTE = 0, 3, 22
# Columns by importance, as indices of ``tables.columns``: gain, cons, tokens, saved, p, AUROC within, serial tokens, ...
WANTED = (4, 9, 11, 13, 5, 16, 24, 10, 8, 18)
WITH_INTERVAL = (4, 9)  # the others show only the mean
WIDEST = 30  # characters of a name on one line
LEADING = re.compile(r"(?<![0-9])([-+]?)0\.")  # 0.564 -> .564 where space is short
OWN_RULE = re.compile(r"own rule: ([0-9.]+) of \d+ paths vote")
SAME = re.compile(r"\d+ methods that keep the same paths")


@dataclass(frozen=True, eq=False)
class Screen:
    """A table that ``rich`` prints in the available width."""

    group: Group
    keep: int
    rows: Sequence[Row]

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """The title, the columns that fit, and the notes."""
        notes = Notes(self.group.pool.n)
        marks = [notes.mark(row) for row in self.rows]
        yield Text(self.group.title, "table.title")
        shown = self._fitting(marks, options.max_width)
        heads = columns(self.group.pool.n, self.keep, self.group.unit)
        yield _drawn(shown, heads)
        if hidden := [heads[index] for index in WANTED if index not in shown]:
            yield Text(f"a wider terminal, pathprune leaderboard and frame() also show: {', '.join(hidden)}", "dim")
        for line in notes.explained():
            yield Text(line, "dim")

    def _fitting(self, marks: Sequence[str], width: int) -> dict[int, list[str]]:
        """The cells of the columns that fit, in display order."""
        heads, texts = columns(self.group.pool.n, self.keep, self.group.unit), [cells(row) for row in self.rows]
        named = [_broken(one_line(row[NAME].partition(" = ")[0])) for row in texts]
        shown: dict[int, list[str]] = {NAME: ["\n".join(lines) for lines in named], NOTE: list(marks)}
        for index in (AVERAGE, *WANTED):
            column = [_short(row[index], index in WITH_INTERVAL) for row in texts]
            if _width({**shown, index: column}, heads) <= width or index == WANTED[0]:
                shown[index] = column
        exact = [_short(row[AVERAGE], True) for row in texts]
        if AVERAGE in shown and _width({**shown, AVERAGE: exact}, heads) <= width:
            shown[AVERAGE] = exact
        if not any(marks):
            del shown[NOTE]
        return {index: shown[index] for index in sorted(shown, key=_place)}


class Notes:
    """Notes on rows, each explained once and marked by a letter."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.letters: dict[str, str] = {}
        self.has_rules = False

    def mark(self, row: Row) -> str:
        """The last cell of a row: number of voting paths for a method with its own rule, and letters of notes."""
        words, notes = [], [part for part in row.note.split(", ") if part]
        for note in notes:
            if rule := OWN_RULE.fullmatch(note):
                self.has_rules = True
                words.append(f"{rule[1]} vote")
            elif SAME.fullmatch(note):
                names = row.name.split(" = ")
                words.append(self._letter(f"{names[0]} keeps the same paths as {', '.join(names[1:])}"))
            else:
                words.append(self._letter(note))
        return " ".join(words)

    def _letter(self, note: str) -> str:
        # 26 notes have letters, the others numbers.
        count = len(self.letters)
        return self.letters.setdefault(one_line(note), ascii_lowercase[count] if count < 26 else str(count + 1))

    def explained(self) -> Iterator[str]:
        """One line per note."""
        if self.has_rules:
            yield f"N vote: the method has its own decision rule, after which N of {self.n} paths vote"
        for note, letter in self.letters.items():
            yield f"{letter}: {note}"


def _place(index: int) -> int:
    """The sort key of a column: notes last, serial tokens after the saved ones."""
    return {NOTE: 99, 24: 14}.get(index, index)


def _short(text: str, interval: bool) -> str:
    """A cell without leading zeros, and without its interval unless ``interval``."""
    text = text if interval else text.partition(" [")[0]
    return LEADING.sub(r"\1.", text).replace(", ", ",")


def _broken(name: str) -> list[str]:
    """A name in short lines, broken between its options."""
    lines = [""]
    for piece in re.split(r"(?<=[:,])", name):
        if len(lines[-1]) + len(piece) > WIDEST and lines[-1]:
            lines.append("  ")
        lines[-1] += piece
    return [part for line in lines for part in folded(line, WIDEST)]


def _width(shown: dict[int, list[str]], heads: Sequence[str]) -> int:
    """Characters of a line with these columns."""
    return sum(_widest(heads[index], column) + 1 for index, column in shown.items()) - 1


def _widest(head: str, column: Sequence[str]) -> int:
    words = [len(word) for word in head.split()]
    return max([*words, *(len(line) for text in column for line in text.split("\n"))])


def _drawn(shown: dict[int, list[str]], heads: Sequence[str]) -> Table:
    # Texts, not strings: a console may read markup into those.
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for index, column in shown.items():
        left = index in (NAME, NOTE)
        table.add_column(Text(heads[index]), justify="left" if left else "right", width=_widest(heads[index], column))
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(Text, row))
    return table
