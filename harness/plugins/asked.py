"""What a plug-in asks of an engine or a reader, held to what ``harness.api`` says: its mistakes are its own, not the engine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.api import Path, PathpruneError
from harness.text import is_utf8, shown

MOST_TOKENS = 1 << 20  # of one text; no context window holds more
MOST_TEXTS = 1 << 20  # of one prompt


def count(call: str, name: str, value: Any, most: int) -> int:
    """A whole number from 1 to ``most``.

    Raises:
        PathpruneError: what is none.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not 1 <= value <= most:
        raise PathpruneError(f"{call}: {name} is a whole number from 1 to {most:,}, not {shown(value)}")
    return int(value)


def text(call: str, name: str, value: Any) -> str:
    """A text of whole characters.

    Raises:
        PathpruneError: what is none.
    """
    if not isinstance(value, str) or not is_utf8(value):
        raise PathpruneError(f"{call}: {name} is a text, not {shown(value)}")
    return value


def texts(call: str, name: str, values: Any) -> list[str]:
    """Some texts; one alone is a mistake for a list of its characters.

    Raises:
        PathpruneError: what is no sequence of texts.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise PathpruneError(f"{call}: {name} is a list of texts, not {shown(values)}")
    return [text(call, f"each of {name}", value) for value in values]


def paths(call: str, values: Any) -> list[Path]:
    """Some paths, of those that the method was handed.

    Raises:
        PathpruneError: what is no sequence of paths.
    """
    if not isinstance(values, Sequence) or not all(isinstance(value, Path) for value in values):
        raise PathpruneError(f"{call}: paths is a list of Path, not {shown(values)}")
    return list(values)
