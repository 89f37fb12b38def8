"""What may stand in a record or a message: no password of an address, no home folder, in records no folders of this machine."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
ABSOLUTE = re.compile(r"(?<![\w.:/~-])(/[\w.+@-]+)((?:/[\w.+@=-]+)+)")


def public(text: str) -> str:
    """A text as records may hold it: of a file on this machine only its name."""
    return ABSOLUTE.sub(_name_of, LOGIN.sub("", text))


def _name_of(found: re.Match[str]) -> str:
    """The last part of an absolute path whose first folder is there; other slashes (fractions, addresses) stay."""
    return Path(found[0]).name if Path(found[1]).is_dir() else found[0]


def named(value: Any) -> Any:
    """A value as records name it: of an absolute path the last part, and six digits that tell it from others of that name."""
    if not isinstance(value, str) or not (value.startswith(("/", "~")) or Path(value).is_absolute()):
        return value
    return f"{Path(value).name}+{hashlib.sha256(value.encode()).hexdigest()[:6]}"


def private(text: str) -> str:
    """A message without what names a person's machine: the home folder is ``~``, and an address has no user and password."""
    home = str(Path.home())
    return LOGIN.sub("", text.replace(f"{home}/", "~/") if len(home) > 1 else text)
