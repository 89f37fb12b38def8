"""One line for a person: did-you-mean, and errors as text."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

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
