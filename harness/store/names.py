"""File names for tasks, models and records; no name may lead out of its folder."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from harness.api import PathpruneError
from harness.text import unfit

CODED = "~"  # prefix of an encoded file name; locks start with a dot


def is_file_name(text: Any) -> bool:
    """Whether a value is a valid file name: one printable line without a slash, and neither ``.`` nor ``..``."""
    return unfit(text) is None and text.isprintable()


def file_name(text: str) -> str:
    """``text`` if it is a valid file name, else a unique encoded name: ``a/b`` becomes ``~a-b-c14cddc033f6``."""
    if is_file_name(text) and not text.startswith((CODED, ".")):
        return text
    readable = re.sub(r"[^A-Za-z0-9.=@_-]+", "-", text)[:80]
    return f"{CODED}{readable}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}"


def inside(file: Path, folder: Path) -> Path:
    """The file, unchanged.

    Raises:
        PathpruneError: the file is a link that leads out of its folder.
    """
    if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
        raise PathpruneError(f"{file} is a link out of its folder, to {file.readlink()}; put the file itself there")
    return file
