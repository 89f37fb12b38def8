"""The fields of a row, whatever a dump calls them: identity, question, gold answer, options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harness.api import PathpruneError
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


def options(row: Row, where: str) -> tuple[list[str], int] | None:
    """The options' texts and the index of the right one, by its text, its letter or its number; None: free answer."""
    if all(k in row for k in WRONG):
        texts = [str(field(row, (k,), k, where)).strip() for k in ("Correct Answer", *WRONG)]
        return texts, 0
    key = next((k for k in OPTIONS if row.get(k)), None)
    if key is None:
        return None
    texts = _texts(row[key])
    gold = field(row, ANSWERS, "answer", where)
    if not 2 <= len(texts) <= len(LETTERS) or any(missing(t) for t in texts):
        raise PathpruneError(f"{where}: {key} is not a list of 2 to {len(LETTERS)} texts")
    if str(gold) in texts:
        return texts, texts.index(str(gold))
    letter = str(gold).strip("(). ").upper()
    index = gold if isinstance(gold, int) else LETTERS.find(letter) if len(letter) == 1 else -1
    if not 0 <= index < len(texts):
        raise PathpruneError(f"{where}: the answer {str(gold)[:40]!r} is none of the {len(texts)} {key}")
    return texts, index


def _texts(options: Any) -> list[str]:
    """``["x", "y"]``, ``{"A": "x", "B": "y"}`` or ``{"text": ["x", "y"], "label": ["A", "B"]}`` as a list."""
    if isinstance(options, dict):
        options = options.get("text") or [options[k] for k in sorted(options)]
    return [str(o).strip() for o in options] if isinstance(options, list | tuple) else []


def field(row: Row, names: Sequence[str], noun: str, where: str) -> Any:
    """The first of a row's fields that is there."""
    for name in names:
        if not missing(row.get(name)):
            return row[name]
    there = next((name for name in names if name in row), None)
    if there is not None:
        raise PathpruneError(f"{where}: {there} is {row[there]!r}")
    raise PathpruneError(f"{where}: no field {noun!r}; it has {', '.join(map(repr, row)) or 'none'}")


def gold(row: Row, where: str) -> str:
    """The gold answer as published; of a worked solution, what it ends in."""
    key = next((k for k in ANSWERS if not missing(row.get(k))), "answer")
    published = field(row, ANSWERS, "answer", where)
    if isinstance(published, list | dict):
        raise PathpruneError(f"{where}: {key} is {str(published)[:60]}, not one text or number")
    text = str(int(published)) if isinstance(published, float) and published.is_integer() else str(published).strip()
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
