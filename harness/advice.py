"""Commands in messages, ready to type: ``make`` in a source checkout, ``pathprune`` elsewhere."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

VARIABLES = {"prefix": "L", "continuations": "K"}  # Makefile variables that are not the option's name in capitals
ARGUMENTS = {
    "train": "pruner",
    "check": "pruner",
    "ablation": "name",
    "import": "file",
}  # options that the console script takes as positional arguments


def in_checkout() -> bool:
    """Whether the working directory is the source checkout that this code runs from and has its Makefile."""
    checkout = Path(__file__).resolve().parents[1]
    return Path.cwd() == checkout and (checkout / "Makefile").is_file()


def command(verb: str, **options: Any) -> str:
    """A command: ``make bench PRUNER=stop`` or ``pathprune bench --pruner stop``. Both must have the verb."""
    words = ["make" if in_checkout() else "pathprune", verb]
    argument = None if in_checkout() else options.pop(ARGUMENTS.get(verb, ""), None)
    if argument is not None:
        words.append(shlex.quote(str(argument)))
    return " ".join([*words, option(**options)]).rstrip()


def option(**options: Any) -> str:
    """Options: ``ENGINE=hf L=22`` or ``--engine hf --prefix 22``. True is a flag: ``LIVE=1`` or ``--live``."""
    return " ".join(_variable(*given) if in_checkout() else _flag(*given) for given in options.items())


def _variable(name: str, value: Any) -> str:
    return f"{VARIABLES.get(name, name.upper())}={1 if value is True else shlex.quote(str(value))}"


def _flag(name: str, value: Any) -> str:
    return f"--{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")


def target(name: str) -> str:
    """A target that only the Makefile has, such as ``make smollm2``."""
    return f"make {name}" + ("" if in_checkout() else ", in a source checkout of pathprune")
