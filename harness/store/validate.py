"""Validate a record's header and every row before they are used.

The checks are simple, because they run over every row that a report reads. ``FlawError`` names the field and its valid
values; the caller adds the name of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from math import isfinite
from typing import Any, NoReturn, get_args

import numpy as np

from harness.api import MOST_FLOPS, MOST_TOKENS, Cost, Quadrant, RankedBy
from harness.store.names import is_file_name
from harness.text import shown
from harness.vote import VOTES

Row = Mapping[str, Any]
Check = Callable[[Any], bool]

PLACES = ("step", "forced")  # kinds of cuts that are not at one length
WHOLE = 0  # the prefix length in records of decision rules
NUMBER = {int, float}
LARGEST = float(np.finfo(np.float32).max)  # scores and weights are replayed as float32
MOST = 2**31 - 1  # of token and path counts, stored as 32-bit integers in snapshots
COUNTS = tuple(name for name in Cost.__dataclass_fields__ if name != "flops")
COST = frozenset(Cost.__dataclass_fields__)
STAGES = frozenset({"launch", "check", "resume"})
AMOUNT_OF_TOKENS = "an integer of 0 or more, below 2^53"
QUADRANTS = {*get_args(Quadrant), "reference"}


class FlawError(ValueError):
    """A wrong field: its name, its value and its valid values."""


def header(about: Mapping[str, Any]) -> None:
    """Validate a record's header.

    Raises:
        FlawError: the first wrong field.
    """
    spec = about["spec"]
    for name in ("task", "task_version"):
        _need(spec, name, is_file_name, "a name without slashes")
    engine = _need(spec, "engine", _is_object, "an object")
    for name, holds, kind in ENGINE:
        if name in engine or name in REQUIRED:
            _need(engine, name, holds, kind, "engine.")
    _need(spec, "seed", _is_whole, "an integer")
    _need(spec, "max_tokens", _count_from(2), "an integer of 2 or more")
    _need(spec, "n", _count_from(1), "an integer of 1 or more")
    if "pruner" not in spec:
        _flops(about)
    else:
        _method(about, spec)


def rows(about: Mapping[str, Any], lines: Mapping[str, Row]) -> None:
    """Validate the rows of a record with this header.

    Raises:
        FlawError: the first wrong row and field.
    """
    spec = about["spec"]
    check = pool_row if "pruner" not in spec else live_row if spec.get("live") else judged_row
    for problem, row in lines.items():
        try:
            if "error" not in row or check is pool_row:
                check(row, spec)
            elif type(row["error"]) is not str:
                _flaw("error", row["error"], "a text")
        except KeyError as error:
            raise FlawError(f"the row of {problem} has no {error.args[0]}") from None
        except FlawError as flaw:
            raise FlawError(f"the row of {problem}: {flaw}") from None


def pool_row(row: Row, spec: Row) -> None:
    """Validate a pool's row: the graded paths of one problem."""
    n, limit = spec["n"], spec["max_tokens"]
    if not (type(row["prompt"]) is int and 0 <= row["prompt"] <= MOST):
        _flaw("prompt", row["prompt"], "a number of tokens")
    if not _is_digest(row["paths"]):
        _flaw("paths", row["paths"], "12 hexadecimal digits")
    if not (_is_list(row["answers"], n) and set(map(type, row["answers"])) <= {str, type(None)}):
        _flaw("answers", row["answers"], f"{n} texts or nulls")
    if not _are_whole(row["lengths"], n, limit):
        _flaw("lengths", row["lengths"], f"{n} integers from 0 to the limit of {limit} tokens")
    for name in ("correct", "stopped"):
        if not _are_whole(row[name], n, 1):
            _flaw(name, row[name], f"{n} times 0 or 1")
    if "given" in row:
        _given(row["given"], row["lengths"])
    if any(right and answer is None for right, answer in zip(row["correct"], row["answers"], strict=True)):
        raise FlawError("a path without an answer is said to be right (correct)")


