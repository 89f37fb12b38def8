"""One line for a person: did-you-mean, and errors as text."""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches
from typing import Any

from harness.api import PathpruneError
from harness.public import private

LONGEST = 1000  # characters of an error that are shown and recorded
LONGEST_NAME = 200  # bytes; with a suffix such as .parquet.part a file's name stays below the 255 of most systems


def unknown(noun: str, name: str, known: list[str]) -> str:
    """``unknown task 'hand'; did you mean hands?``, or all names where none is near."""
    near = get_close_matches(name, known, 1)
    return f"unknown {noun} {shown(name)}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")


def literal(text: str) -> Any:
    """An option's value: a whole number, a number, true or false, or the text itself."""
    for kind in (int, float) if text.isascii() and "_" not in text else ():  # Python reads more than a user means
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def one_line(text: str) -> str:
    """A text on one line that shows as it is: control characters and turns of direction are written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else repr(c)[1:-1] for c in text)


def reason(error: BaseException) -> str:
    """What went wrong in one line that any terminal prints; a user's mistake already reads as one."""
    try:
        text = str(error)
    except (Exception, SystemExit):  # an exception of others may not even have a text
        text = "(it has no text)"
    if not isinstance(error, PathpruneError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return shorten(private(text))


def shown(value: Any, most: int = 60) -> str:
    """A wrong value as an error shows it: short, and the same in every process."""
    try:
        text = repr(value[: 2 * most] if isinstance(value, str | bytes) else value)
    except (Exception, SystemExit):  # a value of others may not even have a text
        text = f"<{type(value).__name__}>"
    return _cut(one_line(re.sub(r" at 0x[0-9a-fA-F]+", "", text)), most)


def shorten(text: str, most: int = LONGEST) -> str:
    """One line of printable characters, cut where it is long."""
    return _cut(one_line(" ".join(text.split())), most)


def is_utf8(text: str) -> bool:
    """Is it of whole characters, with no half of a surrogate pair, which no file holds?"""
    return str.isascii(text) or str.encode(text, errors="ignore").decode() == text


def _cut(line: str, most: int) -> str:
    return line if len(line) <= most else line[: most - 3] + "..."


def unfit(name: Any) -> str | None:
    """Why a name, such as a problem's id, cannot be a file's name inside a folder; None where it can."""
    if not isinstance(name, str):
        return f"is {shown(name)}, not a text"
    if not name.strip() or name in (".", ".."):
        return f"is {name!r}"
    if wrong := next((c for c in name if c in "/\\" or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None):
        return f"{shown(name)} holds {wrong!r}"
    if len(name.encode()) > LONGEST_NAME:
        return f"{shown(name)} has {len(name.encode()):,} bytes, more than {LONGEST_NAME}"
    return None
