"""One line for a person: did-you-mean, and errors as text."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

from harness.api import PathpruneError

LONGEST = 1000  # characters of an error that are shown and recorded


def unknown(noun: str, name: str, known: list[str]) -> str:
    """``unknown task 'hand'; did you mean hands?``, or all names where none is near."""
    near = get_close_matches(name, known, 1)
    return f"unknown {noun} {shown(name)}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")


def literal(text: str) -> Any:
    """An option's value: a whole number, a number, true or false, or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def reason(error: BaseException) -> str:
    """What went wrong in one line that any terminal prints; a user's mistake already reads as one."""
    try:
        text = str(error)
    except Exception:  # an exception of others may not even have a text
        text = "(it has no text)"
    if not isinstance(error, PathpruneError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return shorten(text)


def shown(value: Any, most: int = 60) -> str:
    """A wrong value as an error shows it: short, and the same in every process."""
    try:
        text = repr(value)
    except Exception:  # a value of others may not even have a text
        text = f"<{type(value).__name__}>"
    return shorten(re.sub(r" at 0x[0-9a-fA-F]+", "", text), most)


def shorten(text: str, most: int = LONGEST) -> str:
    """One line of printable characters, cut where it is long."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= most else line[: most - 3] + "..."
