"""Problems and gold answers from a separate file, for paths without them: server outputs, tables of answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from harness.api import PathpruneError
from harness.imports import values
from harness.imports.files import Given, Source
from harness.imports.finding import sources
from harness.imports.mapping import PROBLEM, find
from harness.imports.paths import golds
from harness.imports.rows import ImportedProblem
from harness.imports.values import Flaw
from harness.text import shown

WANTS = "a row needs an id or a problem, and its answer"


@dataclass(frozen=True)
class Stated:
    """A problem as stated in a row."""

    prompt: str | None
    golds: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class Golds:
    """Gold answers by problem id and by prompt."""

    source: Source
    by_id: Mapping[str, Stated]
    by_prompt: Mapping[str, Stated]

    @classmethod
    def read(cls, file: Path | str) -> Golds:
        """Read the gold answers in a JSON lines, JSON, CSV or Parquet file.

        Raises:
            PathpruneError: a row without an answer, or two rows that contradict each other.
        """
        found = sources([file])
        if len(found) > 1:
            raise PathpruneError(f"{file} is a folder of {len(found)} files; name the one that holds the right answers")
        by_id: dict[str, Stated] = {}
        by_prompt: dict[str, Stated] = {}
        for given in found[0].rows(lambda _: False):
            name, stated = _stated(given)
            _put(by_id, name, stated)
            _put(by_prompt, stated.prompt, stated)
        if not by_id and not by_prompt:
            raise PathpruneError(f"{found[0].name} has no rows; {WANTS}")
        return cls(found[0], by_id, by_prompt)

    @property
    def about(self) -> dict[str, Any]:
        """The file with its hash, for records."""
        return {
            "file": self.source.name,
            "sha256": self.source.sha256(),
            "rows": max(len(self.by_id), len(self.by_prompt)),
        }

    def joined(self, problem: ImportedProblem) -> ImportedProblem:
        """The problem with its gold answers from the file.

        Raises:
            PathpruneError: the file lacks the problem, or contradicts the file of its paths.
        """
        name = (problem.id or "").strip()
        stated = self.by_id.get(name) or self.by_prompt.get((problem.prompt or "").strip())
        if stated is None:
            if problem.golds:
                return problem
            near = get_close_matches(name, self.by_id, 1)
            raise PathpruneError(
                f"{problem.where}: {self.source.name} has no problem {shown(name or problem.prompt)}"
                + (f"; did you mean {near[0]}?" if near else "; it needs a row with that id, or with the same problem")
            )
        if problem.golds and problem.golds != stated.golds:
            raise PathpruneError(
                f"{problem.where}: its gold answer is {shown(problem.golds[0])}, but {shown(stated.golds[0])} in {stated.where}; "
                "fix one of them, or skip the first: map gold="
            )
        prompt = problem.prompt if problem.prompt is not None else stated.prompt
        return replace(problem, golds=stated.golds, prompt=prompt)


def _put(known: dict[str, Stated], name: str | None, stated: Stated) -> None:
    if name is None:
        return
    first = known.setdefault(name, stated)
    if first.golds != stated.golds:
        raise PathpruneError(
            f"{stated.where}: problem {shown(name)} has the gold answer {shown(stated.golds[0])}, but {shown(first.golds[0])} in {first.where}"
        )


def _stated(given: Given) -> tuple[str | None, Stated]:
    """(the id in a row, the problem that it states)."""
    where, row = given
    try:
        if isinstance(row, PathpruneError):
            raise row
        if not isinstance(row, dict):
            raise Flaw(f"is {shown(row)}; {WANTS}")
        found = find(row, {}, tuple(PROBLEM))
        name = values.word(row[found["id"]], found["id"]) if "id" in found else None
        prompt = row[found["problem"]] if "problem" in found else None
        prompt = values.text(prompt, found["problem"]).strip() if prompt is not None else None
        if "gold" not in found or (name is None and prompt is None):
            raise Flaw(f"has the fields {', '.join(map(str, row))}; {WANTS}")
        answers = golds(row[found["gold"]], found["gold"], where)
        if not answers:
            raise Flaw(f"{found['gold']} is empty")
    except PathpruneError as flaw:
        told = str(flaw)
        raise PathpruneError(told if told.startswith(where) else f"{where}: {told}") from flaw
    return name.strip() if name is not None else None, Stated(prompt, answers, where)
