"""What a path answers, and whether that is right: a path that the token limit cut off answers nothing.

Its text may hold an intermediate result in a box, which a longer run might have taken back. A task whose answer can be
complete before the model stops (stop strings that are read afterwards) says so with ``ended(text)``.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import Path, Task


def ended(task: Task, path: Path) -> bool:
    """Did the path come to an end of its own, rather than to the token limit?"""
    return path.finish == "stop" or bool(task.ended(path.text))


def answer(task: Task, path: Path) -> str | None:
    """The canonical answer of a finished path; None where it was truncated or gives none."""
    return task.answer(path.text) if ended(task, path) else None


def right(task: Task, paths: Sequence[Path]) -> list[bool]:
    """Whether each finished path's answer is its problem's, ``[n]``."""
    return [task.correct(answer(task, p), p.problem) for p in paths]
