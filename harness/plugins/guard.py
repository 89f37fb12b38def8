"""Runs third-party code and contains its mistakes.

Any exception, ``sys.exit`` included, becomes a ``PluginError`` with its location. Changes to process state are undone, and a time
limit can be set. This is not a sandbox: a plug-in runs with the user's rights.
"""

from __future__ import annotations

import inspect
import locale
import os
import random
import signal
import sys
import sysconfig
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np

from harness.api import PathpruneError, UnavailableError
from harness.text import reason

Result = TypeVar("Result")
Setting = tuple[Callable[[], Any], Callable[[Any], Any]]  # (getter, setter)
TRACEBACK = "PATHPRUNE_TRACEBACK"  # environment variable that prints the full traceback of every failure
RETRY = 0.2  # seconds until a time limit that could not be enforced is tried again
OURS = ("harness", "pruners", "tasks")
STREAMS = ("stdout", "stderr", "__stdout__", "__stderr__")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOT_OWN = tuple(  # folders of code that belongs to no plug-in
    os.path.join(folder, "")  # noqa: PTH118  (a trailing separator)
    for folder in (str(Path(__file__).parents[1]), *(sysconfig.get_path(n) for n in ("stdlib", "purelib", "platlib")))
)
TORCH_DEFAULTS = (True, False, "highest", "float32")  # of the first of ``_torch_settings``


class PluginError(Exception):
    """A plug-in failed; the message gives reason and location in one line, and ``__cause__`` the original exception."""


class TimeUpError(BaseException):
    """Raised inside code that exceeds its time limit; a BaseException, which its ``except Exception`` does not catch."""


def contained(work: Callable[[], Result], limit: float | None = None) -> Result:
    """Run ``work``, code of a plug-in, restore the state of the process, and return the result.

    Args:
        work: the call.
        limit: time limit in seconds. Calls into compiled code, and work of the harness on behalf of the plug-in, are not
            interrupted before they return.

    Raises:
        PluginError: any exception of the code, except the user's Ctrl-C.
        KeyboardInterrupt: the user's Ctrl-C, even if the code caught it.
    """
    interrupted: list[int] = []
    raised: list[BaseException] = []

    def watched() -> Result:
        with one_process():
            try:
                return work()
            except BaseException as error:
                raised.append(error)
                raise

    try:
        with _process_kept(interrupted), _timed(limit):
            result = copy_context().run(watched)
    except BaseException as error:  # exiting or interrupting counts as a failure
        # An interruption outside the work is the user's.
        if interrupted or (isinstance(error, KeyboardInterrupt) and error not in raised):
            raise KeyboardInterrupt from error
        _show(error)
        raise PluginError(_told(error, limit)) from error
    if interrupted:
        raise KeyboardInterrupt
    return result


@contextmanager
def one_process() -> Iterator[None]:
    """End any process forked within the block when it leaves the block, so that only one process continues."""
    owner, code = os.getpid(), 1
    _within.append(owner)
    try:
        yield
        code = 0
    finally:
        _within.pop()
        if os.getpid() != owner:
            os._exit(code)


_beside_others: ContextVar[bool] = ContextVar("_beside_others", default=False)


@contextmanager
def beside_others() -> Iterator[None]:
    """Do not restore process state after plug-ins within this block, because other threads run at the same time."""
    token = _beside_others.set(True)
    try:
        yield
    finally:
        _beside_others.reset(token)


@contextmanager
def _process_kept(interrupted: list[int]) -> Iterator[None]:
    if _beside_others.get():
        yield
        return
    with _signals_kept(interrupted), _state_kept(), _streams_kept():
        yield


_within: list[int] = []  # one entry per running block


def _compute_alone() -> None:
    """Limit a forked process to one compute thread: a fork copies no worker threads, and waiting for them would hang."""
    torch: Any = sys.modules.get("torch")
    if _within and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_alone)


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Turn any exception of a plug-in into one line that names ``what`` failed.

    Raises:
        PathpruneError: instead of any other exception, ``sys.exit`` included; Ctrl-C passes through.
    """
    try:
        with one_process():
            yield
    except (PathpruneError, KeyboardInterrupt, TimeUpError):
        raise
    except PluginError as error:
        if isinstance(error.__cause__, PathpruneError):
            raise error.__cause__ from None
        raise PathpruneError(f"{what} raised {error}") from error.__cause__
    except BaseException as error:
        _show(error)
        raise PathpruneError(f"{what} raised {_told(error)}") from error


def attribute(thing: Any, name: str, default: Any) -> Any:
    """``getattr`` that does not mistake an AttributeError inside a property for a missing member."""
    try:
        return getattr(thing, name)
    except AttributeError:
        if inspect.getattr_static(thing, name, None) is not None:
            raise
        return default


def is_ours(thing: Any) -> bool:
    """Is a class, a function or an object's class part of this package? Its unexpected exceptions are bugs of ours."""
    owner = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    return str(getattr(owner, "__module__", "")).partition(".")[0] in OURS


