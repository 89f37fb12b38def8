"""Parse answers in a separate process, because the time limit on simplifying formulas needs a main thread.

A text that crashes the process or takes too long has no answer; the next text gets a new process.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any

from harness.api import PathpruneError

logger = logging.getLogger("pathprune.serve")
PATIENCE = 60.0  # seconds for one text; the parser's own limit is shorter but cannot interrupt compiled code
HERE = ("tasks.embedded", "tasks.toy")  # tasks with plain answers, parsed in this process


def reader_of(task: Any, spec: str | None) -> Callable[[str], str | None]:
    """A parser of answers that can be called from any thread.

    Args:
        task: the opened task; None for common answer formats.
        spec: the task's spec, with which another process opens it.
    """
    if task is not None and type(task).__module__.startswith(HERE):
        read: Callable[[str], str | None] = task.answer
        return read
    return ReaderProcess(spec)


class ReaderProcess:
    """Parses texts one at a time; may be called from any thread.

    Args:
        spec: of the task; None for common answer formats.
    """

    def __init__(self, spec: str | None) -> None:
        self._spec, self._lock = spec, Lock()
        self._pipe, self._process = self._start()

    def __call__(self, text: str) -> str | None:
        """The answer in a text, or None.

        Raises:
            PathpruneError: an error of the task that the user can fix.
        """
        with self._lock:
            try:
                self._pipe.send(text)
                if not self._pipe.poll(PATIENCE):
                    raise EOFError
                kind, value = self._pipe.recv()
            except (EOFError, OSError):
                logger.warning("a text of %d characters ended the answer parser, so it has no answer", len(text))
                self.close()
                self._pipe, self._process = self._start()
                return None
        if kind == "error":
            raise PathpruneError(value)
        answer: str | None = value
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _start(self) -> tuple[Connection, Any]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._spec), daemon=True)
        process.start()
        theirs.close()
        return ours, process


def _serve(pipe: Connection, spec: str | None) -> None:
    """Parse texts until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's
    from harness import grading, registry
    from harness.serve.prompt import Reading

    task = Reading(None, "") if spec is None else registry.task(spec)
    while True:
        try:
            text = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send(("answer", grading.read(task, text)))
        except PathpruneError as error:
            pipe.send(("error", str(error)))
