"""Parsers for field values: text, integer, grade, finish reason, numbers per token. Errors name the field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeGuard

import numpy as np

from harness.api import PathpruneError
from harness.text import is_utf8, shown
from tasks.benchmarks.files import decoded

YES = {"true": True, "1": True, "1.0": True, "yes": True, "correct": True, "c": True}
NO = {"false": False, "0": False, "0.0": False, "no": False, "incorrect": False, "i": False}
STOPPED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_str", "finished", "completed", "complete"}
CUT = {"length", "max_tokens", "max_length", "model_length", "max_new_tokens", "token_limit", "truncated", "incomplete"}


MOST = 2**31 - 1


class Flaw(PathpruneError):  # noqa: N818
    """An error in one row; the caller, which reads the rows, adds the location."""


def is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    """Is it a list of values, as JSON or Parquet gives them?"""
    return isinstance(value, list | tuple | np.ndarray)


def as_list(value: Any, name: str) -> list[Any]:
    """A list, possibly encoded as JSON in a CSV cell or a text column."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = decoded(value, name)
    if not is_list(value):
        raise Flaw(f"{name} must be a list, not {shown(value)}")
    return value.tolist() if isinstance(value, np.ndarray) else list(value)


def as_object(value: Any, name: str) -> Mapping[str, Any]:
    """An object, possibly encoded as JSON; empty for null."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Flaw(f"{name} must be an object, not {shown(value)}")
    return value


def text(value: Any, name: str) -> str:
    """A text, unchanged. NUL and lone surrogates are refused, since no model writes them."""
    if not isinstance(value, str):
        raise Flaw(f"{name} must be a text, not {shown(value)}")
    if "\x00" in value or not is_utf8(value):
        raise Flaw(f"{name} contains NUL or a lone surrogate")
    return value


def word(value: Any, name: str) -> str | None:
    """A short text such as an id or an answer; numbers become text, and null becomes None."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise Flaw(f"{name} must be a text or a number, not {shown(value)}")
    return text(str(value), name)


def whole(value: Any, name: str) -> int | None:
    """A number of tokens, from 0 to the largest 32-bit integer; None for null."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Flaw(f"{name} must be an integer, not {shown(value)}") from error
    if isinstance(value, bool) or not number.is_integer() or not 0 <= number <= MOST:
        raise Flaw(f"{name} must be an integer from 0 to {MOST:,}, not {shown(value)}")
    return int(number)


def grade(value: Any, name: str) -> bool | None:
    """A grade: a boolean, 0 or 1, or the words for them; None if ungraded."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    word = str(value).strip().lower()
    if is_list(value) or isinstance(value, dict) or word not in YES | NO:
        raise Flaw(f"{name} must be right or wrong (true or false, 1 or 0), not {shown(value)}")
    return (YES | NO)[word]


def finish(value: Any, name: str) -> Literal["stop", "length"] | None:
    """The finish reason, from the terms of servers and libraries; None if not recorded."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    word = str(value).strip().lower()
    if word in STOPPED:
        return "stop"
    if word in CUT:
        return "length"
    raise Flaw(
        f"{name} must be a stop (stop, eos, ...) or a length limit (length, ...), not {shown(value)}; skip the field: map finish="
    )


def reward(value: Any, name: str) -> float | Sequence[float] | None:
    """A reward-model score, or one per step; a one-element list becomes its number, and an empty list None."""
    if value is None or value == "" or (is_list(value) and not len(value)):
        return None
    numbers = per_token(value if is_list(value) else [value], name, "score")
    return float(numbers[0]) if len(numbers) == 1 else [float(n) for n in numbers]


def token_ids(value: Any, name: str) -> tuple[int, ...]:
    """Token ids: integers, 0 or more."""
    try:
        array = np.asarray(value if isinstance(value, np.ndarray) else as_list(value, name))
    except ValueError as error:  # ragged nested lists
        raise Flaw(f"{name} must be a list of token ids, not {shown(value)}") from error
    if array.size == 0:
        return ()
    if array.ndim != 1 or array.dtype.kind not in "iu" or int(array.min()) < 0 or int(array.max()) >= 2**31:
        raise Flaw(f"{name} must be a list of token ids, not {shown(value)}")
    return tuple(array.tolist())


def per_token(value: Any, name: str, each: str = "token") -> np.ndarray:
    """One finite number per token, or per other unit named by ``each``, float64 ``[T]``."""
    try:
        array = np.asarray(value if isinstance(value, np.ndarray) else as_list(value, name))
        if array.ndim != 1 or array.dtype.kind not in "fiuO":
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise Flaw(f"{name} must be one number per {each}, not {shown(value)}") from error
    if not np.isfinite(array).all():
        first = int(np.flatnonzero(~np.isfinite(array))[0])
        raise Flaw(f"{name} is {array[first]:g} at {each} {first + 1}, not a finite number")
    return array