def _given(given: Any, lengths: list[int]) -> None:
    """Validate given tokens: for each path, ascending pairs (sampled tokens before, number given)."""
    sound = _is_list(given, len(lengths)) and all(
        _is_list(spans, None)
        and all(_is_list(span, 2) and _are_whole(span, 2, MOST) and span[1] for span in spans)
        and all(a < b for a, b in pairwise([0, *(span[0] for span in spans), length]))
        for spans, length in zip(given, lengths, strict=True)
        if spans != []
    )
    if not sound:
        _flaw(
            "given",
            given,
            "a list for each path of pairs of integers: a place before its end, and how many tokens",
        )


def judged_row(row: Row, spec: Row) -> None:
    """Validate a method's row: its scores or decision on the paths of one problem."""
    n = spec["n"]
    if spec["prefix"] == WHOLE:
        if not (_are_numbers(row["weights"], n) and min(row["weights"]) >= 0):
            _flaw("weights", row["weights"], f"{n} finite numbers of 0 or more")
        if not _are_whole(row["spent"], n, spec["max_tokens"]):
            _flaw("spent", row["spent"], f"{n} integers from 0 to the limit of {spec['max_tokens']} tokens")
    elif not _are_numbers(row["scores"], n):
        _flaw("scores", row["scores"], f"{n} finite numbers")
    if "at" in spec:
        _places(row, spec)
    _cost(row["cost"])
    if "each" in row:
        _each(row["each"], row["cost"], n)
    if "once" in row:
        _once(row["once"], row["cost"])
    _cold(row, n)


def _places(row: Row, spec: Row) -> None:
    """Validate the places of cuts that are not at one length, and how far paths had been generated."""
    n, cap = spec["n"], spec["until"]
    for name in ("places", "reached"):
        if not _are_whole(row[name], n, cap):
            _flaw(name, row[name], f"{n} integers from 0 to {cap}")
    if any(place > end for place, end in zip(row["places"], row["reached"], strict=True)):
        raise FlawError("a path is said to be cut behind its end (places, reached)")


def live_row(row: Row, spec: Row) -> None:
    """Validate a row of a timed run."""
    kept, earlier = row["kept"], row.get("earlier", [])
    if not _is_list(earlier, None):
        _flaw("earlier", earlier, "a list of what each stage before the last kept")
    for name, indices in (("kept", kept), *(("earlier", each) for each in earlier)):
        if not (_are_whole(indices, None, spec["n"] - 1) and all(a < b for a, b in pairwise(indices))):
            _flaw(name, indices, f"indices of paths from 0 to {spec['n'] - 1}, ascending")
    if not (_is_list(row["answers"], len(kept)) and set(map(type, row["answers"])) <= {str, type(None)}):
        _flaw("answers", row["answers"], f"{len(kept)} texts or nulls, one for each path that is kept")
    if not (row["voted"] is None or type(row["voted"]) is str):
        _flaw("voted", row["voted"], "a text or null")
    for name, most in (("correct", 1), ("right", len(kept))):
        if not (type(row[name]) is int and 0 <= row[name] <= most):
            _flaw(name, row[name], f"an integer from 0 to {most}")
    _cost(row["cost"])
    seconds = row["seconds"]
    if not (_is_object(seconds) and seconds.keys() == STAGES and all(map(_is_amount, seconds.values()))):
        _flaw("seconds", seconds, f"finite numbers of 0 or more for {', '.join(sorted(STAGES))}")
    if "tools" in row and not _is_amount(row["tools"]):
        _flaw("tools", row["tools"], "a finite number of seconds of 0 or more")


