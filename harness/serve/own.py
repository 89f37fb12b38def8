"""The server's own engine. A single thread runs it and batches similar stages of different requests.

The tokens of a path depend only on its seed, problem and index (``harness.api.Engine``), so sharing a batch does not change
them. The stage that has waited longest is next, together with all similar stages that fit, so requests take turns.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

from harness.api import Path, PathpruneError, Sampling
from harness.loop import generated
from harness.places import Growth, Steps
from harness.plugins.declared import Method
from harness.plugins.sampled import launched, resumed
from harness.serve.errors import CancelledError, UnfitError
from harness.serve.jobs import Answered, Job

logger = logging.getLogger("pathprune.serve")
FORGET = 256  # jobs after which the engine's prompt caches are cleared, unless it was idle before


@dataclass(eq=False)
class _Running:
    """A job that waits for paths to be generated."""

    job: Job
    steps: Steps[Answered]
    growth: Growth

    @property
    def alike(self) -> tuple[Any, ...]:
        """The batching key: generations with equal keys can share a batch."""
        launch = (len(self.growth.paths), self.job.spec.seed) if self.growth.first else ()
        return self.growth.first, self.growth.length, self.job.sampling, launch


class OwnEngine:
    """Computes jobs on one engine, in a thread that starts immediately.

    Args:
        engine: opened, with loaded weights.
        methods: methods by name, ready to run on the engine.
        rows: maximum paths per batch, unless a single request has more.
    """

    def __init__(self, engine: Any, methods: Mapping[str, Method], rows: int) -> None:
        self.engine, self.methods, self.rows = engine, methods, rows
        self._arrived: deque[Job] = deque()
        self._waiting: deque[_Running] = deque()
        self._bell = Condition()
        self._closing = False
        self._since_forgotten = 0
        self._asked: Counter[str] = Counter()  # by prompt, the jobs that are being computed
        self._thread = Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Start computing a job; the result is set on its future."""
        with self._bell:
            self._arrived.append(job)
            self._bell.notify()

    def close(self) -> None:
        """Stop after the current batch."""
        with self._bell:
            self._closing = True
            self._bell.notify()
        self._thread.join(timeout=5)

    def health(self) -> dict[str, Any]:
        """The state of the engine, for ``/health``."""
        return {"engine": "up" if self._thread.is_alive() else "down"}

    @property
    def is_up(self) -> bool:
        """Whether jobs can be computed."""
        return self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._bell:
                if not self._arrived and not self._waiting and self._since_forgotten:
                    self._forget()
                while not self._arrived and not self._waiting and not self._closing:
                    self._bell.wait()
                if self._closing:
                    return
                arrived = [self._arrived.popleft() for _ in range(len(self._arrived))]
            for job in arrived:
                self._begin(job)
            if batch := self._next():
                self._generate(batch)

    def _begin(self, job: Job) -> None:
        self._asked[job.problem.prompt] += 1
        try:
            job.hold()
            method = self.methods[job.method]
            steps = job.steps(self._drawing(job.sampling), method)
        except BaseException as error:
            job.fail(error)
            self._release(job)
            return
        self._advance(job, steps, None)

    def _drawing(self, sampling: Sampling) -> Any:
        return drawing(self.engine, sampling)

    def _next(self) -> list[_Running]:
        """Take the next batch: the generation that has waited longest, and similar ones as far as they fit."""
        gone = [one for one in self._waiting if one.job.is_cancelled]
        for one in gone:
            self._waiting.remove(one)
            self._drop(one, CancelledError())
        if not self._waiting:
            return []
        batch, rest, room = list[_Running](), deque[_Running](), self.rows
        alike = self._waiting[0].alike
        for one in self._waiting:
            paths = len(one.growth.paths)
            if one.alike == alike and (not batch or paths <= room):
                batch.append(one)
                room -= paths
            else:
                rest.append(one)
        self._waiting = rest
        return batch

    def _generate(self, batch: Sequence[_Running]) -> None:
        """Generate the paths of a batch and advance its jobs; a failing job does not affect the others."""
        try:
            engine = self._drawing(batch[0].job.sampling)
            longer = _together(engine, [one.growth for one in batch])
        except Exception as error:
            if len(batch) == 1 or not isinstance(error, PathpruneError | MemoryError):
                for one in batch:
                    self._drop(one, error)
                return
            for one in batch:
                self._generate([one])
            return
        for one, paths in zip(batch, longer, strict=True):
            self._advance(one.job, one.steps, paths)

    def _advance(self, job: Job, steps: Steps[Answered], longer: list[Path] | None) -> None:
        """Advance a job with its longer paths (Check, Vote) up to the next generation."""
        try:
            growth = next(steps) if longer is None else steps.send(longer)
        except StopIteration as end:
            job.finish(end.value)
        except BaseException as error:
            job.fail(error)
        else:
            self._waiting.append(_Running(job, steps, growth))
            return
        self._release(job)
        self._since_forgotten += 1
        if self._since_forgotten >= FORGET:
            self._forget()

    def _drop(self, one: _Running, error: BaseException) -> None:
        one.steps.close()
        one.job.fail(error)
        self._release(one.job)

    def _release(self, job: Job) -> None:
        """Free the stored KV of a job's prompt when no other job has the same: else it would fill the engine's memory."""
        prompt = job.problem.prompt
        self._asked[prompt] -= 1
        if self._asked[prompt]:
            return
        del self._asked[prompt]
        release = getattr(self.engine, "release", None)
        if release is not None:
            release(prompt)

    def _forget(self) -> None:
        """Clear the engine's caches of answered prompts."""
        self._since_forgotten = 0
        forget = getattr(self.engine, "forget", None)
        if forget is not None:
            forget()


def drawing(engine: Any, sampling: Sampling, key: str = "") -> Any:
    """The engine with a request's sampling; the engine itself if it already has that sampling.

    Raises:
        UnfitError: the sampling of the engine is fixed.
    """
    if not key and Sampling(**engine.spec["sampling"]) == sampling:
        return engine
    if "tools" in engine.spec or not hasattr(engine, "drawing"):
        raise UnfitError(f"engine {engine.spec['engine']} has a fixed sampling; leave out temperature, top_p and top_k")
    return engine.drawing(sampling, key)


def _together(engine: Any, growths: Sequence[Growth]) -> list[list[Path]]:
    """Generate the paths of similar requests in one call of the engine."""
    if len(growths) == 1:
        return [generated(engine, growths[0])]
    first = growths[0]
    if first.first:
        problems = [growth.paths[0].problem for growth in growths]
        return launched(engine, problems, len(first.paths), first.length, first.paths[0].seed)
    longer = iter(resumed(engine, [path for growth in growths for path in growth.paths], first.length))
    return [[next(longer) for _ in growth.paths] for growth in growths]
