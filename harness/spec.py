"""One run, frozen: what is sampled, where it is cut, how many go on, and who votes. Its dictionaries name every record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, Literal, NamedTuple, get_args

from harness import advice
from harness.api import Engine, PathpruneError, Task
from harness.store.keys import digest
from harness.store.names import is_file_name
from harness.text import shown, unknown
from harness.vote import VOTES

Ended = Literal["count", "bypass"]
WHOLE = re.compile(r"[0-9]{1,12}")
LARGEST = {
    "n": 2**20,
    "limit": 2**31 - 1,
    "seed": 2**63 - 1,
    "problems": 2**31 - 1,
}  # seeds fill 64 bits, lengths what records hold


class Stage(NamedTuple):
    """Paths are cut at ``prefix`` tokens, and the best ``keep`` of them go on."""

    prefix: int
    keep: int


@dataclass(frozen=True)
class RunSpec:
    """``n`` paths per problem of at most ``limit`` tokens, pruned at one stage or at several.

    Args:
        task, task_version: name and version of the task.
        engine: the engine's ``spec``, which decides the tokens.
        n: paths launched per problem.
        limit: generated tokens of a path, at most.
        stages: prefixes ascending, numbers kept descending; one stage is Launch, Check, Resume.
        seed: of the random streams.
        ended: whether a path that ended inside a prefix spends one of the ``keep`` ("count") or votes on top ("bypass").
        vote: a name in ``harness.vote``.

    Raises:
        PathpruneError: a schedule that cannot be run, named with its fix.
    """

    task: str
    task_version: str
    engine: Mapping[str, Any]
    n: int
    limit: int
    stages: tuple[Stage, ...]
    seed: int = 0
    ended: Ended = "count"
    vote: str = "majority"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", stages_of(self.stages))
        numbers = {"n": self.n, "limit": self.limit, "seed": self.seed}
        numbers |= {f"stage {i} {f}": v for i, s in enumerate(self.stages, 1) for f, v in s._asdict().items()}
        for name, value in numbers.items():
            if not isinstance(value, int) or isinstance(value, bool):
                raise PathpruneError(f"{name} is a whole number, not {shown(value)}")
        for name in numbers.keys() & LARGEST.keys():
            if numbers[name] > LARGEST[name]:
                raise PathpruneError(f"{name} is {LARGEST[name]} at most, not {shown(numbers[name])}")
        if self.seed < 0:
            raise PathpruneError(f"seed is 0 or more, not {self.seed}")
        if self.ended not in get_args(Ended):
            raise PathpruneError(
                unknown(
                    "ended", shown(self.ended) if not isinstance(self.ended, str) else self.ended, list(get_args(Ended))
                )
            )
        for noun, name in (("task", f"{self.task}-v{self.task_version}"), ("model", str(self.engine["model"]))):
            if not is_file_name(name):
                other = f"; give a model that can: {advice.option(model='NAME')}" if noun == "model" else ""
                raise PathpruneError(
                    f"{noun} {name!r} cannot name a folder of records, which holds no slash and nothing that cannot be shown"
                    + other
                )
        if self.n < 1 or self.limit < 2:
            raise PathpruneError("n is 1 or more, and the token limit 2 or more")
        if not self.stages:
            raise PathpruneError(
                "a run has one stage or more: a prefix and how many to keep, or stages such as 16:32,43:8"
            )
        if self.vote not in VOTES:
            raise PathpruneError(unknown("vote", self.vote, list(VOTES)))
        before = Stage(0, self.n)
        for stage in self.stages:
            _in_order(before, stage, self.n, self.limit)
            before = stage

    @classmethod
    def of(
        cls, task: Task, engine: Engine, n: int, limit: int, stages: Sequence[tuple[int, int]], **rest: Any
    ) -> RunSpec:
        """The spec of a run on these opened objects."""
        return cls(task.name, task.version, dict(engine.spec), n, limit, tuple(Stage(*s) for s in stages), **rest)

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Lengths in tokens at which paths are scored, ascending."""
        return tuple(stage.prefix for stage in self.stages)

    @property
    def keep(self) -> int:
        """Paths finished per problem."""
        return self.stages[-1].keep

    @property
    def bank(self) -> dict[str, Any]:
        """What decides the paths of a pool, except how many there are: more can be added later."""
        return _paths(self.task, self.task_version, self.engine, self.seed, self.limit)

    @property
    def pool(self) -> dict[str, Any]:
        """What decides a pool of ``n`` paths."""
        return self.bank | {"n": self.n}

    def scored_at(self, prefix: int) -> dict[str, Any]:
        """What decides a method's scores; 0 is the whole path, for decision rules of a method's own."""
        return self.pool | {"prefix": prefix}

    @property
    def live(self) -> dict[str, Any]:
        """What decides a live run. One stage has the keys that it had before there were several."""
        schedule: dict[str, Any] = {"stages": [list(stage) for stage in self.stages]}
        if len(self.stages) == 1:
            schedule = {"prefix": self.stages[0].prefix, "keep": self.stages[0].keep}
        return self.pool | schedule | {"ended": self.ended, "vote": self.vote, "live": True}

    def folder(self, results: FilePath) -> FilePath:
        """Where the records of this pool lie."""
        return results / f"{self.task}-v{self.task_version}" / f"{self.engine['model']}-{digest(self.pool)}"

    def keeping_all(self) -> RunSpec:
        """The same paths, none of them dropped, each with one vote."""
        return replace(self, stages=tuple(Stage(s.prefix, self.n) for s in self.stages), vote="majority")

    def __str__(self) -> str:
        """``64 -> 32 at 16 -> 8 at 43``"""
        return " -> ".join([str(self.n), *(f"{s.keep} at {s.prefix}" for s in self.stages)])


