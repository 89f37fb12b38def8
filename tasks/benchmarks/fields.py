"""Extracts id, question, gold answer and options from a row, under the field names of common data sets."""

from __future__ import annotations

import ast
import json
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
CHATS = ("messages", "conversations", "conversation", "turns")
QUESTIONS = (
    *("problem", "Problem", "question", "Question", "prompt", "query", "question_stem", "instruction", "input"),
    *CHATS,
)
CONTEXTS = (
    "context",
    "Context",
    "passage",
    "Passage",
    "body",
    "Body",
    "article",
    "background",
)  # what a question is about
ANSWERS = (
    "answer",
    "Answer",
    "ANSWER",
    "final_answer",
    "expected_answer",
    "gold",
    "Correct Answer",
    "answerKey",
    "answer_key",
    "correct_answer",
    "answers",
    "solution",
    "Solution",
    "correct",
    "label",
    "target",
)
OPTIONS = ("choices", "options", "Options", "endings")
WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def question(row: Row, where: str) -> str:
    """A row's question, preceded by the passage it refers to; for a chat, the user's turn."""
    name, value = _first(row, QUESTIONS, "problem", where)
    if isinstance(value, list):
        value = _chat(value, name, where)[0]
    if not isinstance(value, str):
        raise PathpruneError(f"{where}: {name} is {shown(value)}, not a text")
    parts = [_clean(value, name, where)]
    if name == "instruction" and not missing(row.get("input")):
        parts.append(_plain(row["input"], "input", where))
    for about in CONTEXTS:
        if isinstance(row.get(about), str) and not missing(row[about]) and row[about].strip() not in parts[-1]:
            parts.insert(0, _clean(row[about], about, where))
    return "\n\n".join(parts)


def _chat(turns: Sequence[Any], name: str, where: str) -> tuple[str, str]:
    """(system and user turns of a chat, the assistant's reply or "").

    Raises:
        PathpruneError: not a list of turns, or more than one exchange.
    """
    said: list[tuple[str, str]] = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise PathpruneError(
                f"{where}: {name} is {shown(turns)}, not a text or a list of turns with role and content"
            )
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if isinstance(content, list):  # parts; only texts are supported
            content = "\n".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
        if role not in ROLES or not isinstance(content, str):
            raise PathpruneError(
                f"{where}: {name} has a turn {shown(turn)}, whose role or content is not that of a chat"
            )
        said.append((ROLES[role], _clean(content, name, where)))
    asked = [content for role, content in said if role != "assistant" and content]
    replies = [i for i, (role, _) in enumerate(said) if role == "assistant"]
    if not asked or replies not in ([], [len(said) - 1]):
        raise PathpruneError(
            f"{where}: {name} is a chat with {len(replies)} replies, not one question; keep only its last question"
        )
    return "\n\n".join(asked), said[-1][1] if replies else ""


ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


def identity(row: Row, where: str) -> str:
    """A row's id, or "" without one."""
    name = next((k for k in IDS if not missing(row.get(k))), None)
    return "" if name is None else _plain(row[name], name, where)


def options(row: Row, where: str) -> tuple[list[str], int] | None:
    """(texts of the options, index of the right one, found by text, letter or number); None for a free-form answer."""
    if all(k in row for k in WRONG):
        return [_plain(_first(row, (k,), k, where)[1], k, where) for k in ("Correct Answer", *WRONG)], 0
    found = _options(row)
    if found is None:
        return None
    key, listed, labels = found
    texts = [_plain(option, key, where) for option in listed]
    if not 2 <= len(texts) <= len(LETTERS) or any(missing(t) for t in texts):
        raise PathpruneError(f"{where}: {key} is not a list of 2 to {len(LETTERS)} texts")
    name, gold = _first(row, ANSWERS, "answer", where)
    gold = _one(gold)
    told = _plain(gold, name, where)
    if told in texts:
        return texts, texts.index(told)
    letter = told.strip("(). ").upper()
    if letter in labels:
        return texts, labels.index(letter)
    if (lettered := LETTERED.fullmatch(told)) and (
        named := _named(lettered[1], lettered[2], texts, labels)
    ) is not None:
        return texts, named
    index = gold if isinstance(gold, int) else LETTERS.find(letter) if len(letter) == 1 else -1
    if not 0 <= index < len(texts):
        raise PathpruneError(f"{where}: the answer {shown(told, 40)} is none of the {len(texts)} {key}")
    return texts, index


LETTERED = re.compile(r"\(?([A-Za-z])[.):]\s*(\S.*)", re.DOTALL)  # C. {1, 2}
LABEL = re.compile(r"(?:^|(?<=\s))\(?([A-Z])[.):]\s+")


def _named(letter: str, says: str, texts: Sequence[str], labels: Sequence[str]) -> int | None:
    """The index of the option that a gold answer names by letter and text; None if letter and text disagree."""
    known = labels or list(LETTERS[: len(texts)])
    if letter.upper() not in known:
        return None
    index = known.index(letter.upper())
    bare = re.sub(r"[{}$\s]", "", says)
    return index if bare == re.sub(r"[{}$\s]", "", texts[index]) else None


