"""Answers read in a process of their own: formulas are simplified under a time limit, which a main thread has to keep.

A text that ends the process or outlasts it answers nothing; the next one finds a new process.
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
PATIENCE = 60.0  # seconds for one text; the reader's own limit is shorter, but for compiled code
HERE = ("tasks.embedded", "tasks.toy")  # tasks whose answers are words, read wherever one is


def reader_of(task: Any, spec: str | None) -> Callable[[str], str | None]:
    """What reads answers from any thread.

    Args:
        task: opened; None for the usual ways to state an answer.
        spec: the task's, by which another process opens it.
    """
    if task is not None and type(task).__module__.startswith(HERE):
        read: Callable[[str], str | None] = task.answer
        return read
    return ReaderProcess(spec)


class ReaderProcess:
    """Reads texts one at a time; may be called from any thread.

    Args:
        spec: of the task that reads; None for the usual ways to state an answer.
    """

    def __init__(self, spec: str | None) -> None:
        self._spec, self._lock = spec, Lock()
        self._pipe, self._process = self._start()

    def __call__(self, text: str) -> str | None:
        """The answer that a text gives, or None.

        Raises:
            PathpruneError: the task's own, for what a person can mend.
        """
        with self._lock:
            try:
                self._pipe.send(text)
                if not self._pipe.poll(PATIENCE):
                    raise EOFError
                kind, value = self._pipe.recv()
            except (EOFError, OSError):
                logger.warning("a text of %d characters ended the reader of answers, so it has none", len(text))
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
    """Read texts until nobody sends any."""
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
