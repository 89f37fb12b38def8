"""Interpreters, one per path: kept while a path continues from its last call, otherwise rebuilt from its calls.

The state of a path is defined as the effect of its calls, in order, on a new interpreter. It is therefore the same whether
an interpreter was kept, was evicted, or never existed in this process; a call that was killed has no effect on it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import warnings
import weakref
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from harness.api import PathpruneError
from harness.tools import bubble
from harness.tools.interpreter import UNDONE, EndedError, Interpreter, NotStartedError, Ran
from harness.tools.limits import Limits

PATHS = 64  # maximum paths with a live interpreter
SPARES = 2  # interpreters started in advance
MOST = PATHS + SPARES  # more paths in turn would evict each other's interpreters
ATTEMPTS = 3


@dataclass(frozen=True)
class Call:
    """A call of one path and the earlier calls that it builds on, each with its number, from 1."""

    path: Hashable
    number: int
    code: str
    earlier: tuple[tuple[int, str], ...] = ()


@dataclass(eq=False)
class _Session:
    interpreter: Interpreter
    made_by: list[tuple[int, str]] = field(default_factory=list)


class Sandbox:
    """Runs calls of paths, many at once.

    Args:
        limits: of each call and interpreter.
        packages: importable packages besides the standard library, if installed.
        most: maximum live interpreters, spares included.
        unsafe: run without a sandbox, with all rights of the user.
        workers: maximum concurrent calls; None for one per processor.

    Raises:
        PathpruneError: at the first call, if sandboxes cannot run on this system.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        packages: Sequence[str] = bubble.PACKAGES,
        most: int = MOST,
        unsafe: bool = False,
        workers: int | None = None,
    ) -> None:
        self.limits, self.packages, self.unsafe = limits or Limits(), tuple(packages), unsafe
        self.workers = max(1, workers or os.cpu_count() or 1)
        self.most = max(most, self.workers + 1)
        self.seconds, self.calls, self.again = (
            0.0,
            0,
            0,
        )  # seconds in calls, number of calls, number of calls that restored a state
        self._launch: bubble.Launch | None = None
        self._forget()
        _OPEN.add(self)

    def run(self, calls: Sequence[Call]) -> list[Ran]:
        """Run calls; returns their output in the same order."""
        if not calls:
            return []
        if self._process != os.getpid():  # in a forked process, the interpreters belong to the parent
            self._forget()
        self.open()
        if len(calls) == 1:
            return [self._timed(calls[0])]
        return list(self._workers.map(self._timed, calls))

    def open(self) -> None:
        """Determine, once, how to start an interpreter on this system.

        Raises:
            PathpruneError: if that is impossible; the message names the fix.
        """
        with self._lock:
            if self._launch is not None:
                return
            launch = bubble.unsafe(self.packages) if self.unsafe else bubble.sandboxed(self.limits, self.packages)
            interpreter = self._starter.submit(Interpreter, launch, self.limits).result()
            try:
                interpreter.ready()
            except EndedError as ended:
                if self.unsafe:
                    raise PathpruneError(f"tools=python cannot start Python here ({ended})") from ended
                raise PathpruneError(bubble.CLOSED.format(reason=ended)) from ended
            self._launch = launch
            self._spares.append(interpreter)

    def close(self) -> None:
        """End all interpreters. The sandbox can be used again."""
        if self._process != os.getpid():
            return
        with self._lock:
            ending = [s.interpreter for s in self._sessions.values()] + list(self._spares)
            self._sessions.clear()
            self._spares.clear()
        for interpreter in ending:
            interpreter.end()

    @property
    def alive(self) -> int:
        """Number of idle interpreters, spares included."""
        return len(self._sessions) + len(self._spares)

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._sessions: OrderedDict[Hashable, _Session] = OrderedDict()
        self._spares: deque[Interpreter] = deque()
        self._busy = 0
        self._workers = ThreadPoolExecutor(self.workers, "tools")
        # One long-lived thread starts them, because the kernel ends a sandbox with the thread that started it.
        self._starter = ThreadPoolExecutor(1, "tools-start")

    def _timed(self, call: Call) -> Ran:
        began = time.perf_counter()
        try:
            return self._run(call)
        finally:
            with self._lock:
                self.seconds += time.perf_counter() - began
                self.calls += 1

    def _run(self, call: Call) -> Ran:
        with self._lock:
            self._busy += 1
        try:
            for _ in range(ATTEMPTS):
                try:
                    return self._attempt(call)
                except EndedError as ended:  # killed while idle, or not startable, for example for lack of memory
                    last = ended
            if isinstance(last, NotStartedError):
                raise PathpruneError(f"tools=python: no interpreter starts any more ({last}); free some memory")
            return Ran(f"{last}\n{UNDONE}", True)  # the effects of earlier calls end it every time
        finally:
            with self._lock:
                self._busy -= 1
            self._make_room(0)

    def _attempt(self, call: Call) -> Ran:
        """Run the call in an interpreter with the state of the earlier calls, and keep the interpreter for the next one."""
        with self._lock:
            session = self._sessions.pop(call.path, None)
        if session is not None and (session.interpreter.gone or session.made_by != list(call.earlier)):
            session.interpreter.end()
            session = None
        session = session or self._rebuilt(call.earlier)
        try:
            ran = session.interpreter.run(call.code, call.number)
        except BaseException:
            session.interpreter.end()
            raise
        if ran.undone:
            session.interpreter.end()
            return ran
        session.made_by.append((call.number, call.code))
        with self._lock:
            other = self._sessions.pop(call.path, None)
            self._sessions[call.path] = session
        if other is not None:  # the same path, continued concurrently at another length
            other.interpreter.end()
        return ran

    def _rebuilt(self, calls: Sequence[tuple[int, str]]) -> _Session:
        session = _Session(self._fresh())
        for number, code in calls:
            with self._lock:
                self.again += 1
            try:
                undone = session.interpreter.run(code, number).undone
            except EndedError:
                session.interpreter.end()
                raise
            if undone:
                warnings.warn(
                    f"call {number} of a path outlasts its limits when it is run again, and did not before: its state is that without it",
                    stacklevel=2,
                )
                return self._rebuilt([c for c in calls if c[0] != number])
            session.made_by.append((number, code))
        return session

    def _fresh(self) -> Interpreter:
        """A new interpreter, or a spare, which is then replaced."""
        assert self._launch is not None
        with self._lock:
            interpreter = self._spares.popleft() if self._spares else None
        if interpreter is None:
            self._make_room(0)
            interpreter = self._starter.submit(Interpreter, self._launch, self.limits).result()
        with self._lock:
            wanted = len(self._spares) < SPARES and self._busy + self.alive < self.most
        if wanted:
            self._starter.submit(self._start_spare)
        return interpreter

    def _start_spare(self) -> None:
        assert self._launch is not None
        with self._lock:
            if len(self._spares) < SPARES and self._busy + self.alive < self.most:
                self._spares.append(Interpreter(self._launch, self.limits))

    def _make_room(self, coming: int) -> None:
        """End the interpreters that have been idle longest, until ``coming`` new ones fit."""
        with self._lock:
            ending = []
            while self._sessions and self._busy + self.alive + coming > self.most:
                ending.append(self._sessions.popitem(last=False)[1])
        for session in ending:
            session.interpreter.end()


_OPEN: weakref.WeakSet[Sandbox] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for sandbox in list(_OPEN):
        sandbox.close()
