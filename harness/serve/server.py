"""Run a service: its port, its signals, and a graceful shutdown."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

import uvicorn

from harness.api import PathpruneError
from harness.serve.app import Service, app_of
from harness.signals import INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BACKLOG = 2048


class Server(uvicorn.Server):
    """Uvicorn's server. The first signal drains requests; a second Ctrl-C exits immediately."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start up as uvicorn does, then call ``ready``."""
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first signal; on a later Ctrl-C end the process, because threads may be waiting for upstreams."""
        if self.should_exit and sig == signal.SIGINT:
            os._exit(INTERRUPTED)
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install uvicorn's signal handlers while it runs; does nothing outside the main thread."""
        if current_thread() is not main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def server_of(service: Service, drain: float, ready: Callable[[], None] = lambda: None) -> Server:
    """The server of a service.

    Args:
        service: the service to run.
        drain: seconds that running requests have to finish after the first signal.
        ready: called once connections are accepted.
    """
    config = uvicorn.Config(
        app_of(service),
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(drain)),
        limit_concurrency=4 * (service.gate.most + service.gate.longest) + 64,
        backlog=BACKLOG,
        server_header=False,
    )
    return Server(config, ready)


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to an address; port 0 is any free port.

    Raises:
        PathpruneError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise PathpruneError(
            f"cannot listen on {host} port {port} ({error.strerror or error}); give another: --host, --port"
        ) from error
    return listening


def run(service: Service, listening: socket.socket, drain: float, ready: Callable[[], None]) -> int:
    """Serve until a signal; returns the exit code. For the arguments see ``server_of``."""
    _log_to_stderr()
    server_of(service, drain, ready).run([listening])
    return 0


def _log_to_stderr() -> None:
    """Log our messages and uvicorn's warnings to stderr; none contains a header, body or query of a request."""
    handler: Any = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("pathprune.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
