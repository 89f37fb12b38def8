"""Parallel-Probe: one row per problem with branches, ``[[answers at regular lengths], tokens, answer]``.

Answer i, from 0, was forced after (i + 1) ``probe_freq`` tokens, the last answer of a branch at most at its end. "ERR"
stands for no answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.imports import values
from harness.imports.reading import FieldReader, known
from harness.imports.values import Flaw, is_list
from harness.text import shown
from tasks.benchmarks.files import Row

RAW = ("probe_matrix_mxn", "branch_tokens", "final_answers_trace")  # the same data in separate lists
NO_ANSWER = ("ERR", "None")
NAMES = {"answer": "each_branch[].answer", "length": "each_branch[].tokens", "probes": "each_branch[].probes"}


class ParallelProbe:
    """Rows of Parallel-Probe's evaluation, and of the data sets from which they are made."""

    name = "parallel_probe"

    def fits(self, row: Row) -> bool:
        """Is the row one of Parallel-Probe's?"""
        return "probe_freq" in row and ("each_branch" in row or all(name in row for name in RAW))

    def reader(self, row: Row, mapping: Mapping[str, str]) -> FieldReader:
        """The reader of the row."""
        problem = known(row, {"problem": ["question"], "gold": ["gold_answer"]})
        return FieldReader(row, mapping, problem, _branches, NAMES)


def _branches(row: Row) -> Iterator[Mapping[str, Any]]:
    step = values.whole(row["probe_freq"], "probe_freq")
    if not step:
        raise Flaw(f"probe_freq is {shown(row['probe_freq'])}, not a number of tokens")
    if "each_branch" in row:
        branches = values.as_list(row["each_branch"], "each_branch")
    else:
        columns = [values.as_list(row[name], name) for name in RAW]
        if len({len(column) for column in columns}) > 1:
            raise Flaw(
                ", ".join(f"{name} has {len(column)} entries" for name, column in zip(RAW, columns, strict=True))
            )
        branches = list(zip(*columns, strict=True))
    for branch in branches:
        if not is_list(branch) or len(branch) != 3 or not is_list(branch[0]):
            raise Flaw(f"each_branch holds {shown(branch)}, not [[answers], tokens, answer]")
        yield _branch(list(branch[0]), branch[1], branch[2], step)


def _branch(answers: list[Any], tokens: Any, answer: Any, step: int) -> dict[str, Any]:
    length = values.whole(tokens, NAMES["length"])
    if length is None:
        raise Flaw(f"{NAMES['length']} is {shown(tokens)}, not a number of tokens")
    if (len(answers) - 1) * step > max(length - 1, 0):
        raise Flaw(f"a branch of {length} tokens has {len(answers)} answers, one every {step} tokens")
    probes = [{"position": min((i + 1) * step, length), "answer": _read(a)} for i, a in enumerate(answers)]
    return {"length": length, "answer": _read(answer) or "", "probes": probes}


def _read(answer: Any) -> Any:
    return None if answer in NO_ANSWER else answer


SHAPE = ParallelProbe()
