"""What all verbs share: the group, where a verb works, and its progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness import registry
from harness.api import PathpruneError, Sampling

console = Console(width=None if sys.stdout.isatty() else 200)
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


@dataclass(frozen=True)
class Where:
    """On what a verb works, as it was asked for; ``task`` and ``engine`` are opened once, at first use."""

    task_spec: str
    model_given: str | None
    engine_spec: str
    sampling: str
    prefix_given: int | None
    max_tokens_given: int | None
    seed: int

    @cached_property
    def task(self) -> Any:
        return registry.task(self.task_spec)

    @property
    def model(self) -> str:
        return self.model_given or str(self.task.defaults.model)

    @property
    def prefix(self) -> int:
        return given(self.prefix_given, self.task.defaults.prefixes[0])

    @property
    def max_tokens(self) -> int:
        return given(self.max_tokens_given, self.task.defaults.max_tokens)

    @cached_property
    def engine(self) -> Any:
        return self.open(self.task)

    def open(self, task: Any) -> Any:
        """The engine, with the task's own sampling where no other was asked for."""
        name, options = registry.options_of(self.engine_spec)
        wanted = registry.options_of(f"sampling:{self.sampling}")[1]
        known = [f.name for f in fields(Sampling)]
        for key in wanted:
            if key not in known:
                raise PathpruneError(registry.unknown("sampling option", key, known))
        drawn = replace(task.defaults.sampling, **wanted)
        try:
            return registry.engine(name, self.model_given or task.defaults.model, drawn, **options)
        except TypeError as error:
            raise PathpruneError(f"engine {self.engine_spec!r}: {error}") from error


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


def given(value: int | None, default: int) -> int:
    return default if value is None else value


@contextmanager
def steps(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with an ETA whose total is known only once it runs: ``(done, total, note)``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=Console(stderr=True)
    ) as p:
        row = p.add_task(label, total=None, note="")
        yield lambda done, total, note: p.update(row, completed=done, total=total, note=note)


@contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int, str], None]]:
    with steps(label) as progress:
        progress(0, total, "")
        yield lambda done, note: progress(done, total, note)


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


def split_specs(specs: str) -> list[str]:
    """``a:x=1,y=2,b`` is two specs: a part with ``=`` before any ``:`` belongs to the one before it."""
    out: list[str] = []
    for part in filter(None, specs.split(",")):
        if out and "=" in part.partition(":")[0]:
            out[-1] += f",{part}"
        else:
            out.append(part)
    return out
