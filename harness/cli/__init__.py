"""The command line: few verbs, few options each. User errors are one line and exit code 2."""

from __future__ import annotations

import io
import sys

import click

from harness.api import PathpruneError
from harness.cli import learn, read, run  # noqa: F401  (each registers its verbs)
from harness.cli.base import cli
from harness.text import reason

INTERRUPTED = 130


def main() -> None:
    """The console script: what a user can mend is one line and exit code 2, an interruption 130."""
    for stream in (sys.stdout, sys.stderr):  # file names may hold what no encoding has
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        raise SystemExit(2) from None
    except PathpruneError as error:
        click.echo(f"error: {reason(error)}", err=True)
        raise SystemExit(2) from None
    except OSError as error:
        click.echo(f"error: {error.filename or 'the system'}: {error.strerror or error}", err=True)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what is finished is kept, and the same command continues", err=True)
        raise SystemExit(INTERRUPTED) from None
