"""Running servers as upstreams: each request goes to the least busy one, and to another one if that fails.

Paths are functions of seed, problem and index, so a request that is restarted elsewhere has the same result. An upstream
without our plug-in uses its own seeded random numbers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import Any

from urllib3.util import Retry

from harness.api import Path, PathpruneError
from harness.engines.served.client import KEY, HTTPClient, NoReplyError
from harness.loop import ScoringError, generated
from harness.places import Growth
from harness.plugins.declared import Method
from harness.plugins.guard import beside_others
from harness.serve.jobs import Answered, Job
from harness.serve.own import drawing
from harness.text import reason

logger = logging.getLogger("pathprune.serve")
QUICK = Retry(total=2, connect=1, backoff_factor=0.1, status_forcelist=(502, 503), allowed_methods=None)
KNOCK = 5.0  # timeout in seconds of an availability check
SLICE = 512  # tokens per path and request; the upstream's prefix cache holds the earlier ones
FORGET = 256  # jobs after which an upstream's cache of prompts is cleared
LOOK = 1.0  # seconds between two availability checks of upstreams that are down
Opened = tuple[Any, Mapping[str, Method]]


class Upstream:
    """One running server, with its own engine and methods, which are opened when it is first reached.

    Args:
        url: its address, without /v1.
        opening: opens the engine and the methods.
    """

    def __init__(self, url: str, opening: Callable[[str], Opened]) -> None:
        self._knocking = HTTPClient(url, os.environ.get(KEY, ""), timeout=KNOCK)
        self._knocking.retrying(Retry(0))
        self.url = self._knocking.url  # without a password
        self._given, self._opening = url, opening
        self._opened: Opened | None = None
        self.is_up, self.busy, self.checking = False, 0, Lock()
        self._since_forgotten = 0

    def open(self) -> Opened:
        """The engine and the methods, opened if necessary.

        Raises:
            NoReplyError: the server does not reply, or is not the same as before.
        """
        with self.checking:
            if self._opened is None:
                self._opened = self._opening(self._given)
                client = self._opened[0].client
                client.retrying(QUICK)
                client.pool = ThreadPoolExecutor(client.connections, thread_name_prefix="request")
        return self._opened

    def release(self) -> None:
        """Count a job that has ended; the prompts of such jobs are forgotten now and then. One caller at a time."""
        self._since_forgotten += 1
        if self._since_forgotten >= FORGET and self._opened is not None:
            self._opened[0].forget()
            self._since_forgotten = 0

    def looked(self, strict: bool = False) -> bool:
        """Check whether an upstream that was down is available now.

        Args:
            strict: raise the error of a server that replies but cannot be used.
        """
        try:
            self._knocking.get("/v1/models")
            self.open()
        except NoReplyError:
            self.is_up = False
        except PathpruneError as error:
            if strict:
                raise
            logger.warning("upstream %s cannot be used: %s", self.url, reason(error))
            self.is_up = False
        else:
            self.is_up = True
        return self.is_up


class Upstreams:
    """Computes jobs on upstreams, each job in its own thread.

    Args:
        upstreams: one or more.
        threads: maximum concurrent jobs.
    """

    def __init__(self, upstreams: Sequence[Upstream], threads: int) -> None:
        self.upstreams = list(upstreams)
        self.retried = 0
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="upstream")
        self._closing = Event()
        Thread(target=self._watch, name="watch", daemon=True).start()

    def submit(self, job: Job) -> None:
        """Start computing a job; the result is set on its future."""
        self._pool.submit(self._compute, job)

    def close(self) -> None:
        """Begin nothing more."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def health(self) -> dict[str, Any]:
        """The availability of the upstreams, for ``/health``."""
        return {one.url: "up" if one.is_up else "down" for one in self.upstreams}

    @property
    def is_up(self) -> bool:
        """Whether any upstream is available."""
        return any(one.is_up for one in self.upstreams)

    def _compute(self, job: Job) -> None:
        try:
            with beside_others():
                job.finish(self._anywhere(job))
        except BaseException as error:
            job.fail(error)

    def _anywhere(self, job: Job) -> Answered:
        """The result from the first upstream that completes the job."""
        tried: list[Upstream] = []
        while True:
            job.hold()
            with self._taken(tried) as upstream:
                tried.append(upstream)
                try:
                    return _answered(job, upstream)
                except PathpruneError as error:
                    died = _death(error)
                    if died is None:
                        raise
                    self._lost(upstream, died)
                    job.tries += 1

    @contextmanager
    def _taken(self, tried: Sequence[Upstream]) -> Iterator[Upstream]:
        """Use the least busy available upstream that was not tried yet; it counts as busier within the block."""
        left = [one for one in self.upstreams if one not in tried]
        there = [one for one in left if one.is_up] or [one for one in left if one.looked()]
        if not there:
            names = ", ".join(one.url for one in self.upstreams)
            raise NoReplyError(f"{names} {'does' if len(self.upstreams) == 1 else 'do'} not reply")
        with self._lock:
            chosen = min(there, key=lambda one: one.busy)
            chosen.busy += 1
        try:
            yield chosen
        finally:
            with self._lock:
                chosen.busy -= 1
                chosen.release()

    def _lost(self, upstream: Upstream, error: NoReplyError) -> None:
        with self._lock:
            self.retried += 1
            upstream.is_up = False
        logger.warning("upstream %s is down: %s", upstream.url, reason(error))

    def _watch(self) -> None:
        """Check upstreams that are down until they are back."""
        while not self._closing.wait(LOOK):
            for one in self.upstreams:
                if not one.is_up and one.looked():
                    logger.info("upstream %s is back", one.url)


def _answered(job: Job, upstream: Upstream) -> Answered:
    """Compute a job on one upstream. Checks run one at a time, because methods are not thread-safe."""
    engine, methods = upstream.open()
    engine = drawing(engine, job.sampling, job.key)
    steps = job.steps(engine, methods[job.method])
    try:
        with upstream.checking:
            growth = next(steps)
        while True:
            longer = _sliced(job, engine, growth)
            with upstream.checking:
                growth = steps.send(longer)
    except StopIteration as end:
        answered: Answered = end.value
        return answered


def _sliced(job: Job, engine: Any, growth: Growth) -> list[Path]:
    """Generate paths in slices, so that work for a disconnected client stops soon.

    Raises:
        CancelledError: the client has disconnected.
    """
    paths, is_first = growth.paths, growth.first
    length = max((path.drawn for path in paths), default=0)
    while True:
        length = min(growth.length, length + SLICE)
        paths, is_first = generated(engine, Growth(paths, length, is_first)), False
        job.hold()
        if length == growth.length or all(path.finish == "stop" for path in paths):
            return paths


def _death(error: PathpruneError) -> NoReplyError | None:
    """The NoReplyError behind an error, also if it was raised within a method; None for any other error."""
    cause = error.__cause__ if isinstance(error, ScoringError) else error
    return cause if isinstance(cause, NoReplyError) else None
