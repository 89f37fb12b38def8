"""The grading server: it forks graders, which drop their privileges before they read a text.

The server reads requests of the harness from standard input, and answers each with one line of JSON. It never evaluates
model output itself. A grader does so, can return only one byte, and is killed if it takes too long.
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

SECONDS = 5  # CPU time for one answer
PATIENCE = 60  # wall-clock seconds for one answer
MEMORY = 1 << 30  # bytes in addition to those at the fork
LOCKED = b"+"  # a grader's first byte
_TICK = 0.2  # seconds between checks of a grader's CPU time


class Request(NamedTuple):
    """One answer to grade: the data set with its options, the problem, and the text."""

    dataset: str
    options: dict[str, Any]
    entry: dict[str, Any]
    answer: Any


@dataclass
class Grader:
    """A locked process that grades answers on one data set, with its pipes."""

    pid: int
    send: BinaryIO
    receive: int

    @classmethod
    def forked(cls, judge: Callable[[dict[str, Any], Any], bool]) -> Grader:
        """Fork a process that drops its privileges and then grades what it receives.

        Raises:
            OSError: if the kernel does not allow it to drop them.
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
        """The byte that the grader returns; empty if it died or was killed for taking too long."""
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
    """The life of a grader, in the forked process."""
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
    """CPU time of a process so far, user and system."""
    with open(f"/proc/{pid}/stat", "rb") as stream:  # noqa: PTH123
        fields = stream.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Scorer:
    """The package's scorer of one data set, run in a grader.

    A scorer that evaluates answers gets a new grader for each, which isolates answers from each other.
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
        """Whether the scorer gives full marks; an answer that ends its grader or exceeds the limits is wrong."""
        self.grader = self.grader or Grader.forked(self._judge)
        byte = self.grader.judge(entry, answer)
        if self.evaluates or not byte:
            self.grader.end()
            self.grader = None
        return byte == b"1"

    def _judge(self, entry: dict[str, Any], answer: Any) -> bool:
        try:
            return bool(self.dataset.score_answer(answer, entry) >= 1)
        except Exception:  # scorers of the package raise on unexpected texts, which are not answers
            return False


def evaluators_of(dataset: type) -> set[str]:
    """The evaluators with which a data set's scorer runs an answer as Python; empty for most."""
    return evaluators(dataset.score_answer, lambda file: f"{os.sep}reasoning_gym{os.sep}" in file, dataset)  # type: ignore[attr-defined]


def serve() -> None:
    """Answer requests until there are no more."""
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps a package's prints out of the replies
    scorers: dict[str, Scorer] = {}
    while True:
        try:
            request = Request(*pickle.load(requests))
        except EOFError:
            return
        try:
            reply: dict[str, Any] = {"right": _right(request, scorers)}
        except Exception as error:  # reported to the harness as a reply
            reply = {"error": f"{type(error).__name__}: {error}"}
        try:
            replies.write(json.dumps(reply) + "\n")
            replies.flush()
        except BrokenPipeError:  # the harness was killed
            os._exit(0)


def _right(request: Request, scorers: dict[str, Scorer]) -> bool:
    """Grade one answer. The scorer is kept for further answers.

    Raises:
        RuntimeError: if the scorer does not work without privileges.
    """
    key = json.dumps([request.dataset, request.options], sort_keys=True)
    if key not in scorers:
        scorers[key] = Scorer(request)
    if not scorers[key].sound:
        raise RuntimeError("its own answer is graded otherwise there")
    return scorers[key].right(request.entry, request.answer)
