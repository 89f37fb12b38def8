"""The command line: few verbs, few options each. User errors are one line and exit code 2."""

from __future__ import annotations

import os
import warnings

import click

from harness.api import PathpruneError
from harness.cli import learn, read, run  # noqa: F401  (each registers its verbs)
from harness.cli.base import cli

INTERRUPTED = 130
LIBRARIES = ("transformers", "torch", "peft", "pydantic", "accelerate", "huggingface_hub", "safetensors")


def main() -> None:
    """The console script: what a user can mend is one line and exit code 2, an interruption 130."""
    _quiet()
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        raise SystemExit(2) from None
    except PathpruneError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    except OSError as error:
        click.echo(f"error: {error.filename or 'the system'}: {error.strerror or error}", err=True)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what is finished is kept, and the same command continues", err=True)
        raise SystemExit(INTERRUPTED) from None


def _quiet() -> None:
    """What libraries warn of does not stand around a table or an error; what matters of it is an error of ours."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read at the import
    for library in LIBRARIES:
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
