"""What to say of a file that cannot be read: who may mend it how, and what is lost. Nobody is told to delete anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from harness.api import PathpruneError

VERSIONED = re.compile(r"(pathprune-[a-z]+)/(\d+)")


def unreadable(file: Path, error: OSError) -> PathpruneError:
    """The system refuses the file, which says nothing about what is in it."""
    return PathpruneError(
        f"cannot read {file} ({error.strerror or error}); it is left as it is: see to its permissions and its disk"
    )


def damaged(file: Path | str, flaw: str, remedy: str) -> PathpruneError:
    """Something in the file is not what was written; ``remedy`` says what is lost and how it is made again."""
    return PathpruneError(f"{file} is damaged: {flaw}; {remedy}")


def other_format(file: Path, stated: Any, expected: str) -> PathpruneError:
    """A file of a newer version, which its own version reads, or one that is none of ours."""
    known, given = (VERSIONED.fullmatch(str(text)) for text in (expected, stated))
    if known and given and known[1] == given[1] and int(given[2]) > int(known[2]):
        return PathpruneError(
            f"{file} was written by a newer pathprune ({given[0]}, and {expected} is read here); upgrade with: pip install --upgrade pathprune"
        )
    return PathpruneError(f"{file} is not a {expected} file; move it out of this folder")