def bank_spec(task: Task, engine: Engine, seed: int, limit: int) -> dict[str, Any]:
    """``RunSpec.bank`` of a run on these, whatever it prunes."""
    return _paths(task.name, task.version, engine.spec, seed, limit)


def _paths(task: str, version: str, engine: Mapping[str, Any], seed: int, limit: int) -> dict[str, Any]:
    return {"task": task, "task_version": version, "engine": dict(engine), "seed": seed, "max_tokens": limit}


def _in_order(before: Stage, stage: Stage, n: int, limit: int) -> None:
    """Refuse a stage that is no cut of what the one before it left."""
    first = before.prefix == 0
    if not 1 <= stage.prefix < limit:
        raise PathpruneError(f"prefix {stage.prefix} is not between 1 and the token limit {limit} - 1")
    if not 1 <= stage.keep <= before.keep:
        most = f"n = {n}" if first else f"the {before.keep} that the stage before it keeps"
        raise PathpruneError(f"keep {stage.keep} is not between 1 and {most}")
    if stage.prefix <= before.prefix:
        raise PathpruneError(
            f"stage {stage.prefix}:{stage.keep} does not lie behind {before.prefix}: give prefixes in ascending order"
        )


def stages_of(pairs: Any) -> tuple[Stage, ...]:
    """Pairs of a prefix length and a number kept as stages.

    Raises:
        PathpruneError: what is no sequence of pairs.
    """
    try:
        return tuple(Stage(*pair) for pair in pairs)
    except TypeError as error:
        raise PathpruneError(f"stages are pairs of a prefix length and a number kept, not {shown(pairs)}") from error


def parse_stages(text: str) -> tuple[Stage, ...]:
    """``16:32,43:8`` to stages.

    Raises:
        PathpruneError: a part that is not two whole numbers.
    """
    stages = []
    for part in filter(None, text.split(",")):
        prefix, colon, keep = part.partition(":")
        if not (colon and WHOLE.fullmatch(prefix.strip()) and WHOLE.fullmatch(keep.strip())):
            raise PathpruneError(f"stages {text!r}: {part!r} is not PREFIX:KEEP, as in 16:32,43:8")
        stages.append(Stage(int(prefix), int(keep)))
    return tuple(stages)
