"""The client of the grading server. Each harness process starts one server at its first answer, and restarts it if it
dies."""

from __future__ import annotations

import atexit
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from harness.api import PathpruneError
from tasks.isolated.server import Request

LONGEST = 100_000  # characters; a longer text is not an answer
_ROOT = str(Path(__file__).resolve().parents[2])
# Our packages take precedence over packages of the same name in the working folder.
_START = """import sys
sys.path[:] = [{root!r}, *{path!r}]
import harness, tasks
del sys.path[0]
from tasks.isolated.server import serve
serve()"""
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")  # environment variables passed on


class Server:
    """The grading process and the process id of its owner; a forked harness starts its own server."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START.format(root=_ROOT, path=[os.path.abspath(p) for p in sys.path])],  # noqa: PTH100
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the harness, which then ends this process
        )

    def ask(self, request: Request) -> dict[str, Any]:
        """Send a request; return the reply, or {} if the server is gone."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(pickle.dumps(tuple(request)))
            self.process.stdin.flush()
        except BrokenPipeError:
            return {}
        reply: dict[str, Any] = json.loads(self.process.stdout.readline() or "{}")
        return reply

    def end(self) -> None:
        """Kill the process. Its graders end when their pipes close."""
        if self.owner == os.getpid():
            self.process.kill()
            self.process.communicate()


_server: Server | None = None
_one_at_a_time = threading.Lock()


def right(request: Request) -> bool:
    """Whether the package's scorer gives an answer full marks, in an unprivileged process.

    Raises:
        PathpruneError: this machine cannot run such a process.
    """
    if isinstance(request.answer, str) and len(request.answer) > LONGEST:
        return False
    with _one_at_a_time:
        reply = _asked(request) or _asked(request) or {"error": "the process ends"}
    if "error" in reply:
        raise PathpruneError(
            f"reasoning_gym:{request.dataset} cannot be graded in a process of its own on this machine ({reply['error']}); "
            "choose another task"
        )
    return bool(reply["right"])


def _asked(request: Request) -> dict[str, Any]:
    global _server
    if _server is None or _server.owner != os.getpid():
        _server = Server()
        atexit.register(_server.end)
    try:
        reply = _server.ask(request)
    except BaseException:  # an interrupted exchange leaves half a reply
        _forget()
        raise
    if not reply:
        _forget()
    return reply


def _forget() -> None:
    global _server
    if _server is not None:
        atexit.unregister(_server.end)
        _server.end()
    _server = None
