"""A bench on several GPUs or machines: Ray actors, each with an engine of its own, that take jobs from one queue.

Only this process writes records and the bank, so the store is that of a single-process run. A worker that dies has its
job taken by another.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from harness import registry
from harness.api import PathpruneError, UnavailableError
from harness.learn import checkpoints
from harness.runners.work import Finished, Job, Worker
from harness.spec import RunSpec
from harness.where import Where

COUNT = re.compile(r"[1-9][0-9]{0,3}")
ATTEMPTS = 3  # how often a job may lose its worker


@dataclass(frozen=True)
class Opening:
    """What a worker opens for itself: everything by name."""

    where: Where
    pruners: tuple[str, ...]
    spec: RunSpec

    def open(self) -> Worker:
        """The worker, its pruners' checkpoints loaded."""
        plugins = [registry.pruner(spec) for spec in self.pruners]
        for plugin in plugins:
            checkpoints.attach(plugin, self.where.engine)
        return Worker(self.where.task, self.where.engine, plugins, self.spec)


class Actor:
    """Runs in a process of Ray's."""

    def __init__(self, opening: Opening) -> None:
        self.worker = opening.open()

    def run(self, job: Job) -> Finished:
        """The worker's own ``run``."""
        return self.worker.run(job)


def parse(workers: str) -> tuple[str | None, int]:
    """``4`` is (None, 4): processes of this machine; ``ray://host:10001,4`` (address, 4), ``auto,4`` a running cluster."""
    address, comma, count = workers.rpartition(",")
    if not comma and (":" in workers or workers == "auto"):
        address, count = workers, "1"
    if not COUNT.fullmatch(count):
        raise PathpruneError(
            f"--workers {workers}: give a number, or a cluster's address and a number (ray://host:10001,4)"
        )
    return address or None, int(count)


def reachable(address: str | None) -> None:
    """Ray itself waits for two minutes and then ends the process."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon:
        return  # this machine, or "auto"
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise UnavailableError(f"no Ray cluster at {address} ({error}); start one with: ray start --head") from error


@dataclass
class Cluster:
    """A crew (``harness.runners.work.Crew``) of ``count`` actors with ``gpus`` each."""

    opening: Opening
    address: str | None
    count: int
    gpus: int

    def __call__(self, worker: Worker, jobs: Iterable[Job]) -> Iterator[Finished]:
        """``worker`` stays unused: the actors open their own."""
        try:
            import ray
        except ImportError as error:
            raise UnavailableError("--workers needs Ray: pip install 'pathprune[ray]'") from error
        reachable(self.address)
        # The board needs packages that Ray's core leaves out; a running cluster has its own.
        ray.init(
            self.address, log_to_driver=False, logging_level="error", include_dashboard=None if self.address else False
        )
        try:
            yield from self._finished(ray, iter(jobs))
        finally:
            ray.shutdown()

    def _finished(self, ray: Any, jobs: Iterator[Job]) -> Iterator[Finished]:
        remote_actor = ray.remote(num_cpus=1, num_gpus=self.gpus)(Actor)
        idle = [remote_actor.remote(self.opening) for _ in range(self.count)]
        again: list[tuple[Job, int]] = []
        running: dict[Any, tuple[Any, Job, int]] = {}
        while True:
            while idle and (task := again.pop() if again else next(((job, 1) for job in jobs), None)):
                actor = idle.pop()
                running[actor.run.remote(task[0])] = (actor, *task)
            if not running:
                return
            ready, _ = ray.wait(list(running))
            actor, job, attempt = running.pop(ready[0])
            try:
                yield ray.get(ready[0])
                idle.append(actor)
            except ray.exceptions.RayActorError as error:
                if attempt == ATTEMPTS:
                    raise UnavailableError(
                        f"{ATTEMPTS} workers in a row died on {job.problems[0].id} ({' '.join(str(error).split())[:200]}); what is "
                        "finished is stored: run the same command again with fewer workers or more memory"
                    ) from error
                idle.append(remote_actor.remote(self.opening))
                again.append((job, attempt + 1))
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from None
