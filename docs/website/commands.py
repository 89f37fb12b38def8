"""The reference of the command line, from click."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click


def verbs(group: click.Group, before: str = "pathprune") -> Iterator[tuple[str, click.Command]]:
    """Every verb with the words that call it; groups first, then their verbs."""
    for name in sorted(group.commands):
        command = group.commands[name]
        if not command.hidden:
            yield f"{before} {name}", command
            if isinstance(command, click.Group):
                yield from verbs(command, f"{before} {name}")


def page() -> str:
    """The Markdown of all verbs."""
    from harness.cli import cli

    lines = [
        "# Command line",
        "`pathprune VERB --help` prints the same. Exit codes: 0 done; 1 some methods failed; 2 a mistake that one line names "
        "with its fix; 130 interrupted, and the same command goes on.",
    ]
    for name, command in verbs(cli):
        lines += [f"## {name}", _text(command.help or ""), f"```text\n{_usage(name, command)}\n```", _options(command)]
    return "\n\n".join(line for line in lines if line) + "\n"


def _usage(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    return " ".join([name, *command.collect_usage_pieces(context)])


def _options(command: click.Command) -> str:
    lines = [_option(p, click.Context(command)) for p in command.params if isinstance(p, click.Option) and not p.hidden]
    return "\n".join(["| option | takes | meaning |", "|---|---|---|", *lines]) if lines else ""


def _option(option: click.Option, context: click.Context) -> str:
    takes = "" if option.is_flag else f"`{option.make_metavar(context)}`"
    default: Any = option.default if option.show_default else None
    text = _text(option.help or "")
    shown = f" (default: `{default}`)" if isinstance(default, str | int | float) and not option.is_flag else ""
    if isinstance(option.show_default, str):  # a default that depends on what is there, in words
        shown = f" (default: {_text(option.show_default)})"
    return f"| `{'`, `'.join(option.opts)}` | {_cell(takes)} | {_cell(text + shown)} |"


def _text(text: str) -> str:
    words = " ".join(text.split("\f")[0].split())
    for sign in "\\*_<>[]":
        words = words.replace(sign, {"<": "&lt;", ">": "&gt;"}.get(sign, f"\\{sign}"))
    return words


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
