"""The frozen specification of a run: sampling, cuts, numbers kept, and the vote. Its dictionaries are the keys of records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
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
At = Literal["token", "step", "forced"]
Pair = tuple[int, int] | tuple[int, int, At]
WHOLE = re.compile(r"[0-9]{1,12}")
LARGEST = {
    "n": 2**20,
    "limit": 2**31 - 1,
    "seed": 2**63 - 1,
    "problems": 2**31 - 1,
}  # bounds of 64-bit seeds and of the lengths in records


STRIDE = 16  # tokens generated between two looks for the end of a step
PROBE = 16  # maximum tokens of a forced answer


class Stage(NamedTuple):
    """Paths are cut at ``prefix`` tokens or later, and the best ``keep`` go on.

    ``at``: the place of the cut: at ``prefix`` ("token"), at the first end of a reasoning step from there on ("step"), or
    at the first multiple of ``prefix`` at which the path gives a forced answer ("forced"). See ``harness.places``.
    """

    prefix: int
    keep: int
    at: At = "token"

    @property
    def where(self) -> str:
        """``16`` or ``step@16``."""
        return str(self.prefix) if self.at == "token" else f"{self.at}@{self.prefix}"


class Cut(NamedTuple):
    """Where a stage cuts paths: at ``prefix`` tokens or later, and at ``cap`` tokens at the latest."""

    prefix: int
    at: At
    cap: int

    @property
    def looks(self) -> Iterator[int]:
        """Lengths at which paths are examined for their place, ascending; the last is ``cap``."""
        yield from range(self.prefix, self.cap, STRIDE if self.at == "step" else self.prefix)
        yield self.cap

    @property
    def key(self) -> dict[str, Any]:
        """The parameters of the place besides ``prefix``; empty for a cut at a length, so that old records keep their keys."""
        own = {"token": {}, "step": {"stride": STRIDE}, "forced": {"probe": PROBE}}[self.at]
        return {"at": self.at, "until": self.cap} | own if own else {}


@dataclass(frozen=True)
class RunSpec:
    """``n`` paths per problem of at most ``limit`` tokens, pruned at one stage or at several.

    Args:
        task, task_version: name and version of the task.
        engine: the engine's ``spec``, which determines the tokens.
        n: paths launched per problem.
        limit: maximum generated tokens per path.
        stages: with ascending prefixes and non-increasing numbers kept; one stage is Launch, Check, Resume.
        seed: of the random streams.
        ended: whether a path that ended inside a prefix counts towards ``keep`` ("count") or is kept in addition ("bypass").
        vote: a name in ``harness.vote``.

    Raises:
        PathpruneError: an invalid schedule; the message names the fix.
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
        numbers |= {f"stage {i} {f}": getattr(s, f) for i, s in enumerate(self.stages, 1) for f in ("prefix", "keep")}
        for name, value in numbers.items():
            if not isinstance(value, int) or isinstance(value, bool):
                raise PathpruneError(f"{name} must be an integer, not {shown(value)}")
        for name in numbers.keys() & LARGEST.keys():
            if numbers[name] > LARGEST[name]:
                raise PathpruneError(f"{name} must be at most {LARGEST[name]}, not {shown(numbers[name])}")
        if self.seed < 0:
            raise PathpruneError(f"seed must be 0 or more, not {self.seed}")
        if self.ended not in get_args(Ended):
            raise PathpruneError(
                unknown(
                    "ended", shown(self.ended) if not isinstance(self.ended, str) else self.ended, list(get_args(Ended))
                )
            )
        for noun, name in (("task", f"{self.task}-v{self.task_version}"), ("model", str(self.engine["model"]))):
            if not is_file_name(name):
                other = f"; give another model: {advice.option(model='NAME')}" if noun == "model" else ""
                raise PathpruneError(
                    f"{noun} {name!r} cannot name a folder of records: it has a slash or an unprintable character"
                    + other
                )
        if self.n < 1 or self.limit < 2:
            raise PathpruneError("n must be 1 or more, and the token limit 2 or more")
        if not self.stages:
            raise PathpruneError("a run needs at least one stage: give prefix and keep, or stages such as 16:32,43:8")
        for stage in self.stages:
            _hold_at(stage.at)
        if self.vote not in VOTES:
            raise PathpruneError(unknown("vote", self.vote, list(VOTES)))
        before = Stage(0, self.n)
        for stage in self.stages:
            _in_order(before, stage, self.n, self.limit)
            before = stage

    @classmethod
    def of(cls, task: Task, engine: Engine, n: int, limit: int, stages: Sequence[Pair], **rest: Any) -> RunSpec:
        """The spec of a run on these opened objects; ``rest`` are ``seed``, ``ended`` and ``vote``."""
        return cls(task.name, task.version, dict(engine.spec), n, limit, stages_of(stages), **rest)

    @property
    def prefixes(self) -> tuple[int, ...]:
        """The stages' prefix lengths in tokens, ascending."""
        return tuple(stage.prefix for stage in self.stages)

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Where each stage cuts paths; always before the next stage starts, so that no path is cut twice at one place."""
        caps = [*(stage.prefix for stage in self.stages[1:]), self.limit]
        return tuple(
            Cut(s.prefix, s.at, s.prefix if s.at == "token" else cap - 1)
            for s, cap in zip(self.stages, caps, strict=True)
        )

    @property
    def is_schedule(self) -> bool:
        """Whether there are several stages, or places that depend on the path."""
        return len(self.stages) > 1 or any(stage.at != "token" for stage in self.stages)

    @property
    def keep(self) -> int:
        """Paths finished per problem."""
        return self.stages[-1].keep

    @property
    def bank(self) -> dict[str, Any]:
        """Everything that determines the paths of a pool except their number, because paths can be added later."""
        return _paths(self.task, self.task_version, self.engine, self.seed, self.limit)

    @property
    def pool(self) -> dict[str, Any]:
        """Everything that determines a pool of ``n`` paths."""
        return self.bank | {"n": self.n}

    def scored_at(self, prefix: int) -> dict[str, Any]:
        """Everything that determines a method's scores at a prefix; 0 is the whole path, for decision rules."""
        key = next((cut.key for cut in self.cuts if cut.prefix == prefix), {})
        return self.pool | {"prefix": prefix} | key

    @property
    def live(self) -> dict[str, Any]:
        """Everything that determines a live run. A single stage and a cut at a length have the keys of older records."""
        pairs = [list(stage[:2] if stage.at == "token" else stage) for stage in self.stages]
        schedule: dict[str, Any] = {"stages": pairs}
        if len(self.stages) == 1:
            schedule = dict(zip(("prefix", "keep", "at"), pairs[0], strict=False))
        schedule |= {k: v for cut in self.cuts for k, v in cut.key.items() if k in ("stride", "probe")}
        return self.pool | schedule | {"ended": self.ended, "vote": self.vote, "live": True}

    def folder(self, results: FilePath) -> FilePath:
        """The folder of the records of this pool."""
        return results / f"{self.task}-v{self.task_version}" / f"{self.engine['model']}-{digest(self.pool)}"

    def keeping_all(self) -> RunSpec:
        """The spec for the same paths with no path dropped and a majority vote."""
        return replace(self, stages=tuple(s._replace(keep=self.n) for s in self.stages), vote="majority")

    def __str__(self) -> str:
        """``64 -> 32 at 16 -> 8 at step@43``"""
        return schedule_text(self.n, self.stages)


