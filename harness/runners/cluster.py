"""A bench on several GPUs or machines: Ray actors, each with an engine of its own, that take jobs from one queue.

Only this process writes records and the bank, so the store is that of a single-process run. A worker that dies has its
job taken by another.
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
END = object()  # behind the last job


@dataclass(frozen=True)
class Opening:
    """What a worker opens for itself: everything by name."""

    where: Where
    pruners: tuple[str, ...]
    spec: RunSpec
    time_limit: float | None = None

    def open(self) -> Worker:
        """The worker, its pruners' checkpoints loaded."""
        plugins = [registry.pruner(spec) for spec in self.pruners]
        for plugin in plugins:
            checkpoints.attach(plugin, self.where.engine)
        return Worker(self.where.task, self.where.engine, plugins, self.spec, self.time_limit)


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
    if not COUNT.fullmatch(count) or (comma and not address) or (address and not ADDRESS.fullmatch(address)):
        raise PathpruneError(
            f"workers {shown(workers)}: give a number, or a cluster's address and a number (ray://host:10001,4)"
        )
    return address or None, int(count)


def reachable(address: str | None) -> None:
    """Ray itself waits for two minutes and then ends the process."""
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
    """How many GPUs an engine of this spec takes where there are some: as many as it splits a model over, none on a CPU."""
    options = registry.options_of(engine)[1]
    if str(options.get("device", "")).startswith("cpu"):
        return 0
    split = options.get("tensor_parallel", 1)
    return split if isinstance(split, int) and split > 0 else 1


def gpus_of_each(count: int, devices: int, total: int, address: str | None) -> int:
    """GPUs of each of ``count`` workers, of the ``total`` that the cluster has; none where it has none.

    Raises:
        PathpruneError: this machine has fewer than the workers need, which would wait for them for ever.
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
    """Who may reach what Ray starts: this machine alone, unless a cluster is named. Ray's processes ask for no password."""
    before = ray._private.ray_constants.ENABLE_RAY_CLUSTER
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = every
    try:
        yield
    finally:
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = before


class Actors:
    """The actors of a cluster, and the jobs that they have."""

    def __init__(self, ray: Any, cluster: Cluster, gpus: int) -> None:
        self.ray, self.opening = ray, cluster.opening
        self.remote = ray.remote(num_cpus=1, num_gpus=gpus)(Actor)
        self.idle = [self.remote.remote(self.opening) for _ in range(cluster.count)]
        self.again: list[tuple[Job, int]] = []  # jobs whose worker died, and the attempt that is next
        self.running: dict[Any, tuple[Any, Job, int]] = {}
        self.over = False  # no job is left, neither here nor with other processes

    def finished(self, jobs: Jobs) -> Iterator[Finished]:
        """What the actors finish, in the order in which they do."""
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
        """Jobs to idle actors, as long as there are both."""
        while self.idle and (self.again or not self.over):
            job, attempt = self.again.pop() if self.again else (next(jobs, END), 1)
            if not isinstance(job, Job):
                self.over = job is END
                return
            actor = self.idle.pop()
            self.running[actor.run.remote(job)] = (actor, job, attempt)

    def _taken(self, ready: Any) -> Iterator[Finished]:
        """What one actor has finished; nothing where it died, whose job is then done again."""
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
        """Does any node answer? Ray itself waits for ever for results of a node that is gone."""
        return any(node["Alive"] for node in self.ray.nodes())
