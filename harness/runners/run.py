"""A run that is ready to start: its frozen spec, what was opened for it, and where it writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from harness.api import PathpruneError, Problem, Task
from harness.pools.bank import Bank
from harness.spec import RunSpec


@dataclass(frozen=True)
class Run:
    """``spec`` on the first ``problems`` of a task's test split.

    ``results`` holds the records, ``bank`` the sampled paths.
    """

    spec: RunSpec
    task: Task
    engine: Any
    problems: int
    results: FilePath
    bank: FilePath

    def __post_init__(self) -> None:
        if self.problems < 1:
            raise PathpruneError("--problems is 1 or more")

    @property
    def folder(self) -> FilePath:
        """Where the records of this pool lie."""
        return self.spec.folder(self.results)

    def opened_bank(self) -> Bank:
        """The bank of these paths; it holds whatever n was asked for, so that a larger n later extends it."""
        return Bank(self.bank, self.spec.bank)

    def chosen(self) -> list[Problem]:
        """The problems of the run."""
        return self.task.problems("test", self.problems)
