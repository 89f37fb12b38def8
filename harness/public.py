"""Strip private information from records and messages: passwords in URLs, the home folder, and in records local folders."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
ABSOLUTE = re.compile(r"(?<![\w.:/~-])(/[\w.+@-]+)((?:/[\w.+@=-]+)+)")


def public(text: str) -> str:
    """A text for records: URLs without credentials, and only the last part of absolute local paths."""
    return ABSOLUTE.sub(_name_of, LOGIN.sub("", text))


def _name_of(found: re.Match[str]) -> str:
    """The last part of an absolute path whose first folder exists; other text with slashes (fractions, URLs) is unchanged."""
    return Path(found[0]).name if Path(found[1]).is_dir() else found[0]


def named(value: Any) -> Any:
    """A value for records: an absolute path becomes its last part and six hexadecimal digits that distinguish equal names."""
    if not isinstance(value, str) or not (value.startswith(("/", "~")) or Path(value).is_absolute()):
        return value
    return f"{Path(value).name}+{hashlib.sha256(value.encode()).hexdigest()[:6]}"


def private(text: str) -> str:
    """A message with the home folder shortened to ``~`` and URLs without user and password."""
    home = str(Path.home())
    return LOGIN.sub("", text.replace(f"{home}/", "~/") if len(home) > 1 else text)
