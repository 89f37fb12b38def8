"""Places: where a path is cut, which is at a length, at the end of a reasoning step, or where it can answer.

A place depends only on the path's tokens up to that place. Paths are generated in increments (``Cut.looks``) until their
places are known, so a path may be a few tokens longer than its place. These tokens are charged: a kept path uses them, and
for a dropped path they are wasted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from harness import grading
from harness.api import END_OF_THINKING, Check, Path, PathpruneError, Task
from harness.ledger import MeteredProbe
from harness.spec import PROBE, Cut, RunSpec

WINDOW = 32  # tokens decoded to see whether the last one ends a step
Result = TypeVar("Result")
Grow = Callable[[Sequence[Path], int], list[Path]]
Timed = Callable[[Callable[[], list[int]]], list[int]]


class Growth(NamedTuple):
    """A request to generate paths up to ``length`` tokens. ``first``: a launch, with indices 0 to n - 1."""

    paths: list[Path]
    length: int
    first: bool = False


Steps = Generator[Growth, list[Path], Result]  # yields requests, is sent the longer paths, and returns a result


@dataclass(frozen=True, eq=False)
class Reached:
    """Paths, generated as far as necessary, and the number of tokens at which each is cut."""

    grown: list[Path]
    places: list[int]

    def prefixes(self, decode: Callable[[Sequence[int]], str]) -> list[Path]:
        """The paths cut at their places, for scoring."""
        return [path.cut(place, decode) for path, place in zip(self.grown, self.places, strict=True)]


@dataclass(frozen=True, eq=False)
class Placer:
    """Finds the places of paths. ``ledgers`` hold the cost by problem id; ``timed`` wraps the work to measure its duration."""

    task: Task
    engine: Any
    timed: Timed = lambda look: look()
    ledgers: dict[str, Check] = field(default_factory=dict)

    def reach(self, cut: Cut, paths: Sequence[Path], grow: Grow) -> Reached:
        """Generate paths until the place of each is known.

        Args:
            cut: where they are cut.
            paths: of any problems, none longer than ``cut.prefix``.
            grow: generates paths to a length, as ``Engine.resume``.
        """
        return driven(self.reaching(cut, paths), lambda growth: grow(growth.paths, growth.length))

    def reaching(self, cut: Cut, paths: Sequence[Path]) -> Steps[Reached]:
        """``reach`` as a generator that yields the paths to generate."""
        grown, places, first = list(paths), [-1] * len(paths), cut.prefix
        for look in cut.looks:
            waiting = [i for i, place in enumerate(places) if place < 0]
            if not waiting:
                break
            longer = yield from _to(look, [grown[i] for i in waiting])
            known = self.timed(partial(self._places, cut, first, look, longer))
            for i, path, place in zip(waiting, longer, known, strict=True):
                grown[i], places[i] = path, place
            first = look + 1
        return Reached(grown, places)

    def spent(self, problem: str) -> Check:
        """The cost of finding the places of a problem's paths since the last call."""
        return self.ledgers.pop(problem, None) or Check(np.random.default_rng())

    def _places(self, cut: Cut, first: int, look: int, paths: Sequence[Path]) -> list[int]:
        """Places at ``first`` or later of paths generated to ``look``; -1 for a path that must be longer."""
        found = [-1] * len(paths)
        if cut.at == "step":
            found = [step_end(p.tokens, first, self.task.defaults.step, self.engine.decode) for p in paths]
        elif cut.at == "forced" and look % cut.prefix == 0:
            found = self._answers(paths)
        over = [len(p.tokens) if p.finish == "stop" or look == cut.cap else -1 for p in paths]
        return [end if place < 0 else place for place, end in zip(found, over, strict=True)]

    def _answers(self, paths: Sequence[Path]) -> list[int]:
        """The lengths of unfinished paths that give an answer when forced; -1 for others."""
        running = [p for p in paths if p.finish != "stop"]
        answers = iter([answer for same in _by_problem(running) for answer in self._forced(same)])
        return [len(p.tokens) if p.finish != "stop" and next(answers) is not None else -1 for p in paths]

    def _forced(self, paths: Sequence[Path]) -> list[str | None]:
        """Forced answers of the paths of one problem; every token is charged."""
        ledger = self.ledgers.setdefault(paths[0].problem.id, Check(np.random.default_rng()))
        closing = closing_of(self.task, self.engine)
        texts = MeteredProbe(self.engine, ledger, frozenset({"forced"})).force(paths, closing, PROBE)
        return [grading.read(self.task, text) for text in texts]


def step_end(tokens: Sequence[int], first: int, mark: str, decode: Callable[[Sequence[int]], str]) -> int:
    """The smallest length of at least ``first`` at which a reasoning step ends; -1 if there is none.

    A step ends with the token that completes ``mark``, which may start in earlier tokens. Only a window of tokens up to
    that token is decoded, because later tokens may change the decoded text.
    """
    for length in range(max(1, first), len(tokens) + 1):
        start = max(0, length - WINDOW)
        if decode(tokens[start:length]).count(mark) > decode(tokens[start : length - 1]).count(mark):
            return length
    return -1


def closing_of(task: Task, engine: Any) -> str:
    """The text that makes a path state its answer: the task's, with the model's own end of thinking if it has one."""
    own, said = getattr(engine, "closing", ""), task.defaults.closing
    return own + said.removeprefix(END_OF_THINKING) if own else said


def feasible(spec: RunSpec, task: Task, engine: Any) -> None:
    """Refuse a schedule whose places cannot be found.

    Raises:
        PathpruneError: the task does not define the end of a step, or the engine cannot decode or force answers.
    """
    for stage in spec.stages:
        needs = {"token": (), "step": ("text",), "forced": ("text", "forced")}[stage.at]
        for signal in needs:
            if signal not in engine.provides:
                raise PathpruneError(
                    f"stage {stage.where}:{stage.keep} needs {signal!r}, which engine {engine.spec['engine']} does not provide; "
                    f"cut at a length: {stage.prefix}:{stage.keep}"
                )
        if stage.at == "step" and not task.defaults.step:
            raise PathpruneError(
                f"stage {stage.where}:{stage.keep} cuts at the end of a reasoning step, which task {task.name} does not define "
                f"(defaults.step); cut at a length: {stage.prefix}:{stage.keep}"
            )


def driven(steps: Steps[Result], grow: Callable[[Growth], list[Path]]) -> Result:
    """Run steps to their result, generating each request immediately."""
    try:
        growth = next(steps)
        while True:
            growth = steps.send(grow(growth))
    except StopIteration as end:
        result: Result = end.value
        return result


def _to(length: int, paths: Sequence[Path]) -> Steps[list[Path]]:
    """Generate paths to this length; those that have ended or are long enough stay unchanged."""
    short = [i for i, p in enumerate(paths) if p.finish != "stop" and len(p.tokens) < length]
    longer = dict(zip(short, (yield Growth([paths[i] for i in short], length)) if short else (), strict=True))
    return [longer.get(i, p) for i, p in enumerate(paths)]


def _by_problem(paths: Sequence[Path]) -> list[list[Path]]:
    """Group consecutive paths of the same problem."""
    groups: list[list[Path]] = []
    for path in paths:
        if not groups or groups[-1][0].problem.id != path.problem.id:
            groups.append([])
        groups[-1].append(path)
    return groups
