"""Code of others, run so that its mistakes stay its own.

What it raises is a ``PluginError`` that says where, ``sys.exit`` included; what it changes of the process is put back; and it may be
given a time limit. None of this is a wall: a plug-in runs with the rights of whoever started it.
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
Setting = tuple[Callable[[], Any], Callable[[Any], Any]]  # how to read it, how to set it
TRACEBACK = "PATHPRUNE_TRACEBACK"  # set in the environment, it shows the whole traceback of every failure
RETRY = 0.2  # seconds after which a time limit that came at a bad moment is tried again
OURS = ("harness", "pruners", "tasks")
STREAMS = ("stdout", "stderr", "__stdout__", "__stderr__")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOT_OWN = tuple(  # where code lies that is no plug-in's own
    os.path.join(folder, "")  # noqa: PTH118  (a trailing separator)
    for folder in (str(Path(__file__).parents[1]), *(sysconfig.get_path(n) for n in ("stdlib", "purelib", "platlib")))
)
TORCH_DEFAULTS = (True, False, "highest", "float32")  # of the first of ``_torch_settings``


class PluginError(Exception):
    """Code of a plug-in failed; the text says how and where, in one line. ``__cause__`` is what it raised."""


class TimeUpError(BaseException):
    """Raised inside code that took too long; no ``except Exception`` of its own holds it."""


def contained(work: Callable[[], Result], limit: float | None = None) -> Result:
    """What ``work``, code of a plug-in, returns; the process is afterwards as it was before.

    Args:
        work: the call.
        limit: seconds that it may take. A call into compiled code is not interrupted before it returns, nor is what the
            harness computes for a plug-in.

    Raises:
        PluginError: whatever was raised, but the user's own Ctrl-C.
        KeyboardInterrupt: the user's Ctrl-C, even one that the code caught.
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
    except BaseException as error:  # a plug-in that exits or interrupts has failed like any other
        # Around the work, an interruption is the user's.
        if interrupted or (isinstance(error, KeyboardInterrupt) and error not in raised):
            raise KeyboardInterrupt from error
        _show(error)
        raise PluginError(_told(error, limit)) from error
    if interrupted:
        raise KeyboardInterrupt
    return result


@contextmanager
def one_process() -> Iterator[None]:
    """End here a process that was forked in the block and leaves it: what comes behind it is done once."""
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
    """In this block the process is not put back behind code of a plug-in: other threads run it at the same time."""
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


_within: list[int] = []  # one for each such block that runs


def _compute_alone() -> None:
    """Let a process that a plug-in forks compute with its one thread: for the others, which no fork copies, it would wait for ever."""
    torch: Any = sys.modules.get("torch")
    if _within and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_alone)


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Whatever a plug-in raises is one line that names ``what`` failed.

    Raises:
        PathpruneError: in place of any other exception, ``sys.exit`` included; Ctrl-C goes through.
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
    """``getattr``, but an AttributeError raised within a property is not taken for a missing member."""
    try:
        return getattr(thing, name)
    except AttributeError:
        if inspect.getattr_static(thing, name, None) is not None:
            raise
        return default


def is_ours(thing: Any) -> bool:
    """Is a class, a function or an object's class part of this package? What it raises by mistake is our bug."""
    owner = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    return str(getattr(owner, "__module__", "")).partition(".")[0] in OURS


def require_timer() -> None:
    """Refuse a time limit where none can be kept.

    Raises:
        UnavailableError: outside the main thread, and on systems without interval timers.
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
    """``mine.py:12``: the last line of a plug-in's own code that an error passed through; "" where there is none."""
    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(file, line) for file, line in lines if not file.startswith(("<", *NOT_OWN))]
    return f"{Path(own[-1][0]).name}:{own[-1][1]}" if own else ""


class _Open:
    """A stream that a plug-in may write to and not close."""

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
    """What other methods' results may depend on is put back: see ``_settings``."""
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
    """Each is set only where it changed: some setters are slow, or switch on more than they name."""
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
    """Variables that were there; new ones stay, since libraries set theirs when they are first imported."""
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
    """Tell the user's Ctrl-C, which is noted in ``interrupted``, from a KeyboardInterrupt that code raises itself."""
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
    """Is the harness computing something for the plug-in? Cut short, an engine might give others wrong states."""
    packages: list[str] = []
    while frame is not None and frame.f_code is not contained.__code__:
        packages.append(str(frame.f_globals.get("__name__", "")).partition(".")[0])
        frame = frame.f_back
    while packages and packages[-1] == "harness":  # who called the plug-in
        packages.pop()
    return "harness" in packages or "tasks" in packages