def _listed(text: str) -> list[Any]:
    """Options given as one string: a JSON or Python list, ``A. x B. y`` with letters in order, or lines."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list | tuple):
            return list(value)
        if isinstance(value, dict):
            return [value[label] for label in sorted(value, key=str)]
    marks: list[re.Match[str]] = []
    for mark in LABEL.finditer(text):
        if len(marks) < len(LETTERS) and mark[1] == LETTERS[len(marks)]:
            marks.append(mark)
    if len(marks) > 1 and not text[: marks[0].start()].strip():
        ends = [*(m.start() for m in marks[1:]), len(text)]
        return [text[m.end() : end].strip().rstrip(",;").rstrip() for m, end in zip(marks, ends, strict=True)]
    return [line.strip() for line in text.splitlines() if line.strip()]


def _options(row: Row) -> tuple[str, list[Any], list[str]] | None:
    """The options of a row as (field, options, labels or None); None if the row has no options.

    Options are a list, ``{"A": "x", "B": "y"}``, ``{"text": ["x", "y"], "label": ["A", "B"]}``, or fields A, B, C, ...
    """
    key = next((k for k in OPTIONS if not missing(row.get(k)) and row[k] not in ([], {})), None)
    if key is None:
        letters = [letter for letter in LETTERS if not missing(row.get(letter))]
        if len(letters) < 2 or letters != list(LETTERS[: len(letters)]):
            return None
        return "A to " + letters[-1], [row[letter] for letter in letters], letters
    listed: Any = row[key]
    labels: list[Any] = []
    if isinstance(listed, str):
        listed = _listed(listed)
    if isinstance(listed, dict) and isinstance(listed.get("text"), list):
        labels = listed.get("label") or []
        listed = listed["text"]
    elif isinstance(listed, dict):
        labels = sorted(listed, key=str)
        listed = [listed[label] for label in labels]
    elif isinstance(listed, list | tuple) and all(isinstance(o, dict) and "text" in o for o in listed):
        labels = [o.get("label", o.get("key")) for o in listed]
        listed = [o["text"] for o in listed]
    return key, list(listed) if isinstance(listed, list | tuple) else [], [str(label).upper() for label in labels]


def _one(value: Any) -> Any:
    """The value of a list whose entries are all equal, as SQuAD's answers may be; any other value itself."""
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        value = value["text"]
    if (
        isinstance(value, list)
        and value
        and not isinstance(value[0], list | dict)
        and all(v == value[0] for v in value)
    ):
        return value[0]
    return value


def _first(row: Row, names: Sequence[str], noun: str, where: str) -> tuple[str, Any]:
    """(name, value) of the first of these fields with a non-empty value."""
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
    is_whole = isinstance(value, int) and not isinstance(value, bool)  # which may be too large for a float
    if not is_whole and not (isinstance(value, float | Decimal) and math.isfinite(value)):
        raise PathpruneError(f"{where}: {name} is {shown(value)}, not one text or number")
    return str(value)


def _clean(value: str, name: str, where: str) -> str:
    """A stripped text; NUL and lone surrogates are refused."""
    wrong = re.search("[\x00\ud800-\udfff]", value)
    if wrong:
        raise PathpruneError(f"{where}: {name} contains {wrong[0]!r}, which is not text")
    return value.strip()


def gold(row: Row, where: str) -> str:
    """The gold answer as published; for a worked solution, its final answer."""
    key, published = _published(row, where)
    text = _plain(published, key, where)
    if isinstance(published, float) and published.is_integer():
        text = str(int(published))
    if "####" in text:  # GSM8K's own format
        text = text.rpartition("####")[2].strip()
    elif "\\boxed" in text or key.lower() in ("solution", *CHATS):
        boxed = extract(text)
        if boxed is None:
            raise PathpruneError(f"{where}: {key} has neither \\boxed{{...}} nor '#### ', so it gives no answer")
        text = boxed
    if not _balanced(text) or missing(canonical(text)):
        raise PathpruneError(f"{where}: {key} {text[:60]!r} does not parse as an answer")
    return text


def _published(row: Row, where: str) -> tuple[str, Any]:
    """(field, value) of the gold answer; without one, the final reply of a chat."""
    if all(missing(row.get(name)) for name in ANSWERS):
        for name in CHATS:
            if isinstance(row.get(name), list) and (reply := _chat(row[name], name, where)[1]):
                return name, reply
    name, value = _first(row, ANSWERS, "answer", where)
    return name, _one(value)


def _balanced(text: str) -> bool:
    """Whether braces are balanced and dollar signs paired (a single one is a currency)."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    signs = len(re.findall(r"(?<!\\)\$", text))
    return depth == 0 and (signs % 2 == 0 or bool(re.match(r"\$\d", text)))
