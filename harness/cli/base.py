"""What all verbs share: the command group, the options for task and engine, and the console."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from harness.api import PathpruneError
from harness.cli.values import FOLDER, LENGTH, SEED, TEXT, OneOf, Whole
from harness.progress import bar as bar
from harness.progress import steps as steps
from harness.registry import FILES
from harness.text import is_utf8, shown, unknown
from harness.where import Where
from harness.where import given as given


class Ended(SystemExit):
    """A verb's deliberate exit with a code; any other ``SystemExit`` comes from foreign code and counts as a failure."""


class Terminal(Console):
    """Prints text verbatim, without markup or emoji. ``main`` learns of a closed pipe."""

    def on_broken_pipe(self) -> None:
        """Raise the exception that click's own printing raises."""
        raise BrokenPipeError

    def __init__(self, **more: Any) -> None:
        super().__init__(markup=False, emoji=False, **more)


UNBOUNDED = 1_000_000  # characters of a line where nothing bounds it: a pipe or a file
console = Terminal(width=None if sys.stdout.isatty() else UNBOUNDED)
PUBLISHED, LOCAL = "results/published", "results/local"


def recorded() -> str:
    """The default folder of records: the published ones, or those that bench wrote when none are published."""
    return LOCAL if Path(LOCAL).is_dir() and not Path(PUBLISHED).is_dir() else PUBLISHED


published = click.option(
    "--results",
    default=recorded,
    show_default=f"{PUBLISHED}, or {LOCAL} without it",
    type=FOLDER,
    help="folder of records that is read",
)


class Verb(click.Command):
    """A command that refuses a repeated option unless the option takes several values."""

    def make_parser(self, ctx: click.Context) -> Any:
        """Click's parser, which would silently take the last value of a repeated option, with a check for repetition."""
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def once(args: list[str]) -> Any:
            if wrong := next((a for a in args if not is_utf8(a)), None):
                raise click.UsageError(f"{shown(wrong)} is not UTF-8 text; give a name that is", ctx)
            options, rest, order = parse(args)
            for param in order:
                single = isinstance(param, click.Option) and not param.multiple and not param.count
                if single and order.count(param) > 1:
                    raise click.UsageError(f"{param.opts[0]} is given twice", ctx)
            return options, rest, order

        parser.parse_args = once  # type: ignore[method-assign]
        return parser


class Verbs(click.Group):
    """A group of such commands, which suggests a name for a mistyped one."""

    command_class = Verb
    group_class = type

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Click's resolution, with a suggestion for an unknown verb."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise click.UsageError(unknown("verb", name, self.list_commands(ctx)), ctx)
        return super().resolve_command(ctx, args)


def asked(option: str) -> bool:
    """Was this option of the running verb given on the command line, rather than left at its default?"""
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="pathprune")
def cli() -> None:
    """Compare path pruners on the same sampled paths, at matched cost, with confidence intervals."""


def _venues() -> list[str]:
    from harness.report.figures.style import VENUES

    return list(VENUES)


VENUE = click.option(
    "--venue",
    type=OneOf("venue", _venues),
    default="neurips",
    show_default=True,
    help="widths and fonts: neurips, icml, acl, slides",
)


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for task, engine and pool, passed on as ``on``; every verb that opens an engine has them."""
    options = [
        click.option(
            "--task", type=TEXT, default="hands", show_default=True, help="a task's spec, or a file of problems"
        ),
        click.option("--model", type=TEXT, help="embedded model, local folder or Hub id  [default: the task's]"),
        click.option(
            "--engine",
            type=TEXT,
            default="hf",
            show_default=True,
            help="engine spec, e.g. hf:dtype=bfloat16,device=cuda",
        ),
        click.option("--sampling", type=TEXT, help="e.g. temperature=0.6,top_p=0.95,top_k=40  [default: the task's]"),
        click.option(
            "--prefix",
            type=LENGTH,
            help="prefix length L in tokens; bench takes several (22,43); a pool also takes 0.2 (of the mean length), 30words, 22tokens:TOKENIZER  [default: "
            "the task's first; 0.2 for a pool]",
        ),
        click.option("--max-tokens", type=Whole(2), help="maximum path length in tokens  [default: the task's]"),
        click.option(
            "--seed",
            type=SEED,
            default=0,
            show_default=True,
            help="seed for sampling paths; a task that generates problems has a seed of its own: --task reasoning_gym:NAME,seed=1",
        ),
        click.option("--skip-bad", is_flag=True, help="skip and list invalid rows in a file of problems"),
        click.option("--pool", type=TEXT, help="an imported pool's name or folder, in place of a task"),
    ]

    @wraps(command)
    def called(
        task: str, model: str | None, engine: str, sampling: str | None, prefix: Any, max_tokens: int | None, seed: int,
        pool: str | None, skip_bad: bool, **rest: Any,
    ) -> Any:  # fmt: skip
        given = _skipping(task, skip_bad) if pool is None else _opened(pool)
        on = Where(given, model, engine, sampling or "", prefix, max_tokens, seed)
        if skip_bad and pool is None:
            for line in getattr(on.task, "skipped", None) or []:
                console.print(f"left out: {line}", style="yellow")
        return command(on=on, **rest)

    for option in reversed(options):
        called = option(called)
    return called


def _skipping(task: str, skip_bad: bool) -> str:
    """The task's spec, with the option that skips invalid rows if ``skip_bad`` is set."""
    if not skip_bad:
        return task
    if task.endswith(FILES) and ":" not in task:
        return f"file:data={task},skip=true"
    return f"{task}{',' if ':' in task else ':'}skip=true"


def _opened(pool: str) -> Any:
    """The imported pool, which replaces the task."""
    from harness.imports.pool import Pool

    if asked("task"):
        raise PathpruneError("--pool has problems of its own; leave out --task")
    return Pool.open(pool)


def comparison(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for how kept paths are counted and vote; every verb that shows tables has them."""
    from harness.vote import VOTES

    rule = click.option(
        "--vote", type=OneOf("vote", lambda: list(VOTES)), help="second vote column  [default: each method's own]"
    )
    return rule(ENDED(command))


ENDED = click.option(
    "--ended",
    type=OneOf("policy for ended paths", lambda: ["count", "bypass"]),
    default="count",
    show_default=True,
    help="count: a path that ended within its prefix uses one of the k places; bypass: it votes in addition",
)
