"""Who reads and judges answers of imported paths: the reader of benchmarks, of letters, or a task of ours that they were sampled on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness import registry
from harness.api import PathpruneError, Problem, Task, TaskDefaults
from harness.text import shown
from tasks.answers import canonical, choice, equivalent, extract

LETTERS = "ABCDEFGHIJ"
RIGHT = "(right)"  # the vote of a path that is said to be right and to have no answer, where no gold answer is known


class Grader(Protocol):
    """Reads answers and judges them against several that count as right."""

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
    """The reader and the equality of benchmarks: ``tasks.answers``; with ``letters``, of multiple choice."""

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


NATIVE = ("hands", "slips", "calls", "toy")  # tasks that a file may name: they are made of nothing but what we ship


def grader_of(about: Mapping[str, Any]) -> Grader:
    """The grader that a pool names.

    Raises:
        PathpruneError: a task of ours of another version, whose grades would not be those of the paths.
    """
    name = about.get("task")
    if name is None:
        letters = about.get("letters", "")
        return Answers(letters if isinstance(letters, str) else "")
    if name not in NATIVE:
        raise PathpruneError(f"the pool is graded by task {shown(name)}, which no pool may name")
    task = registry.task(name)
    if task.version != about.get("version"):
        raise PathpruneError(
            f"the pool was graded by {name} v{about.get('version')}, and this is v{task.version}; import it again with its given grades"
        )
    return Native(task)


def letters_of(golds: Sequence[str]) -> str:
    """The letters of a problem whose right answers are letters; "" where they are anything else."""
    if not golds or not all(len(g) == 1 and g in LETTERS for g in golds):
        return ""
    return LETTERS[: max(4, LETTERS.index(max(golds)) + 1)]
