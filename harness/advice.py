"""Commands in messages, as the reader can type them: ``make`` in a source checkout, ``pathprune`` anywhere else."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

VARIABLES = {"prefix": "L", "continuations": "K"}  # the Makefile's, where they are not the option in capitals
ARGUMENTS = {
    "train": "pruner",
    "check": "pruner",
    "ablation": "name",
    "import": "file",
}  # what the console script takes by position


def in_checkout() -> bool:
    """Whether the working folder is the source checkout that this code runs from, whose Makefile has our targets."""
    checkout = Path(__file__).resolve().parents[1]
    return Path.cwd() == checkout and (checkout / "Makefile").is_file()


def command(verb: str, **options: Any) -> str:
    """``make bench PRUNER=stop`` or ``pathprune bench --pruner stop``, for a verb that both have."""
    words = ["make" if in_checkout() else "pathprune", verb]
    argument = None if in_checkout() else options.pop(ARGUMENTS.get(verb, ""), None)
    if argument is not None:
        words.append(shlex.quote(str(argument)))
    return " ".join([*words, option(**options)]).rstrip()


def option(**options: Any) -> str:
    """``ENGINE=hf L=22`` or ``--engine hf --prefix 22``; a flag is True: ``LIVE=1`` or ``--live``."""
    return " ".join(_variable(*given) if in_checkout() else _flag(*given) for given in options.items())


def _variable(name: str, value: Any) -> str:
    return f"{VARIABLES.get(name, name.upper())}={1 if value is True else shlex.quote(str(value))}"


def _flag(name: str, value: Any) -> str:
    return f"--{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")


def target(name: str) -> str:
    """``make smollm2``, for what the Makefile alone has."""
    return f"make {name}" + ("" if in_checkout() else ", in a source checkout of pathprune")
