"""One-line messages for users: suggestions for misspelt names, and errors as text."""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches
from typing import Any

from harness.api import PathpruneError
from harness.public import private

LONGEST = 1000  # characters of an error message, shown or recorded
LONGEST_NAME = 200  # bytes; leaves room for suffixes within the 255 bytes that most file systems allow


def unknown(noun: str, name: str, known: list[str]) -> str:
    """``unknown task 'hand'; did you mean hands?``, or a list of all names if none is similar."""
    near = get_close_matches(name, known, 1)
    return f"unknown {noun} {shown(name)}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")


def literal(text: str) -> Any:
    """Parse an option's value: int, float, bool, or else the text itself."""
    for kind in (int, float) if text.isascii() and "_" not in text else ():  # Python accepts more than users mean
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def one_line(text: str) -> str:
    """A text on one line: white space becomes a space, other unprintable characters are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else repr(c)[1:-1] for c in text)


def reason(error: BaseException) -> str:
    """An error as one printable line: its class and message, or only the message of a PathpruneError."""
    try:
        text = str(error)
    except (Exception, SystemExit):  # str() of a third-party exception may raise
        text = "(it has no text)"
    if not isinstance(error, PathpruneError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return shorten(private(text))


def shown(value: Any, most: int = 60) -> str:
    """A wrong value for an error message: short, and without addresses, which differ between processes."""
    try:
        text = repr(value[: 2 * most] if isinstance(value, str | bytes) else value)
    except (Exception, SystemExit):  # repr() of a third-party value may raise
        text = f"<{type(value).__name__}>"
    return _cut(one_line(re.sub(r" at 0x[0-9a-fA-F]+", "", text)), most)


def shorten(text: str, most: int = LONGEST) -> str:
    """One line of printable characters, truncated to ``most``."""
    return _cut(one_line(" ".join(text.split())), most)


def folded(name: str, width: int) -> list[str]:
    """A name in lines of at most ``width`` characters, broken behind separators; only a longer word is broken within."""
    lines = [""]
    for word in re.findall(r"[^-:,=+/@_ ]*[-:,=+/@_ ]?", name):
        if len(lines[-1]) + len(word) > width and lines[-1]:
            lines.append("")
        parts = [word[start : start + width] for start in range(0, len(word), width)] or [""]
        lines[-1] += parts[0]
        lines += parts[1:]
    return lines


def is_utf8(text: str) -> bool:
    """Whether a text can be encoded as UTF-8: it has no lone surrogates."""
    return str.isascii(text) or str.encode(text, errors="ignore").decode() == text


def _cut(line: str, most: int) -> str:
    return line if len(line) <= most else line[: most - 3] + "..."


def unfit(name: Any) -> str | None:
    """Why a name, such as a problem's id, cannot be a file name; None if it can."""
    if not isinstance(name, str):
        return f"is {shown(name)}, not a text"
    if not name.strip() or name in (".", ".."):
        return f"is {name!r}"
    if wrong := next((c for c in name if c in "/\\" or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None):
        return f"{shown(name)} holds {wrong!r}"
    if len(name.encode()) > LONGEST_NAME:
        return f"{shown(name)} has {len(name.encode()):,} bytes, more than {LONGEST_NAME}"
    return None
