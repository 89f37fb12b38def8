"""The process that grades for another one: it forks graders, which lock themselves before they see a text.

The server sees the harness' requests on standard input and answers one line of JSON each. It evaluates nothing of a model:
that is left to a grader, which is killed when it takes too long and whose one byte is all that comes back.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from tasks.isolated.evaluation import evaluators, harden
from tasks.isolated.lock import lock

SECONDS = 5  # of a processor, for one answer
PATIENCE = 60  # seconds by the clock, for one answer
MEMORY = 1 << 30  # bytes beyond what the process has when it is forked
LOCKED = b"+"  # what a grader says first
_TICK = 0.2  # seconds between two looks at a grader's clock


class Request(NamedTuple):
    """One answer to grade: the data set as it is made, a problem of it, and the text."""

    dataset: str
    options: dict[str, Any]
    entry: dict[str, Any]
    answer: Any


@dataclass
class Grader:
    """A locked process that grades answers on one data set, and the pipes to it."""

    pid: int
    send: BinaryIO
    receive: int

    @classmethod
    def forked(cls, judge: Callable[[dict[str, Any], Any], bool]) -> Grader:
        """Fork a process that locks itself and then grades what it is sent.

        Raises:
            OSError: the kernel does not let it lock itself.
        """
        asked, ask = os.pipe()
        say, said = os.pipe()[::-1]
        pid = os.fork()
        if not pid:
            _grade(asked, say, judge)
        os.close(asked)
        os.close(say)
        grader = cls(pid, os.fdopen(ask, "wb", buffering=0), said)
        if os.read(said, 1) != LOCKED:
            grader.end()
            raise OSError("a process cannot give up its rights here")
        return grader

    def judge(self, entry: dict[str, Any], answer: Any) -> bytes:
        """The byte that comes back; none where the process died, or was killed since it took too long."""
        try:
            self.send.write(pickle.dumps((entry, answer)))
        except BrokenPipeError:
            return b""
        spent, began = _processor_seconds(self.pid), time.monotonic()
        while not select.select([self.receive], [], [], _TICK)[0]:
            if _processor_seconds(self.pid) - spent > SECONDS or time.monotonic() - began > PATIENCE:
                return b""
        return os.read(self.receive, 1)

    def end(self) -> None:
        """Kill the process."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.send.close()
        os.close(self.receive)


def _grade(asked: int, say: int, judge: Callable[[dict[str, Any], Any], bool]) -> None:
    """A grader's whole life, in the forked process."""
    try:
        void = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(void, number)
        kept = sorted((asked, say))
        for first, last in zip((2, *kept), (*kept, 4096), strict=True):
            os.closerange(first + 1, last)
        lock(MEMORY)
        os.write(say, LOCKED)
        with os.fdopen(asked, "rb") as requests:
            while True:
                os.write(say, b"1" if judge(*pickle.load(requests)) else b"0")
    finally:
        os._exit(1)


def _processor_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    with open(f"/proc/{pid}/stat", "rb") as stream:  # noqa: PTH123
        fields = stream.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Scorer:
    """The package's scorer of one data set, asked in a grader.

    A scorer that evaluates answers has a new grader for each one: whatever an answer did to its process ends with it.
    """

    def __init__(self, request: Request) -> None:
        import reasoning_gym

        self.dataset = reasoning_gym.create_dataset(request.dataset, **request.options)
        self.evaluates = bool(evaluators_of(type(self.dataset)))
        if self.evaluates:
            harden(self.dataset)
        self.grader: Grader | None = None
        gold = request.entry["answer"]
        self.sound = self.right(request.entry, gold) == self._judge(request.entry, gold)

    def right(self, entry: dict[str, Any], answer: Any) -> bool:
        """Whether the scorer gives full marks; an answer that ends or outlasts its grader has none."""
        self.grader = self.grader or Grader.forked(self._judge)
        byte = self.grader.judge(entry, answer)
        if self.evaluates or not byte:
            self.grader.end()
            self.grader = None
        return byte == b"1"

    def _judge(self, entry: dict[str, Any], answer: Any) -> bool:
        try:
            return bool(self.dataset.score_answer(answer, entry) >= 1)
        except Exception:  # scorers of the package raise on texts that they do not expect: such a text is no answer
            return False


def evaluators_of(dataset: type) -> set[str]:
    """With what a data set's scorer runs an answer as Python: empty for most."""
    return evaluators(dataset.score_answer, lambda file: f"{os.sep}reasoning_gym{os.sep}" in file, dataset)  # type: ignore[attr-defined]


def serve() -> None:
    """Answer requests until there are no more."""
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a package prints is no reply
    scorers: dict[str, Scorer] = {}
    while True:
        try:
            request = Request(*pickle.load(requests))
        except EOFError:
            return
        try:
            reply: dict[str, Any] = {"right": _right(request, scorers)}
        except Exception as error:  # to be told where there is somebody to tell
            reply = {"error": f"{type(error).__name__}: {error}"}
        try:
            replies.write(json.dumps(reply) + "\n")
            replies.flush()
        except BrokenPipeError:  # the harness was killed
            os._exit(0)


def _right(request: Request, scorers: dict[str, Scorer]) -> bool:
    """Grade one answer, by a scorer that is kept for the next.

    Raises:
        RuntimeError: a scorer that does not work without rights.
    """
    key = json.dumps([request.dataset, request.options], sort_keys=True)
    if key not in scorers:
        scorers[key] = Scorer(request)
    if not scorers[key].sound:
        raise RuntimeError("its own answer is graded otherwise there")
    return scorers[key].right(request.entry, request.answer)
