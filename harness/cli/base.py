"""What all verbs share: the group, where a verb works, and its progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from harness.progress import bar as bar
from harness.progress import steps as steps
from harness.where import Where
from harness.where import given as given

# Names are of others: brackets and colons in them are text, never rich's markup.
console = Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False)
PUBLISHED, LOCAL = "results/published", "results/local"


def recorded() -> str:
    """The folder of records that a verb reads by default: published ones, or where there are none those of bench."""
    return LOCAL if Path(LOCAL).is_dir() and not Path(PUBLISHED).is_dir() else PUBLISHED


published = click.option(
    "--results", default=recorded, show_default=f"{PUBLISHED}, or {LOCAL} without it", type=click.Path(path_type=Path)
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="pathprune")
def cli() -> None:
    """Compare path pruners on the same sampled paths, at matched cost, with intervals."""


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say on what, handed over as ``on``: shared by every verb that opens an engine."""
    options = [
        click.option("--task", default="hands", show_default=True, help="a task's spec, or a file of problems"),
        click.option("--model", help="embedded model, local folder or hub id  [default: the task's]"),
        click.option(
            "--engine", default="hf", show_default=True, help="engine spec, e.g. hf:dtype=bfloat16,device=cuda"
        ),
        click.option("--sampling", default="", help="e.g. temperature=0.6,top_p=0.95,top_k=40  [default: the task's]"),
        click.option("--prefix", type=int, help="prefix length L in tokens  [default: the task's first]"),
        click.option("--max-tokens", type=int, help="longest path in tokens  [default: the task's]"),
        click.option("--seed", type=int, default=0, show_default=True),
    ]

    @wraps(command)
    def called(
        task: str, model: str | None, engine: str, sampling: str, prefix: int | None, max_tokens: int | None, seed: int,
        **rest: Any,
    ) -> Any:  # fmt: skip
        return command(on=Where(task, model, engine, sampling, prefix, max_tokens, seed), **rest)

    for option in reversed(options):
        called = option(called)
    return called


def comparison(command: Callable[..., Any]) -> Callable[..., Any]:
    """How kept paths are chosen and vote: shared by the verbs that show tables."""
    from harness.vote import VOTES

    rule = click.option(
        "--vote", type=click.Choice(list(VOTES)), help="second vote column  [default: each method's own]"
    )
    ended = click.option(
        "--ended",
        type=click.Choice(["count", "bypass"]),
        default="count",
        show_default=True,
        help="a path that ended inside its prefix spends one of k, or votes on top",
    )
    return rule(ended(command))
