"""The command line: few verbs, few options each. User errors are one line and exit code 2.

Importing this package imports no verb: ``main`` does, where Ctrl-C is looked after.
"""

from __future__ import annotations

import os
import select
import sys
import warnings
from typing import Any

from harness.signals import INTERRUPTED, Interrupts
from harness.streams import unfailing
from pathprune.hidden import stand_in

LIBRARIES = ("transformers", "torch", "peft", "pydantic", "accelerate", "huggingface_hub", "safetensors")
CLOSED = 141  # what a shell says of a command whose reader went away
CONTINUES = "interrupted; what is finished is kept, and the same command continues"


def main() -> None:
    """The console script: 2 for what a user can mend, in one line; 1 for incomplete results; 130 for an interruption."""
    _mend_streams()
    _quiet()
    printed_to = sys.stdout
    interrupts = Interrupts()
    with interrupts.caught(interrupts.leave):
        cli = _imported()
    with interrupts.caught(interrupts.remember):
        try:
            cli(standalone_mode=False)
            sys.stdout.flush()
        except BaseException as error:
            code, line = _told(error, interrupts.came, printed_to)
            _say(line)
            raise SystemExit(code) from None


def _imported() -> Any:
    """All verbs; a module of the user's that stands in for a library is one line, whatever comes of it."""
    try:
        return _verbs()
    except BaseException as error:
        if (line := _hidden(error)) is None:
            raise
        _print(line)
        raise SystemExit(2) from None


def _hidden(error: BaseException) -> str | None:
    """What to say of a file that hides a library, or that ended the process; None of anything else. Imports nothing, for that may be what failed."""
    if file := stand_in(error):
        return f"error: {file} is imported in place of the library of that name, which pathprune needs; rename it ({type(error).__name__}: {error})"
    if isinstance(error, SystemExit):
        return f"error: something ended the process (SystemExit: {error}) in place of returning or raising an error"
    return None


def _verbs() -> Any:
    from harness.cli import learn, pools, read, run, serve  # noqa: F401  (each registers its verbs)
    from harness.cli.base import cli

    return cli


def __getattr__(name: str) -> Any:
    """``cli``, the group of all verbs, imported when it is asked for."""
    if name == "cli":
        return _verbs()
    raise AttributeError(f"module 'harness.cli' has no attribute {name!r}")


def _told(error: BaseException, interrupted: bool, printed_to: Any) -> tuple[int, str]:
    """Exit code and the one line to say. What is no user's doing is raised again, with its traceback."""
    import click

    from harness.api import PathpruneError
    from harness.cli.base import Ended
    from harness.text import reason

    if isinstance(error, SystemExit) and not interrupted:
        if sys.stdout is not printed_to:  # click puts another in its place where a reader went away
            return CLOSED, ""
        if isinstance(error, Ended):
            raise error
        return 2, str(_hidden(error))
    if interrupted or isinstance(error, KeyboardInterrupt | click.Abort):
        return INTERRUPTED, CONTINUES
    if isinstance(error, click.ClickException):
        return 2, _of_click(error)
    if isinstance(error, PathpruneError):
        return 2, f"error: {reason(error)}"
    if isinstance(error, BrokenPipeError) and _is_closed(sys.stdout):
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (what is left to print at exit goes there)
        return CLOSED, ""
    if isinstance(error, OSError):
        return 2, f"error: {error.filename or 'the system'}: {error.strerror or error}"
    if line := _hidden(error):
        return 2, line
    raise error


def _of_click(error: Any) -> str:
    """A mistake in the words of a command, and where its options are listed."""
    from click.exceptions import NoArgsIsHelpError

    if isinstance(error, NoArgsIsHelpError):
        error.show()
        return ""
    context = getattr(error, "ctx", None)
    return f"error: {error.format_message()}" + (f" (see: {context.command_path} --help)" if context else "")


def _say(line: str) -> None:
    if line:
        _print(line)


def _print(line: str) -> None:
    """One line on standard error, written with nothing that may be missing."""
    print("".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(line.split())), file=sys.stderr)


def _mend_streams() -> None:
    """Nothing that is printed may fail: not for a character that the terminal lacks, nor where a stream was closed."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = unfailing(sys.stderr)  # a table is not lost to a progress bar that has no room


def _quiet() -> None:
    """What libraries warn of does not stand around a table or an error; what matters of it is an error of ours."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read at the import
    for library in LIBRARIES:
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")


def _is_closed(stream: Any) -> bool:
    """Has whoever read this stream gone?"""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return bool(poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return True
