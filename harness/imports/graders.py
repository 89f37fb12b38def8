"""Graders of imported paths: for benchmark answers, for multiple choice, or the built-in task they were sampled on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness import registry
from harness.api import PathpruneError, Problem, Task, TaskDefaults
from harness.text import shown
from tasks.answers import canonical, choice, equivalent, extract

LETTERS = "ABCDEFGHIJ"
RIGHT = "(right)"  # the vote of a path graded right without an answer, if no gold answer is known


class Grader(Protocol):
    """Extracts answers and judges them against a list of gold answers."""

    @property
    def closing(self) -> str:
        """What makes a path state its answer."""

    @property
    def step(self) -> str:
        """What ends a reasoning step."""

    def answer(self, text: str) -> str | None: ...
    def correct(self, answer: str, golds: Sequence[str]) -> bool: ...
    def ended(self, text: str) -> bool: ...


@dataclass(frozen=True)
class Answers:
    """The answer extraction and equality of benchmarks (``tasks.answers``); with ``letters``, those of multiple choice."""

    letters: str = ""
    step: str = TaskDefaults.step

    @property
    def closing(self) -> str:
        """What makes a path state its answer."""
        return '\n</think>\n\n"ANSWER": "' if self.letters else TaskDefaults.closing

    def answer(self, text: str) -> str | None:
        if self.letters:
            return choice(text, self.letters)
        written = extract(text)
        return None if written is None else canonical(written)

    def correct(self, answer: str, golds: Sequence[str]) -> bool:
        return any(answer == gold if self.letters else equivalent(gold, answer) for gold in golds)

    def ended(self, text: str) -> bool:
        return False


class Native:
    """A task of ours that the paths were sampled on: its own reader and judgement."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.closing, self.step = task.defaults.closing, task.defaults.step

    def answer(self, text: str) -> str | None:
        return self.task.answer(text)

    def correct(self, answer: str, golds: Sequence[str]) -> bool:
        return any(self.task.correct(answer, Problem("imported", "", gold)) for gold in golds)

    def ended(self, text: str) -> bool:
        return self.task.ended(text)


NATIVE = ("hands", "slips", "calls", "toy")  # tasks that a file may name: they run no code but our own


def grader_of(about: Mapping[str, Any]) -> Grader:
    """The grader that a pool names.

    Raises:
        PathpruneError: an unknown grader, or a built-in task in another version, which would grade differently.
    """
    name = about.get("task")
    if name is None:
        letters = about.get("letters", "")
        return Answers(letters if isinstance(letters, str) else "")
    if name not in NATIVE:
        raise PathpruneError(f"the pool is graded by task {shown(name)}, which pools may not use")
    task = registry.task(name)
    if task.version != about.get("version"):
        raise PathpruneError(
            f"the pool was graded by {name} v{about.get('version')}, and v{task.version} is installed; import it again with its given grades"
        )
    return Native(task)


def letters_of(golds: Sequence[str]) -> str:
    """The option letters of a problem whose gold answers are letters; "" for any other problem."""
    if not golds or not all(len(g) == 1 and g in LETTERS for g in golds):
        return ""
    return LETTERS[: max(4, LETTERS.index(max(golds)) + 1)]
