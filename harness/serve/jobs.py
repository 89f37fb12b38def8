"""Jobs: the session of ``harness.loop`` for one request, and the future of its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from harness.api import Path, Problem, Sampling
from harness.loop import Outcome, representative, session
from harness.places import Growth, Steps, feasible
from harness.plugins.declared import Method
from harness.runners.live import terms
from harness.serve.errors import CancelledError, UnfitError
from harness.serve.prompt import Reading
from harness.spec import RunSpec

Event = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Answered:
    """The result of a job: the outcome, its representative path (None: all were cut off), and the prompt's length in tokens."""

    outcome: Outcome
    best: Path | None
    prompt_tokens: int


@dataclass(eq=False)
class Job:
    """A problem with its terms. ``key`` is sent to upstreams; ``tell`` receives progress events, from any thread.

    The representation of a job does not include the key.
    """

    problem: Problem
    task: Reading
    method: str
    spec: RunSpec
    sampling: Sampling
    key: str = field(default="", repr=False)
    tell: Callable[[Event], None] = field(default=lambda event: None, repr=False)
    future: Future[Answered] = field(default_factory=Future, repr=False)
    is_cancelled: bool = False
    tries: int = 0

    def cancel(self) -> None:
        """Cancel the job: no further work is started."""
        self.is_cancelled = True

    def hold(self) -> None:
        """Raise if the job was cancelled.

        Raises:
            CancelledError: the job was cancelled.
        """
        if self.is_cancelled:
            raise CancelledError

    def finish(self, answered: Answered) -> None:
        """Set the result on the future."""
        if not self.future.done():
            self.future.set_result(answered)

    def fail(self, error: BaseException) -> None:
        """Set an error on the future."""
        if not self.future.done():
            self.future.set_exception(error)

    def steps(self, engine: Any, method: Method) -> Steps[Answered]:
        """The session on an engine, as a generator that yields the paths to generate.

        Raises:
            UnfitError: prompt and paths are longer than the model's context.
            CancelledError: the job was cancelled meanwhile.
        """
        length = int(engine.prompt_length(self.problem))
        context = getattr(engine, "context", None)
        if context is not None and length + self.spec.limit > context:
            raise UnfitError(
                f"the prompt has {length:,} tokens and max_tokens is {self.spec.limit:,}, together more than the model's context "
                f"of {context:,} tokens; shorten one of them"
            )
        spec = terms(self.spec, method)
        feasible(spec, self.task, engine)
        scorer, rule = (None if plugin is None else plugin.pruner for plugin in (method.scorer, method.rule))
        outcome = yield from self._heard(session(self.problem, self.task, engine, scorer, spec, None, rule))
        return Answered(outcome, representative(outcome, self.task), length)

    def _heard(self, steps: Steps[Outcome]) -> Steps[Outcome]:
        """A session that reports each generation to ``tell``."""
        try:
            growth = next(steps)
            while True:
                self.hold()
                self.tell(_event(growth))
                longer = yield growth
                self.hold()
                growth = steps.send(longer)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome


def _event(growth: Growth) -> Event:
    return {"stage": "launch" if growth.first else "resume", "paths": len(growth.paths), "to": growth.length}
