"""What a path answers, and whether that is right: a path that the token limit cut off answers nothing.

Its text may hold an intermediate result in a box, which a longer run might have taken back. A task whose answer can be
complete before the model stops (stop strings that are read afterwards) says so with ``ended(text)``.

A model writes anything. Where a task raises on one text, and does its work on others, that text has no answer and an answer
is wrong; where it raises on an empty text, or on its own gold answer, as well, the task is at fault and its error is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from harness.api import Path, PathpruneError, Problem, Task

Result = TypeVar("Result")


def ended(task: Task, path: Path) -> bool:
    """Did the path come to an end of its own, rather than to the token limit?"""
    return path.finish == "stop" or bool(tried(lambda: task.ended(path.text), lambda: task.ended("")))


def answer(task: Task, path: Path) -> str | None:
    """The canonical answer of a finished path; None where it was truncated or gives none."""
    return judged(task, path)[0]


def judged(task: Task, path: Path) -> tuple[str | None, bool]:
    """The canonical answer of a finished path and whether it is right: as they are recorded, or read from its text."""
    recorded = task.recorded(path) if hasattr(task, "recorded") else None
    if recorded is not None:
        return recorded
    said = read(task, path.text) if ended(task, path) else None
    return said, correct(task, said, path.problem)


def read(task: Task, text: str) -> str | None:
    """The canonical answer that a text gives, or None."""
    return tried(lambda: task.answer(text), lambda: task.answer(""))


def correct(task: Task, given: str | None, problem: Problem) -> bool:
    """Whether an answer, as ``read`` gives it, is the problem's."""
    judged = tried(lambda: task.correct(given, problem), lambda: task.correct(problem.answer, problem))
    return bool(judged)


def right(task: Task, paths: Sequence[Path]) -> list[bool]:
    """Whether each finished path's answer is its problem's, ``[n]``."""
    return [judged(task, p)[1] for p in paths]


def tried(work: Callable[[], Result], sound: Callable[[], object]) -> Result | None:
    """What a task makes of a model's text; None where it raises on this one but not on what it must bear, ``sound``."""
    try:
        return work()
    except PathpruneError:  # what a person can mend is said
        raise
    except Exception:
        sound()
        return None
