"""Option types that validate as they parse: integers, numbers, texts, names, paths on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from harness.text import shown, unknown

WHOLE = re.compile(r"[+-]?[0-9]+")  # ASCII digits only; int() also reads those of other scripts
AMOUNT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MOST = 2**31 - 1  # records store 32-bit integers
MOST_PATHS = 2**20  # per problem
MOST_PROCESSES = 1024


class Whole(click.ParamType):  # type: ignore[type-arg]
    """An integer from ``least`` to ``most``."""

    name = "integer"

    def __init__(self, least: int = 1, most: int = MOST) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Parse the integer, or fail with the reason."""
        text = str(value).strip()
        if not WHOLE.fullmatch(text) or len(text) > 40:
            self.fail(f"{shown(str(value))} is not a valid integer", param, ctx)
        number = int(text)
        if number < self.least:
            self.fail(f"{number} is too small: give {self.least} or more", param, ctx)
        if number > self.most:
            self.fail(f"{number} is too large: give {self.most} or less", param, ctx)
        return number


class Length(Whole):
    """A prefix length: a number of tokens, or for an imported pool any form that ``harness.imports.units`` reads."""

    name = "length"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Parse the integer; a fraction, a length with a unit and a list are returned as text."""
        text = str(value).strip()
        parts = text.split(",")
        if len(parts) > 1 or re.fullmatch(r"0?\.[0-9]+|[0-9.]+%|[0-9]+ ?(words?|tokens?:.+)", text):
            return ",".join(str(self.convert(part, param, ctx)) for part in parts) if len(parts) > 1 else text
        return super().convert(value, param, ctx)


class Amount(click.ParamType):  # type: ignore[type-arg]
    """A finite number from ``least`` to ``most``."""

    name = "number"

    def __init__(self, least: float, most: float) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Parse the number, or fail with the reason."""
        text = str(value).strip()
        if not AMOUNT.fullmatch(text):
            self.fail(f"{shown(value)} is not a valid number", param, ctx)
        if not self.least <= float(text) <= self.most:
            self.fail(f"the value must be from {self.least:g} to {self.most:g}, not {shown(text)}", param, ctx)
        return float(text)


class Text(click.ParamType):  # type: ignore[type-arg]
    """One non-empty line of printable text."""

    name = "text"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the text, or fail with the reason."""
        text = str(value)
        if not text.strip():
            self.fail("the value is empty; give one, or leave the option out", param, ctx)
        if not text.isprintable():
            self.fail(f"{shown(text)} contains unprintable characters", param, ctx)
        return text


class OneOf(click.ParamType):  # type: ignore[type-arg]
    """One of the names that ``known`` returns. It is called late, which keeps heavy imports out of start-up."""

    name = "name"

    def __init__(self, noun: str, known: Callable[[], Sequence[str]], several: bool = False) -> None:
        self.noun, self.known, self.several = noun, known, several

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the text, or fail with the reason and a suggestion."""
        text = Text().convert(value, param, ctx)
        names = list(self.known())
        for name in text.split(",") if self.several else [text]:
            if name not in names and not (self.several and text == "all"):
                self.fail(unknown(self.noun, name, names), param, ctx)
        return text


class Place(click.ParamType):  # type: ignore[type-arg]
    """The path of a file or a folder, with one of ``suffixes`` if any are given; with ``writes`` it must be writable."""

    name = "path"

    def __init__(self, folder: bool, suffixes: Sequence[str] = (), writes: bool = False) -> None:
        self.folder, self.suffixes, self.writes = folder, tuple(suffixes), writes

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Return the path, or fail with the reason."""
        if not str(value).strip() or "\0" in str(value):
            self.fail("the path is empty; give one, or leave the option out", param, ctx)
        path = Path(value)
        try:
            wrong = self._wrong(path)
        except OSError as error:
            wrong = f"{shown(str(path))}: {error.strerror}"
        if wrong:
            self.fail(wrong, param, ctx)
        return path

    def _wrong(self, path: Path) -> str:
        if self.suffixes and path.suffix not in self.suffixes:
            return f"{path} must end in {' or '.join(self.suffixes)}"
        if self.folder and path.exists() and not path.is_dir():
            return f"{path} is a file, not a folder"
        if not self.folder and path.is_dir():
            return f"{path} is a folder, not a file"
        return _unwritable(path) if self.writes else ""


def _unwritable(path: Path) -> str:
    """Why a file or a folder cannot be written at a path; "" if it can."""
    above = next(p for p in (path, *path.absolute().parents) if p.exists())
    if above != path and not above.is_dir():
        return f"{path} is inside {above}, which is a file"
    return "" if os.access(above, os.W_OK) else f"{above} is not writable (Permission denied)"


TEXT = Text()
COUNT = Whole(1)
LENGTH = Length(1)
PATHS = Whole(1, MOST_PATHS)
PROCESSES = Whole(1, MOST_PROCESSES)
SEED = Whole(0, 2**63 - 1)
SECONDS = Amount(0.001, 1e6)
FOLDER = Place(folder=True)
OUT_FOLDER = Place(folder=True, writes=True)
FILE = Place(folder=False)


def out_file(*suffixes: str) -> Place:
    """The type of an output file with one of these suffixes."""
    return Place(folder=False, suffixes=suffixes, writes=True)
