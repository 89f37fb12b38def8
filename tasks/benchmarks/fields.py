"""The fields of a row, whatever a dump calls them: identity, question, gold answer, options."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from harness.api import PathpruneError
from harness.text import shown
from tasks.answers import canonical, extract
from tasks.benchmarks.files import Row, missing

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Field names of common dumps, in order of preference. A "solution" is taken for its \boxed{} or "#### ".
IDS = ("id", "ID", "unique_id", "problem_idx", "problem_id", "Record ID", "question_id", "idx")
QUESTIONS = ("problem", "Problem", "question", "Question", "prompt")
ANSWERS = (
    "answer",
    "Answer",
    "ANSWER",
    "final_answer",
    "expected_answer",
    "gold",
    "Correct Answer",
    "solution",
    "Solution",
)
OPTIONS = ("choices", "options", "Options")
WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def text(row: Row, names: Sequence[str], noun: str, where: str) -> str:
    """The first of a row's fields that is there, which is a text."""
    name, value = _first(row, names, noun, where)
    if not isinstance(value, str):
        raise PathpruneError(f"{where}: {name} is {shown(value)}, not a text")
    return _clean(value, name, where)


def identity(row: Row, where: str) -> str:
    """A row's own name, or "" where it has none."""
    name = next((k for k in IDS if not missing(row.get(k))), None)
    return "" if name is None else _plain(row[name], name, where)


def options(row: Row, where: str) -> tuple[list[str], int] | None:
    """The options' texts and the index of the right one, by its text, its letter or its number; None: free answer."""
    if all(k in row for k in WRONG):
        return [_plain(_first(row, (k,), k, where)[1], k, where) for k in ("Correct Answer", *WRONG)], 0
    key = next((k for k in OPTIONS if not missing(row.get(k)) and row[k] not in ([], {})), None)
    if key is None:
        return None
    texts = [_plain(option, key, where) for option in _listed(row[key])]
    if not 2 <= len(texts) <= len(LETTERS) or any(missing(t) for t in texts):
        raise PathpruneError(f"{where}: {key} is not a list of 2 to {len(LETTERS)} texts")
    name, gold = _first(row, ANSWERS, "answer", where)
    told = _plain(gold, name, where)
    if told in texts:
        return texts, texts.index(told)
    letter = told.strip("(). ").upper()
    index = gold if isinstance(gold, int) else LETTERS.find(letter) if len(letter) == 1 else -1
    if not 0 <= index < len(texts):
        raise PathpruneError(f"{where}: the answer {shown(told, 40)} is none of the {len(texts)} {key}")
    return texts, index


def _listed(options: Any) -> list[Any]:
    """``["x", "y"]``, ``{"A": "x", "B": "y"}`` or ``{"text": ["x", "y"], "label": ["A", "B"]}`` as a list."""
    if isinstance(options, dict):
        options = options.get("text") or [options[k] for k in sorted(options)]
    return list(options) if isinstance(options, list | tuple) else []


def _first(row: Row, names: Sequence[str], noun: str, where: str) -> tuple[str, Any]:
    """(name, value) of the first of these fields that is there and holds something."""
    for name in names:
        if not missing(row.get(name)):
            return name, row[name]
    there = next((name for name in names if name in row), None)
    if there is not None:
        raise PathpruneError(f"{where}: {there} is {shown(row[there])}")
    others = [shown(name) for name in list(row)[:10]] + ["..."] * (len(row) > 10)
    raise PathpruneError(f"{where}: no field {noun!r}; it has {', '.join(others) or 'none'}")


def _plain(value: Any, name: str, where: str) -> str:
    """A text or a number as text."""
    if isinstance(value, str):
        return _clean(value, name, where)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        raise PathpruneError(f"{where}: {name} is {shown(value)}, not one text or number")
    return str(value)


def _clean(value: str, name: str, where: str) -> str:
    """A text without white space around it; NUL and half a surrogate pair are in no text that somebody wrote."""
    wrong = re.search("[\x00\ud800-\udfff]", value)
    if wrong:
        raise PathpruneError(f"{where}: {name} holds {wrong[0]!r}, which is no text")
    return value.strip()


def gold(row: Row, where: str) -> str:
    """The gold answer as published; of a worked solution, what it ends in."""
    key, published = _first(row, ANSWERS, "answer", where)
    text = _plain(published, key, where)
    if isinstance(published, float) and published.is_integer():
        text = str(int(published))
    if "####" in text:  # GSM8K's own format
        text = text.rpartition("####")[2].strip()
    elif "\\boxed" in text or key.lower() == "solution":
        boxed = extract(text)
        if boxed is None:
            raise PathpruneError(f"{where}: {key} ends in no \\boxed{{...}} or '#### ', so it gives no answer")
        text = boxed
    if not _balanced(text) or missing(canonical(text)):
        raise PathpruneError(f"{where}: {key} {text[:60]!r} does not parse as an answer")
    return text


def _balanced(text: str) -> bool:
    """Braces in order and dollar signs in pairs (one alone is a currency)."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    signs = len(re.findall(r"(?<!\\)\$", text))
    return depth == 0 and (signs % 2 == 0 or bool(re.match(r"\$\d", text)))
