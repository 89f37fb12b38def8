"""Answers of paths and their grades. A path that the token limit cut off has no answer.

The text of such a path may contain a boxed intermediate result that a longer run would have revised. A task whose answers
can be complete before the model stops, because of stop strings, declares that with ``ended(text)``.

Model output is arbitrary. If a task raises on one text but works on others, that text has no answer, or the answer is
graded wrong. If it also raises on an empty text or on its own gold answer, the task is at fault and its error is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from harness.api import Path, PathpruneError, Problem, Task

Result = TypeVar("Result")


def ended(task: Task, path: Path) -> bool:
    """Whether the path is complete, rather than cut off by the token limit."""
    return path.finish == "stop" or bool(tried(lambda: task.ended(path.text), lambda: task.ended("")))


def answer(task: Task, path: Path) -> str | None:
    """The canonical answer of a finished path; None if it was truncated or gives none."""
    return judged(task, path)[0]


def judged(task: Task, path: Path) -> tuple[str | None, bool]:
    """The canonical answer of a finished path and whether it is right, as recorded or else parsed from its text."""
    recorded = task.recorded(path) if hasattr(task, "recorded") else None
    if recorded is not None:
        return recorded
    said = read(task, path.text) if ended(task, path) else None
    return said, correct(task, said, path.problem)


def read(task: Task, text: str) -> str | None:
    """The canonical answer in a text, or None."""
    return tried(lambda: task.answer(text), lambda: task.answer(""))


def correct(task: Task, given: str | None, problem: Problem) -> bool:
    """Whether an answer, as ``read`` returns it, is right."""
    judged = tried(lambda: task.correct(given, problem), lambda: task.correct(problem.answer, problem))
    return bool(judged)


def right(task: Task, paths: Sequence[Path]) -> list[bool]:
    """Whether the answer of each finished path is right, ``[n]``."""
    return [judged(task, p)[1] for p in paths]


def tried(work: Callable[[], Result], sound: Callable[[], object]) -> Result | None:
    """The result of ``work``, a task's code on a model's text; None if it raises although ``sound`` does not.

    Raises:
        PathpruneError: an error of ``work`` that the user can fix.
        Exception: whatever ``sound`` raises.
    """
    try:
        return work()
    except PathpruneError:  # the user can fix it
        raise
    except Exception:
        sound()
        return None
