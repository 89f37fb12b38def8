"""MathArena: one row per path with the text ``answer``, ``parsed_answer``, ``output_tokens`` and ``correct``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.imports.reading import FieldReader, known
from tasks.benchmarks.files import Row

NO_ANSWER = ("None", "nan")  # stands for an answer that could not be parsed
READ = {
    "text": "answer",
    "answer": "parsed_answer",
    "length": "output_tokens",
    "correct": "correct",
    "path": "idx_answer",
}
PROBLEM = {"id": ["problem_idx"], "problem": ["problem", "user_message"], "gold": ["gold_answer"]}


class MathArena:
    """Rows of MathArena's outputs."""

    name = "matharena"

    def fits(self, row: Row) -> bool:
        """Is the row one of MathArena's?"""
        return {"problem_idx", "idx_answer", "answer", "output_tokens"} <= row.keys()

    def reader(self, row: Row, mapping: Mapping[str, str]) -> FieldReader:
        """The reader of the row."""
        return FieldReader(row, mapping, known(row, PROBLEM), _path, READ)


def _path(row: Row) -> Iterator[Mapping[str, Any]]:
    said = {target: row[field] for target, field in READ.items() if row.get(field) is not None}
    if said.get("answer") in NO_ANSWER:
        said["answer"] = ""
    yield said


SHAPE = MathArena()
