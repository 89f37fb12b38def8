"""One line for a person: did-you-mean, and errors as text."""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from harness.api import PathpruneError

CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]+@")


def unknown(noun: str, name: str, known: list[str]) -> str:
    """``unknown task 'hand'; did you mean hands?``, or all names where none is near."""
    near = get_close_matches(name, known, 1)
    return f"unknown {noun} {name!r}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")


def one_line(text: str) -> str:
    """A text on one line that shows as it is: control characters and turns of direction are written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else repr(c)[1:-1] for c in text)


def reason(error: BaseException) -> str:
    """What went wrong in one line; a user's mistake already reads as one."""
    text = str(error) if isinstance(error, PathpruneError) else f"{type(error).__name__}: {error}"
    return private(" ".join(text.split()))


def private(text: str) -> str:
    """A text without what names a person's machine: the home folder is ``~``, and an address has no user and password."""
    home = str(Path.home())
    text = text.replace(f"{home}/", "~/") if len(home) > 1 else text
    return CREDENTIALS.sub(r"\1", text)


LONGEST_NAME = 200  # bytes; with a suffix such as .parquet.part a file's name stays below the 255 of most systems


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


def shown(value: Any, most: int = 60) -> str:
    """A value as Python writes it, cut to some characters."""
    text = repr(value[: 2 * most] if isinstance(value, str | bytes) else value)
    return text if len(text) <= most else text[:most] + "..."
