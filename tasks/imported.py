"""The problems of an imported pool, with the grades that were stored with its paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from harness.api import Path, PathpruneError, Problem, Sampling, Task, TaskDefaults
from harness.imports.tokens import is_whole
from harness.text import shown
from tasks.answers import canonical, choice, equivalent, extract

LETTERS = "ABCDEFGHIJ"
SHARE = 0.2  # of the mean length: the prefix of a pool whose owner names none
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


NATIVE = ("hands", "slips", "toy")  # tasks that a file may name: they are made of nothing but what we ship


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
    from harness import registry

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


class ImportedTask(Task):
    """See ``harness.api.Task``. Answers and grades of whole paths are those of the pool; texts of prefixes are read by its grader.

    Args:
        view: a pool in a unit of length (``harness.imports.pool.View``).
        least: problems that have fewer paths are left out.
    """

    def __init__(self, view: Any, least: int = 1) -> None:
        self.view, self.least = view, least
        pool = view.pool
        self.grader = grader_of(pool.about["grader"])
        self.name, self.version = pool.name, f"1.{pool.digest[:8]}"
        self._judged = lru_cache(maxsize=64)(self._judgements)
        entries = list(pool.entries.values())
        self._problems = [e.problem for e in entries if e.paths >= least]
        if not self._problems:
            raise PathpruneError(
                f"pool {pool.name} has at most {max(e.paths for e in entries)} paths of a problem, and n = {least} were asked for"
            )
        longest = max(2, view.longest)
        self.defaults = TaskDefaults(
            model="", sampling=Sampling(), max_tokens=longest, problems=len(self._problems),
            prefixes=(min(longest - 1, max(1, round(SHARE * view.mean))),), closing=self.grader.closing, step=self.grader.step,
            labels={"problems": len(self._problems), "n": pool.best_n(), "continuations": 1, "harvest": 0},
        )  # fmt: skip

    def with_paths(self, least: int) -> ImportedTask:
        """The same task on the problems that have so many paths."""
        return ImportedTask(self.view, least)

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        if split != "test":
            raise PathpruneError(
                f"pool {self.name} has no {split} problems: all of its paths are of one split; train on one pool and bench another"
            )
        return self._problems[start : len(self._problems) if n is None else start + n]

    def answer(self, text: str) -> str | None:
        return self.grader.answer(text)

    def correct(self, answer: str | None, problem: Problem) -> bool:
        golds = self.view.pool.entries[problem.id].golds
        return answer is not None and self.grader.correct(answer, golds)

    def ended(self, text: str) -> bool:
        return self.grader.ended(text)

    def recorded(self, path: Path) -> tuple[str | None, bool] | None:
        if not is_whole(path.tokens):  # a prefix, or what a model drew: neither has the stored path's answer
            return None
        answers = self._judged(path.problem.id)
        return answers[path.index] if path.index < len(answers) else None

    def _judgements(self, problem: str) -> list[tuple[str | None, bool]]:
        rows = self.view.pool.rows(problem, ["answer", "correct"])
        return list(zip(rows["answer"].to_pylist(), rows["correct"].to_pylist(), strict=True))