def _method(about: Mapping[str, Any], spec: Row) -> None:
    """Validate the part of a header that describes the method."""
    _need(spec, "pruner", _is_line, "one line of text")
    _need(spec, "code", _is_text, "a text")
    _need(about, "source", _is_line, "one line of text")
    if "live" in spec and spec["live"] is not True:
        _flaw("live in its header", spec["live"], "true")
    if spec.get("live"):
        _schedule(spec)
        _need(_need(about, "device", _is_object, "an object"), "device", _is_line, "one line of text", "device.")
        return
    if "stages" in spec:
        raise FlawError("stages stand in its header, which only timed runs have")
    _need(
        spec, "prefix", lambda v: type(v) is int and 0 <= v < spec["max_tokens"], "a number of tokens below max_tokens"
    )
    if "at" in spec:
        _need(spec, "at", _is_place, f"one of {', '.join(PLACES)}")
        _need(
            spec, "until", lambda v: type(v) is int and max(1, spec["prefix"]) <= v < spec["max_tokens"],
            "a number of tokens from prefix up to max_tokens",
        )  # fmt: skip
    if (spec["prefix"] == WHOLE) != (about.get("role") == "own-rule"):
        _flaw("prefix", spec["prefix"], "0 for a method with a rule of its own, and for no other")
    _need(about, "quadrant", lambda v: type(v) is str and v in QUADRANTS, f"one of {', '.join(sorted(QUADRANTS))}")
    _need(about, "fidelity", lambda v: type(v) is str and v.isprintable(), "one line of text")
    for name, holds, kind in OPTIONAL:
        if name in about:
            _need(about, name, holds, kind)


def _schedule(spec: Row) -> None:
    """Validate the cuts and numbers kept of a timed run."""
    if "stages" in spec:
        _need(spec, "stages", _are_pairs, "pairs of a prefix length and a number kept")
        return
    for name in ("prefix", "keep"):
        _need(spec, name, _count_from(1), "an integer of 1 or more")
    if "at" in spec:
        _need(spec, "at", _is_place, f"one of {', '.join(PLACES)}")


def _are_pairs(stages: Any) -> bool:
    return _is_list(stages, None) and bool(stages) and all(map(_is_stage, stages))


def _is_stage(stage: Any) -> bool:
    """Whether a value is a prefix length and a number kept, with an optional place of the cut."""
    return (
        _is_list(stage, None)
        and _are_whole(stage[:2], 2, MOST)
        and (len(stage) == 2 or [*map(_is_place, stage[2:])] == [True])
    )


def _is_place(at: Any) -> bool:
    return type(at) is str and at in PLACES


def _flops(about: Mapping[str, Any]) -> None:
    flops = _need(about, "flops", _is_object, "an object")
    if flops.keys() != {"per_token", "attention"} or not all(map(_is_amount, flops.values())):
        _flaw("flops", flops, "finite numbers of 0 or more for per_token and attention")


def _cost(cost: Any) -> None:
    if not (_is_object(cost) and cost.keys() == COST):
        _flaw("cost", cost, f"an object of {', '.join(COST)}")
    for name in COUNTS:
        if not _is_count(cost[name]):
            _flaw(f"cost.{name}", cost[name], AMOUNT_OF_TOKENS)
    if not _is_amount(cost["flops"]):
        _flaw("cost.flops", cost["flops"], "a finite number of 0 or more")


def _each(each: Any, cost: Row, n: int) -> None:
    """Validate the part of a cost that belongs to single paths, which is never more than the total."""
    if not (_is_object(each) and each.keys() <= COST):
        _flaw("each", each, f"an object of {', '.join(COST)}")
    for name, value in each.items():
        values = value if isinstance(value, list) else [value] * n
        if len(values) != n or not all(map(_is_amount, values)):
            _flaw(f"each.{name}", value, f"a finite number of 0 or more, or {n} of them")
        if sum(values) > cost[name] * (1 + 1e-9):
            raise FlawError(f"each.{name} is more in all than cost.{name}, {cost[name]}")


