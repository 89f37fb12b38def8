"""The problems of an imported pool, with the grades stored with its paths."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from harness.api import Path, PathpruneError, Problem, Sampling, Task, TaskDefaults
from harness.imports.graders import grader_of
from harness.imports.tokens import is_whole

SHARE = 0.2  # default prefix of a pool, as a fraction of the mean length


class ImportedTask(Task):
    """See ``harness.api.Task``. Whole paths keep their stored answers and grades; the pool's grader reads prefixes.

    Args:
        view: a pool in a unit of length (``harness.imports.pool.View``).
        least: problems with fewer paths are left out.
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
                f"pool {pool.name} has at most {max(e.paths for e in entries)} paths per problem, fewer than n = {least}"
            )
        longest = max(2, view.longest)
        cut = min(longest - 1, max(1, round(SHARE * view.mean)))
        scored = tuple(pool.about.get("prefixes") or ()) if view.recorded else ()
        self.defaults = TaskDefaults(
            model="", sampling=Sampling(), max_tokens=longest, problems=len(self._problems),
            prefixes=scored or (cut,), closing=self.grader.closing, step=self.grader.step,
            labels={"problems": len(self._problems), "n": pool.best_n(), "continuations": 1, "harvest": 0},
        )  # fmt: skip

    def with_paths(self, least: int) -> ImportedTask:
        """The same task, restricted to problems with at least ``least`` paths."""
        return ImportedTask(self.view, least)

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        if split != "test":
            raise PathpruneError(
                f"pool {self.name} has no {split} problems: a pool is a single split; train on one pool and bench another"
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
        if not is_whole(path.tokens):  # a prefix or a fresh continuation: the stored answer does not apply
            return None
        answers = self._judged(path.problem.id)
        return answers[path.index] if path.index < len(answers) else None

    def _judgements(self, problem: str) -> list[tuple[str | None, bool]]:
        rows = self.view.pool.rows(problem, ["answer", "correct"])
        return list(zip(rows["answer"].to_pylist(), rows["correct"].to_pylist(), strict=True))
