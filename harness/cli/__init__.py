"""The command line. A user error prints one line and exits with code 2.

Importing this package imports no verb; ``main`` imports them once it handles Ctrl-C.
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
CLOSED = 141  # a shell's exit code for a command whose reader closed the pipe
CONTINUES = "interrupted; finished work is kept, and the same command continues from it"


def main() -> None:
    """Run the console script.

    Raises:
        SystemExit: code 2 for errors that the user can fix, 1 for incomplete results, 130 for an interruption.
    """
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
    """Import all verbs. A user's module that shadows a library is reported in one line, whatever error it causes."""
    try:
        return _verbs()
    except BaseException as error:
        if (line := _hidden(error)) is None:
            raise
        _print(line)
        raise SystemExit(2) from None


def _hidden(error: BaseException) -> str | None:
    """The message for a file that shadows a library or ended the process, else None. Imports nothing: imports may be what failed."""
    if file := stand_in(error):
        return f"error: {file} shadows the library of the same name, which pathprune needs; rename the file ({type(error).__name__}: {error})"
    if isinstance(error, SystemExit):
        return f"error: some code ended the process (SystemExit: {error}) instead of returning or raising an error"
    return None


def _verbs() -> Any:
    from harness.cli import learn, pools, read, run, serve  # noqa: F401  (each registers its verbs)
    from harness.cli.base import cli

    return cli


def __getattr__(name: str) -> Any:
    """Import ``cli``, the group of all verbs, on first use."""
    if name == "cli":
        return _verbs()
    raise AttributeError(f"module 'harness.cli' has no attribute {name!r}")


def _told(error: BaseException, interrupted: bool, printed_to: Any) -> tuple[int, str]:
    """Exit code and one-line message. An error that the user did not cause is raised again with its traceback."""
    import click

    from harness.api import PathpruneError
    from harness.cli.base import Ended
    from harness.text import reason

    if isinstance(error, SystemExit) and not interrupted:
        if sys.stdout is not printed_to:  # click replaces stdout when the reader closed the pipe
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
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (takes what is still buffered at exit)
        return CLOSED, ""
    if isinstance(error, OSError):
        return 2, f"error: {error.filename or 'the system'}: {error.strerror or error}"
    if line := _hidden(error):
        return 2, line
    raise error


def _of_click(error: Any) -> str:
    """A usage error, and the command that lists the options."""
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
    """Print one line on standard error, using built-ins only."""
    print("".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(line.split())), file=sys.stderr)


def _mend_streams() -> None:
    """Keep printing from failing, be it for a character that the terminal lacks or for a closed stream."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = unfailing(sys.stderr)  # a progress bar that cannot be written must not cost the table


def _quiet() -> None:
    """Silence warnings of libraries around tables and errors; the ones that matter are raised as errors here."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read at the import
    for library in LIBRARIES:
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")


def _is_closed(stream: Any) -> bool:
    """Has the reader of this stream closed it?"""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return bool(poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return True
