"""A run that is ready to start: its spec, its opened task and engine, and its output folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from harness.api import PathpruneError, Problem, Task
from harness.ledger import IMPORTED
from harness.places import feasible
from harness.plugins.guard import require_timer
from harness.pools.bank import Bank
from harness.spec import RunSpec
from harness.text import shown, unfit

DAYS = 1e6  # seconds, an upper bound of timers


@dataclass(frozen=True)
class Run:
    """``spec`` on the first ``problems`` of a task's test split.

    ``results`` holds the records, ``bank`` the sampled paths. ``time_limit``: seconds that a pruner may take for one problem.
    """

    spec: RunSpec
    task: Task
    engine: Any
    problems: int
    results: FilePath
    bank: FilePath
    time_limit: float | None = None

    def __post_init__(self) -> None:
        if self.problems < 1:
            raise PathpruneError("problems must be 1 or more")
        if self.time_limit is not None:
            if not isinstance(self.time_limit, int | float) or not 0 < self.time_limit < DAYS:
                raise PathpruneError(f"time_limit must be a number of seconds above 0, not {shown(self.time_limit)}")
            require_timer()
        feasible(self.spec, self.task, self.engine)

    @property
    def folder(self) -> FilePath:
        """The folder of this pool's records."""
        return self.spec.folder(self.results)

    @property
    def is_imported(self) -> bool:
        """Whether the paths are those of an imported pool."""
        return bool(self.spec.engine["engine"] == IMPORTED)

    def opened_bank(self) -> Any:
        """The bank of these paths, which does not depend on n, so a larger n extends it. An imported pool is its own bank."""
        if self.is_imported:
            return self.engine.view
        return Bank(self.bank, self.spec.bank)

    def chosen(self) -> list[Problem]:
        """The problems of the run.

        Raises:
            PathpruneError: the task has none, returns more than requested, or has duplicate or invalid ids.
        """
        problems: list[Problem] = self.task.problems("test", self.problems)
        if not problems:
            raise PathpruneError(f"task {self.task.name} has no test problems")
        if len(problems) > self.problems:
            raise PathpruneError(
                f"task {self.task.name} returned {len(problems)} problems, but at most {self.problems} were requested (see harness.api.Task)"
            )
        for problem in problems:
            if why := unfit(problem.id):
                raise PathpruneError(
                    f"task {self.task.name}: the id of a problem names a file, and this one {why} (see harness.api.Task)"
                )
        if len({p.id for p in problems}) < len(problems):
            raise PathpruneError(
                f"task {self.task.name} uses an id for two problems; ids name records (see harness.api.Task)"
            )
        return problems
