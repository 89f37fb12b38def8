"""A bench on several GPUs or machines: Ray actors, each with an engine of its own, that take jobs from one queue.

Only this process writes records and the bank, as in a single-process run. The job of a worker that dies goes to another
worker.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness import registry
from harness.api import PathpruneError, UnavailableError
from harness.learn import checkpoints
from harness.runners.work import PATIENCE, Finished, Job, Jobs, Worker
from harness.spec import RunSpec
from harness.text import shown
from harness.where import Where

COUNT = re.compile(r"[1-9][0-9]{0,3}")
ADDRESS = re.compile(r"auto|(ray://)?([^\s/:,@]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}")
ATTEMPTS = 3  # how often a job may lose its worker
END = object()  # marks the end of the jobs


@dataclass(frozen=True)
class Opening:
    """Everything that a worker opens, by name."""

    where: Where
    pruners: tuple[str, ...]
    spec: RunSpec
    time_limit: float | None = None

    def open(self) -> Worker:
        """Open the worker and load its pruners' checkpoints."""
        plugins = [registry.pruner(spec) for spec in self.pruners]
        for plugin in plugins:
            checkpoints.attach(plugin, self.where.engine)
        return Worker(self.where.task, self.where.engine, plugins, self.spec, self.time_limit)


class Actor:
    """Wraps a worker in a Ray process."""

    def __init__(self, opening: Opening) -> None:
        self.worker = opening.open()

    def run(self, job: Job) -> Finished:
        """The worker's own ``run``."""
        return self.worker.run(job)


def parse(workers: str) -> tuple[str | None, int]:
    """Parse workers: ``4`` (local processes), ``ray://host:10001,4``, or ``auto,4`` (a running cluster).

    Returns:
        (address or None for this machine, number of workers).

    Raises:
        PathpruneError: anything else.
    """
    address, comma, count = workers.rpartition(",")
    if not comma and (":" in workers or workers == "auto"):
        address, count = workers, "1"
    if not COUNT.fullmatch(count) or (comma and not address) or (address and not ADDRESS.fullmatch(address)):
        raise PathpruneError(
            f"workers {shown(workers)}: give a number, or a cluster's address and a number (ray://host:10001,4)"
        )
    return address or None, int(count)


def reachable(address: str | None) -> None:
    """Check that a cluster can be reached; Ray itself would wait for two minutes and then end the process.

    Raises:
        UnavailableError: there is no cluster at the address.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon:
        return  # this machine, or "auto"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UnavailableError(f"no Ray cluster at {address} ({error}); start one with: ray start --head") from error


@dataclass
class Cluster:
    """A crew (``harness.runners.work.Crew``) of ``count`` actors, each with ``devices`` GPUs where the cluster has any."""

    opening: Opening
    address: str | None
    count: int
    devices: int

    def __call__(self, worker: Worker, jobs: Jobs) -> Iterator[Finished]:
        """``worker`` stays unused: the actors open their own."""
        try:
            import ray
        except ImportError as error:
            raise UnavailableError("workers need Ray: pip install 'pathprune[ray]'") from error
        reachable(self.address)
        # The board needs packages that Ray's core leaves out; a running cluster has its own.
        board = None if self.address else False
        with _interfaces(ray, every=bool(self.address)):
            ray.init(self.address, log_to_driver=False, logging_level="error", include_dashboard=board)
        try:
            gpus = gpus_of_each(self.count, self.devices, int(ray.cluster_resources().get("GPU", 0)), self.address)
            yield from Actors(ray, self, gpus).finished(jobs)
        finally:
            ray.shutdown()


def devices_of(engine: str) -> int:
    """Number of GPUs that an engine of this spec uses: as many as it splits a model over; 0 on a CPU."""
    options = registry.options_of(engine)[1]
    if str(options.get("device", "")).startswith("cpu"):
        return 0
    split = options.get("tensor_parallel", 1)
    return split if isinstance(split, int) and split > 0 else 1


def gpus_of_each(count: int, devices: int, total: int, address: str | None) -> int:
    """GPUs for each of ``count`` workers, given the cluster's ``total``; 0 if it has none.

    Raises:
        PathpruneError: this machine has too few, so workers would wait for ever.
    """
    if not total:
        return 0
    if address is None and count * devices > total:
        raise PathpruneError(
            f"{count} workers of {devices} GPUs each need more than the {total} of this machine; give {max(1, total // devices)} workers"
        )
    return devices


@contextmanager
def _interfaces(ray: Any, every: bool) -> Iterator[None]:
    """Restrict Ray to the local interface unless a cluster is given, because Ray has no authentication."""
    before = ray._private.ray_constants.ENABLE_RAY_CLUSTER
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = every
    try:
        yield
    finally:
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = before


class Actors:
    """The actors of a cluster and their jobs."""

    def __init__(self, ray: Any, cluster: Cluster, gpus: int) -> None:
        self.ray, self.opening = ray, cluster.opening
        self.remote = ray.remote(num_cpus=1, num_gpus=gpus)(Actor)
        self.idle = [self.remote.remote(self.opening) for _ in range(cluster.count)]
        self.again: list[tuple[Job, int]] = []  # jobs whose worker died, and the attempt that is next
        self.running: dict[Any, tuple[Any, Job, int]] = {}
        self.over = False  # no job is left, neither here nor with other processes

    def finished(self, jobs: Jobs) -> Iterator[Finished]:
        """The actors' results, in order of completion."""
        while not self.over or self.again or self.running:
            self._hand_out(jobs)
            if not self.running:
                time.sleep(0 if self.over else PATIENCE)
                continue
            ready, _ = self.ray.wait(list(self.running), timeout=PATIENCE)
            if ready:
                yield from self._taken(ready[0])
            elif not self._lives():
                raise UnavailableError(
                    "Ray's node on this machine has died; what is finished is stored: run the same command again"
                )

    def _hand_out(self, jobs: Jobs) -> None:
        """Assign jobs to idle actors."""
        while self.idle and (self.again or not self.over):
            job, attempt = self.again.pop() if self.again else (next(jobs, END), 1)
            if not isinstance(job, Job):
                self.over = job is END
                return
            actor = self.idle.pop()
            self.running[actor.run.remote(job)] = (actor, job, attempt)

    def _taken(self, ready: Any) -> Iterator[Finished]:
        """The result of one actor; nothing if it died, in which case its job is queued again."""
        actor, job, attempt = self.running.pop(ready)
        try:
            yield self.ray.get(ready)
            self.idle.append(actor)
        except self.ray.exceptions.RayActorError as error:
            if attempt == ATTEMPTS:
                raise UnavailableError(
                    f"{ATTEMPTS} workers in a row died on {job.problems[0].id} ({' '.join(str(error).split())[:200]}); what is "
                    "finished is stored: run the same command again with fewer workers or more memory"
                ) from error
            self.idle.append(self.remote.remote(self.opening))
            self.again.append((job, attempt + 1))
        except self.ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None

    def _lives(self) -> bool:
        """Whether any node responds; Ray itself would wait for ever for the results of a dead node."""
        return any(node["Alive"] for node in self.ray.nodes())
