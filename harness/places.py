"""Where a path is cut: at a length, at the end of a reasoning step, or where it can answer. Nothing else knows.

A place depends on the path's own tokens up to that place: whatever a path goes on with, it is cut there. Paths are generated
from look to look (``Cut.looks``) until their places are known, so that a path may be some tokens longer than its place. These
are spent: a path that goes on has them, and one that is dropped has been generated for nothing from its place on.
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

WINDOW = 32  # tokens that are decoded to see whether the last one ends a step
Result = TypeVar("Result")
Grow = Callable[[Sequence[Path], int], list[Path]]
Timed = Callable[[Callable[[], list[int]]], list[int]]


class Growth(NamedTuple):
    """Paths that have to be generated to ``length`` tokens; ``first``: they are those of a launch, index 0 to n - 1."""

    paths: list[Path]
    length: int
    first: bool = False


Steps = Generator[Growth, list[Path], Result]  # work that asks for longer paths, is sent them, and returns its result


@dataclass(frozen=True, eq=False)
class Reached:
    """Paths as far as they had to be generated, and the number of tokens at which each is cut."""

    grown: list[Path]
    places: list[int]

    def prefixes(self, decode: Callable[[Sequence[int]], str]) -> list[Path]:
        """The paths up to their places, as they are scored."""
        return [path.cut(place, decode) for path, place in zip(self.grown, self.places, strict=True)]


@dataclass(frozen=True, eq=False)
class Placer:
    """Finds the places of paths; ``ledgers`` hold by problem what that costs, and ``timed`` sees what takes time."""

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
        """``reach`` for a caller that generates paths when it suits."""
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
        """What finding the places of a problem's paths has cost since this was asked last."""
        return self.ledgers.pop(problem, None) or Check(np.random.default_rng())

    def _places(self, cut: Cut, first: int, look: int, paths: Sequence[Path]) -> list[int]:
        """Where paths that have been generated to ``look`` are cut, at ``first`` or behind it; -1 for one that has to be longer."""
        found = [-1] * len(paths)
        if cut.at == "step":
            found = [step_end(p.tokens, first, self.task.defaults.step, self.engine.decode) for p in paths]
        elif cut.at == "forced" and look % cut.prefix == 0:
            found = self._answers(paths)
        over = [len(p.tokens) if p.finish == "stop" or look == cut.cap else -1 for p in paths]
        return [end if place < 0 else place for place, end in zip(found, over, strict=True)]

    def _answers(self, paths: Sequence[Path]) -> list[int]:
        """The lengths of paths that still run and give an answer when they have to."""
        running = [p for p in paths if p.finish != "stop"]
        answers = iter([answer for same in _by_problem(running) for answer in self._forced(same)])
        return [len(p.tokens) if p.finish != "stop" and next(answers) is not None else -1 for p in paths]

    def _forced(self, paths: Sequence[Path]) -> list[str | None]:
        """What the paths of one problem answer when they have to; every token is charged."""
        ledger = self.ledgers.setdefault(paths[0].problem.id, Check(np.random.default_rng()))
        closing = closing_of(self.task, self.engine)
        texts = MeteredProbe(self.engine, ledger, frozenset({"forced"})).force(paths, closing, PROBE)
        return [grading.read(self.task, text) for text in texts]


def step_end(tokens: Sequence[int], first: int, mark: str, decode: Callable[[Sequence[int]], str]) -> int:
    """The smallest length from ``first`` on at which a reasoning step ends, -1 where none does.

    A step ends with the token that completes ``mark``, which may begin in earlier tokens. Only the tokens up to there are
    read, a window of them: a decoder may say something else of a token when it sees what comes behind it.
    """
    for length in range(max(1, first), len(tokens) + 1):
        start = max(0, length - WINDOW)
        if decode(tokens[start:length]).count(mark) > decode(tokens[start : length - 1]).count(mark):
            return length
    return -1


def closing_of(task: Task, engine: Any) -> str:
    """What makes a path state its answer: in place of the usual end of thinking the model's own, where it has one."""
    own, said = getattr(engine, "closing", ""), task.defaults.closing
    return own + said.removeprefix(END_OF_THINKING) if own else said


def feasible(spec: RunSpec, task: Task, engine: Any) -> None:
    """Refuse a schedule whose places cannot be found.

    Raises:
        PathpruneError: a task without a mark that ends a step, an engine that cannot decode or force answers.
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
                f"stage {stage.where}:{stage.keep} cuts at the end of a reasoning step, and task {task.name} does not say what ends "
                f"one (defaults.step); cut at a length: {stage.prefix}:{stage.keep}"
            )


def driven(steps: Steps[Result], grow: Callable[[Growth], list[Path]]) -> Result:
    """The result of steps, each of whose growths is generated at once."""
    try:
        growth = next(steps)
        while True:
            growth = steps.send(grow(growth))
    except StopIteration as end:
        result: Result = end.value
        return result


def _to(length: int, paths: Sequence[Path]) -> Steps[list[Path]]:
    """The paths at this length; those that have ended or are that long are left as they are."""
    short = [i for i, p in enumerate(paths) if p.finish != "stop" and len(p.tokens) < length]
    longer = dict(zip(short, (yield Growth([paths[i] for i in short], length)) if short else (), strict=True))
    return [longer.get(i, p) for i, p in enumerate(paths)]


def _by_problem(paths: Sequence[Path]) -> list[list[Path]]:
    """Paths of one problem together; they lie side by side."""
    groups: list[list[Path]] = []
    for path in paths:
        if not groups or groups[-1][0].problem.id != path.problem.id:
            groups.append([])
        groups[-1].append(path)
    return groups
