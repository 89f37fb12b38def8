"""A server in a thread of the tests' own process, and requests to it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath
from threading import Event, Thread
from typing import Any

import requests

from harness.engines.toy import ToyEngine
from harness.serve.app import Service
from harness.serve.opening import Asked, open_service
from harness.serve.server import Server, bound, server_of

TOY: dict[str, Any] = {"engine": "toy", "pruners": "logprob", "n": 8, "keep": 3}


class Running:
    """A server that runs: its address, and what it is made of."""

    def __init__(self, service: Service, server: Server, url: str) -> None:
        self.service, self.server, self.url = service, server, url

    def post(self, body: Any, **more: Any) -> requests.Response:
        """A chat completion; ``body`` is sent as JSON."""
        return requests.post(f"{self.url}/v1/chat/completions", json=body, timeout=60, **more)

    def ask(self, prompt: str, model: str = "toy", **body: Any) -> dict[str, Any]:
        """The JSON of a completion that has to succeed."""
        response = self.post(chat(prompt, model, **body))
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


def chat(prompt: str, model: str = "toy", **body: Any) -> dict[str, Any]:
    """The body of a request with one message."""
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **body}


@contextmanager
def running(asked: Asked | None = None, **terms: Any) -> Iterator[Running]:
    """A server on the toy engine, or as asked."""
    with running_service(open_service(asked or Asked(**(TOY | terms)))) as server:
        yield server


@contextmanager
def running_service(service: Service) -> Iterator[Running]:
    """A server of a service, at any free port of this machine alone."""
    listening = bound("127.0.0.1", 0)
    server = server_of(service, drain=20)
    thread = Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield Running(service, server, f"http://127.0.0.1:{listening.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it never came to be"
        time.sleep(0.01)


class GatedEngine(ToyEngine):
    """A toy engine that generates nothing until its gate is open, and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.calls = Event(), list[list[str]]()

    def launch(self, problems: Any, n: int, max_tokens: int, seed: int) -> Any:
        self.calls.append([f"launch {p.id}" for p in problems])
        assert self.gate.wait(30)
        return [[self._continue(path, max_tokens) for path in self._started(p, n, seed)] for p in problems]

    def resume(self, paths: Any, max_tokens: int) -> Any:
        self.calls.append([f"resume {name}" for name in dict.fromkeys(p.problem.id for p in paths)])
        assert self.gate.wait(30)
        return [self._continue(p, max_tokens) for p in paths]

    @staticmethod
    def _started(problem: Any, n: int, seed: int) -> Any:
        from harness.api import Path

        return [Path(problem, i, seed) for i in range(n)]


@contextmanager
def gated(**terms: Any) -> Iterator[tuple[Running, GatedEngine]]:
    """A server whose engine stands still until it is let go; it is in the end."""
    service, engine = open_service(Asked(**(TOY | terms))), GatedEngine()
    service.worker.engine = engine  # type: ignore[attr-defined]
    with running_service(service) as server:
        try:
            yield server, engine
        finally:
            engine.gate.set()


@contextmanager
def started(*args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process, and its address; it has ended behind the block."""
    command = [FilePath(sys.executable).parent / "pathprune", "serve", "--port", "0", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://\S+/v1", line)
            assert found, line
            yield process, found[0]
        finally:
            process.kill()
