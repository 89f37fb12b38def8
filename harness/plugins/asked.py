"""Checks of the arguments that a plug-in passes to an engine or a reader, which blame the plug-in for its mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.api import Path, PathpruneError
from harness.text import is_utf8, shown

MOST_TOKENS = 1 << 20  # per text, above any context window
MOST_TEXTS = 1 << 20  # per prompt


def count(call: str, name: str, value: Any, most: int) -> int:
    """Return ``value``, an integer from 1 to ``most``.

    Args:
        call: the method that received it, for messages.
        name: the argument's name, for messages.
        value: the argument.
        most: the largest allowed value.

    Raises:
        PathpruneError: any other value.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not 1 <= value <= most:
        raise PathpruneError(f"{call}: {name} must be an integer from 1 to {most:,}, not {shown(value)}")
    return int(value)


def text(call: str, name: str, value: Any) -> str:
    """Return ``value``, a text without lone surrogates.

    Raises:
        PathpruneError: any other value.
    """
    if not isinstance(value, str) or not is_utf8(value):
        raise PathpruneError(f"{call}: {name} must be a text, not {shown(value)}")
    return value


def texts(call: str, name: str, values: Any) -> list[str]:
    """Return a list of texts. A bare string is refused: iterating it would give its characters.

    Raises:
        PathpruneError: anything but a sequence of texts.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise PathpruneError(f"{call}: {name} must be a list of texts, not {shown(values)}")
    return [text(call, f"each of {name}", value) for value in values]


def paths(call: str, values: Any) -> list[Path]:
    """Return a list of paths, each one that the method was given.

    Raises:
        PathpruneError: anything but a sequence of paths.
    """
    if not isinstance(values, Sequence) or not all(isinstance(value, Path) for value in values):
        raise PathpruneError(f"{call}: paths must be a list of Path, not {shown(values)}")
    return list(values)
