"""lm-eval's ``samples_*.jsonl``: one row per document and filter, with all repeats in ``resps``.

A filter that reduces several repeats to one answer (the first, the vote) gives no answer per path, nor does its grade.
The rows of the first filter are read; ``filter=flexible-extract`` selects another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.api import PathpruneError
from harness.imports import values
from harness.imports.mapping import PROBLEM
from harness.imports.reading import FieldReader, known
from harness.imports.values import Flaw, is_list
from harness.text import shown
from tasks.benchmarks.files import Row

INVALID = "[invalid]"  # written by a filter that finds no answer
METRICS = ("exact_match", "acc", "correct")
ASKED = [*(f"doc.{name}" for name in PROBLEM["problem"]), "arguments.gen_args_0.arg_0", "arguments.0.0"]
NAMES = {"text": "resps", "answer": "filtered_resps", "correct": METRICS[0]}


class LMEval:
    """Rows of lm-eval's sample files."""

    name = "lm_eval"

    def fits(self, row: Row) -> bool:
        """Is the row one of lm-eval's?"""
        return {"doc_id", "doc", "resps"} <= row.keys()

    def reader(self, row: Row, mapping: Mapping[str, str]) -> FieldReader:
        """The reader of the row."""
        wanted = mapping.get("filter", row.get("filter"))
        problem = known(row, {"id": ["doc_id"], "problem": ASKED, "gold": ["target"]})
        given = {target: field for target, field in mapping.items() if target != "filter"}
        return FieldReader(row, given, problem, lambda row: _repeats(row, wanted), NAMES)


def _repeats(row: Row, wanted: Any) -> Iterator[Mapping[str, Any]]:
    """The paths of a row; none if the row has the same paths under another filter."""
    if row.get("filter") != wanted:
        return
    resps = values.as_list(row["resps"], "resps")
    if len(resps) != 1 or not is_list(resps[0]) or not all(isinstance(text, str) for text in resps[0]):
        raise Flaw(f"resps is {shown(resps)}: not the texts of one request, so its task does not generate paths")
    texts = list(resps[0])
    answers = _each(row.get("filtered_resps"), len(texts))
    grades = _grades(row, len(texts))
    for number, text in enumerate(texts):
        said = {"text": text}
        if answers is not None:
            said["answer"] = "" if answers[number] == INVALID else answers[number]
        if grades is not None:
            said["correct"] = grades[number]
        yield said


def _each(filtered: Any, count: int) -> Sequence[Any] | None:
    """The filter's answer per path, if it has one."""
    first = filtered[0] if is_list(filtered) and len(filtered) == 1 else None
    if is_list(first) and len(first) == count:
        return list(first)
    return [first] if isinstance(first, str) and count == 1 else None


def _grades(row: Row, count: int) -> Sequence[Any] | None:
    """The grade per path: from a metric with an entry per path, or from the metric of the only path if it is right or
    wrong."""
    named = row.get("metrics")
    for name in (*METRICS, *(n for n in (named if is_list(named) else ()) if isinstance(n, str))):
        value = row.get(name)
        entries = list(value) if is_list(value) else [value]
        if value is not None and len(entries) == count and all(_is_grade(entry) for entry in entries):
            return entries
    return None


def _is_grade(value: Any) -> bool:
    try:
        return values.grade(value, "metric") is not None
    except PathpruneError:
        return False


SHAPE = LMEval()
