"""Errors for unreadable files: the cause, the remedy and the loss. No message asks the user to delete anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from harness.api import PathpruneError

VERSIONED = re.compile(r"(pathprune-[a-z]+)/(\d+)")


def unreadable(file: Path, error: OSError) -> PathpruneError:
    """The error for a file that the system refuses to read; its contents may be intact."""
    return PathpruneError(
        f"cannot read {file} ({error.strerror or error}); it was not changed: check its permissions and the disk"
    )


def damaged(file: Path | str, flaw: str, remedy: str) -> PathpruneError:
    """The error for a damaged file; ``remedy`` states what is lost and how to create it again."""
    return PathpruneError(f"{file} is damaged: {flaw}; {remedy}")


def other_format(file: Path, stated: Any, expected: str) -> PathpruneError:
    """The error for a file of a newer version, or of another kind."""
    known, given = (VERSIONED.fullmatch(str(text)) for text in (expected, stated))
    if known and given and known[1] == given[1] and int(given[2]) > int(known[2]):
        return PathpruneError(
            f"{file} was written by a newer pathprune ({given[0]}, and {expected} is read here); upgrade with: pip install --upgrade pathprune"
        )
    return PathpruneError(f"{file} is not a {expected} file; move it out of this folder")