def _once(once: Any, cost: Row) -> None:
    """Validate the part of a cost that later checks of the problem do not pay again."""
    if not (_is_object(once) and once.keys() <= COST):
        _flaw("once", once, f"an object of {', '.join(COST)}")
    for name, value in once.items():
        if not (_is_amount(value) if name == "flops" else _is_count(value)):
            _flaw(f"once.{name}", value, "a finite number of 0 or more")
        if value > cost[name] * (1 + 1e-9):
            raise FlawError(f"once.{name} is more than cost.{name}, {cost[name]}")


def _cold(row: Row, n: int) -> None:
    """Validate the optional token counts without sharing."""
    if "cold" in row and not _is_count(row["cold"]):
        _flaw("cold", row["cold"], AMOUNT_OF_TOKENS)
    if "cold_each" in row:
        value = row["cold_each"]
        values = value if isinstance(value, list) else [value] * n
        if len(values) != n or not all(map(_is_count, values)):
            _flaw("cold_each", value, f"{AMOUNT_OF_TOKENS}, or {n} of them")
        if sum(values) != row["cold"]:
            raise FlawError(f"cold_each is not in all what cold is, {row['cold']}")


def _need(holder: Row, name: str, holds: Check, kind: str, inside: str = "") -> Any:
    if name not in holder:
        raise FlawError(f"its header has no {inside}{name}")
    value = holder[name]
    if not holds(value):
        _flaw(f"{inside}{name} in its header", value, kind)
    return value


def _flaw(name: str, value: Any, kind: str) -> NoReturn:
    raise FlawError(f"{name} must be {kind}, not {shown(value)}")


def _is_list(value: Any, n: int | None) -> bool:
    return type(value) is list and (n is None or len(value) == n)


def _are_numbers(values: Any, n: int) -> bool:
    """``n`` numbers that float32 holds. A NaN survives ``min`` and ``max``, but no sum."""
    return (
        _is_list(values, n)
        and set(map(type, values)) <= NUMBER
        and min(values) >= -LARGEST
        and max(values) <= LARGEST
        and isfinite(sum(values))
    )


def _are_whole(values: Any, n: int | None, most: int) -> bool:
    """Whole numbers from 0 to ``most``, ``n`` of them if that is given."""
    if not (_is_list(values, n) and set(map(type, values)) <= {int}):
        return False
    return not values or (min(values) >= 0 and max(values) <= most)


def _is_amount(value: Any) -> bool:
    return type(value) in NUMBER and 0 <= value <= MOST_FLOPS


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_TOKENS


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _count_from(least: int) -> Check:
    return lambda value: type(value) is int and least <= value <= MOST


def _is_digest(value: Any) -> bool:
    return type(value) is str and len(value) == 12 and set(value) <= set("0123456789abcdef")


def _is_object(value: Any) -> bool:
    return type(value) is dict


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_line(value: Any) -> bool:
    return type(value) is str and value.isprintable() and bool(value)


REQUIRED = (
    "engine",
    "model",
    "fingerprint",
)  # of an engine's spec; the others have a place in tables where they are there
ENGINE: Iterable[tuple[str, Check, str]] = (
    ("engine", _is_line, "one line of text"),
    ("model", is_file_name, "a name without slashes"),
    ("fingerprint", _is_line, "one line of text"),
    ("dtype", _is_line, "one line of text"),
    ("sampling", _is_object, "an object"),
)
OPTIONAL: Iterable[tuple[str, Check, str]] = (
    ("vote", lambda v: type(v) is str and v in VOTES, f"one of {', '.join(VOTES)}"),
    ("ranked_by", lambda v: type(v) is str and v in get_args(RankedBy), f"one of {', '.join(get_args(RankedBy))}"),
    ("pointwise", lambda v: type(v) is bool, "true or false"),
    ("warmup", _count_from(0), "a number of paths"),
    ("sequential", lambda v: type(v) is bool, "true or false"),
    ("batch", _count_from(1), "a number of paths, 1 or more"),
    ("label_tokens", lambda v: v is None or _is_count(v), f"null or {AMOUNT_OF_TOKENS}"),
    ("was", _is_object, "an object"),
)