def schedule_text(n: int, stages: Sequence[Stage]) -> str:
    """``64 -> 32 at 16 -> 8 at step@43``"""
    return " -> ".join([str(n), *(f"{s.keep} at {s.where}" for s in stages)])


def bank_spec(task: Task, engine: Engine, seed: int, limit: int) -> dict[str, Any]:
    """``RunSpec.bank`` of any run on this task and engine."""
    return _paths(task.name, task.version, engine.spec, seed, limit)


def _paths(task: str, version: str, engine: Mapping[str, Any], seed: int, limit: int) -> dict[str, Any]:
    return {"task": task, "task_version": version, "engine": dict(engine), "seed": seed, "max_tokens": limit}


def _in_order(before: Stage, stage: Stage, n: int, limit: int) -> None:
    """Refuse a stage that does not follow the previous one: a longer prefix, and at most as many paths."""
    first = before.prefix == 0
    if not 1 <= stage.prefix < limit:
        raise PathpruneError(
            f"prefix must be from 1 to {limit - 1}, below the token limit of {limit}, not {stage.prefix}"
        )
    if not 1 <= stage.keep <= before.keep:
        most = f"n = {n}" if first else f"the {before.keep} that the stage before it keeps"
        raise PathpruneError(f"keep must be from 1 to {most}, not {stage.keep}")
    if stage.prefix <= before.prefix:
        raise PathpruneError(
            f"stage {stage.prefix}:{stage.keep} does not come after {before.prefix}: give prefixes in ascending order"
        )


def _hold_at(at: Any) -> None:
    if not isinstance(at, str):
        raise PathpruneError(f"the place of a cut must be one of {', '.join(get_args(At))}, not {shown(at)}")
    if at not in get_args(At):
        raise PathpruneError(unknown("place of a cut", at, list(get_args(At))))


def stages_of(parts: Any) -> tuple[Stage, ...]:
    """Convert pairs (prefix length, number kept) to stages; an optional third entry is the place of the cut.

    Raises:
        PathpruneError: anything but a sequence of such pairs.
    """
    try:
        return tuple(Stage(*part) for part in parts)
    except TypeError as error:
        raise PathpruneError(
            f"stages must be pairs of a prefix length and a number kept, with an optional place, not {shown(parts)}"
        ) from error


def parse_stages(text: str) -> tuple[Stage, ...]:
    """Parse ``16:32,step@43:8``.

    Raises:
        PathpruneError: a part that is not two integers, or has an unknown place.
    """
    stages = []
    for part in filter(None, text.split(",")):
        where, colon, keep = part.partition(":")
        at, sign, prefix = where.rpartition("@")
        if not (colon and WHOLE.fullmatch(prefix.strip()) and WHOLE.fullmatch(keep.strip())):
            raise PathpruneError(f"stages {text!r}: {part!r} is not PREFIX:KEEP, as in 16:32,43:8 or step@43:8")
        place: Any = at.strip() if sign else "token"
        _hold_at(place)
        stages.append(Stage(int(prefix), int(keep), place))
    return tuple(stages)