def require_timer() -> None:
    """Refuse a time limit that cannot be enforced.

    Raises:
        UnavailableError: outside the main thread, or on a system without interval timers.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        raise UnavailableError("a time limit needs a POSIX system and the main thread; leave it out")


def _told(error: BaseException, limit: float | None = None) -> str:
    if isinstance(error, PathpruneError):
        return reason(error)
    text = f"took longer than {limit:g} s" if isinstance(error, TimeUpError) else reason(error)
    line = _line_of(error)
    return f"{text} ({line})" if line else text


def _show(error: BaseException) -> None:
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)


def _line_of(error: BaseException) -> str:
    """The innermost line of plug-in code in a traceback, as ``mine.py:12``; "" if there is none."""
    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(file, line) for file, line in lines if not file.startswith(("<", *NOT_OWN))]
    return f"{Path(own[-1][0]).name}:{own[-1][1]}" if own else ""


class _Open:
    """A stream that a plug-in may write to but not close."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        self._stream.flush()


@contextmanager
def _streams_kept() -> Iterator[None]:
    before = {name: getattr(sys, name) for name in STREAMS}
    for name, stream in before.items():
        setattr(sys, name, None if stream is None else _Open(stream))
    try:
        yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)


@contextmanager
def _state_kept() -> Iterator[None]:
    """Restore the state that results of other methods may depend on; see ``_settings``."""
    before = [(read(), write) for read, write in _settings()]
    had_torch = "torch" in sys.modules
    try:
        yield
    finally:
        for value, write in before:
            write(value)
        if not had_torch and "torch" in sys.modules:
            for (_, write), value in zip(_torch_settings(sys.modules["torch"]), TORCH_DEFAULTS, strict=False):
                write(value)


def _settings() -> list[Setting]:
    settings: list[Setting] = [
        (_folder, _go_to),
        (lambda: dict(os.environ), _put_back),
        (lambda: warnings.filters[:], _filter_again),
        (random.getstate, random.setstate),
        (np.random.get_state, _numpy_again),
        (sys.getrecursionlimit, sys.setrecursionlimit),
        (lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    ]
    torch = sys.modules.get("torch")
    return settings + (_torch_settings(torch) if hasattr(torch, "get_rng_state") else [])


def _torch_settings(torch: Any) -> list[Setting]:
    """Getters and setters of torch's settings. Only changed ones are set back, as some setters are slow or have side effects."""
    settings: list[Setting] = [
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (
            lambda: str(torch.get_default_dtype()).removeprefix("torch."),
            lambda name: torch.set_default_dtype(getattr(torch, name)),
        ),
        (torch.get_num_threads, torch.set_num_threads),
        (
            lambda: str(torch.get_default_device()),
            lambda name: torch.set_default_device(None if name == "cpu" else name),
        ),
    ]
    return [*map(_if_changed, settings), (torch.get_rng_state, torch.set_rng_state)]


def _if_changed(setting: Setting) -> Setting:
    read, write = setting
    return read, lambda value: None if read() == value else write(value)


def _folder() -> str | None:
    with suppress(OSError):
        return str(Path.cwd())
    return None


def _go_to(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _put_back(variables: dict[str, str]) -> None:
    """Restore environment variables; new ones stay, since libraries set theirs on first import."""
    for name, value in variables.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _numpy_again(state: Any) -> None:
    now: Any = np.random.get_state()
    if not all(np.array_equal(a, b) for a, b in zip(now, state, strict=True)):
        np.random.set_state(state)  # slow


def _filter_again(filters: list[Any]) -> None:
    if list(warnings.filters) != filters:
        warnings.filters[:] = filters  # type: ignore[index]


@contextmanager
def _signals_kept(interrupted: list[int]) -> Iterator[None]:
    """Distinguish the user's Ctrl-C, noted in ``interrupted``, from a KeyboardInterrupt raised by the code."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    usual = before[signal.SIGINT]

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.append(number)
        usual(number, frame)  # type: ignore[misc, operator]

    if callable(usual):
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: it was not set from Python
                signal.signal(number, handler)


@contextmanager
def _timed(limit: float | None) -> Iterator[None]:
    if limit is None:
        yield
        return
    require_timer()
    ends = time.monotonic() + limit

    def ring(number: int, frame: FrameType | None) -> None:
        if time.monotonic() >= ends and not _is_within_ours(frame):
            raise TimeUpError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit, RETRY)
    try:
        yield
        if time.monotonic() >= ends:  # it could not be interrupted, or caught the interruption
            raise TimeUpError
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _is_within_ours(frame: FrameType | None) -> bool:
    """Is the harness computing on behalf of the plug-in? Interrupting an engine could corrupt states of other methods."""
    packages: list[str] = []
    while frame is not None and frame.f_code is not contained.__code__:
        packages.append(str(frame.f_globals.get("__name__", "")).partition(".")[0])
        frame = frame.f_back
    while packages and packages[-1] == "harness":  # the caller of the plug-in
        packages.pop()
    return "harness" in packages or "tasks" in packages
