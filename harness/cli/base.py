"""What all verbs share: the group, where a verb works, and its progress bar."""

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
    """A verb's own end, with its exit code; any other ``SystemExit`` is somebody else's and no success."""


class Terminal(Console):
    """Prints what it is given as it is: names hold no markup and no emoji. A reader that goes away is told to ``main``."""

    def on_broken_pipe(self) -> None:
        """Raise what click's own printing raises."""
        raise BrokenPipeError

    def __init__(self, **more: Any) -> None:
        super().__init__(markup=False, emoji=False, **more)


console = Terminal(width=None if sys.stdout.isatty() else 200)
PUBLISHED, LOCAL = "results/published", "results/local"


def recorded() -> str:
    """The folder of records that a verb reads by default: published ones, or where there are none those of bench."""
    return LOCAL if Path(LOCAL).is_dir() and not Path(PUBLISHED).is_dir() else PUBLISHED


published = click.option(
    "--results",
    default=recorded,
    show_default=f"{PUBLISHED}, or {LOCAL} without it",
    type=FOLDER,
    help="folder of records that is read",
)


class Verb(click.Command):
    """A command whose options are given once, unless they are of a list."""

    def make_parser(self, ctx: click.Context) -> Any:
        """Click's own, which takes the last of an option that is given twice, with a look at what it was given."""
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def once(args: list[str]) -> Any:
            if wrong := next((a for a in args if not is_utf8(a)), None):
                raise click.UsageError(f"{shown(wrong)} is no text in UTF-8; give a name that is", ctx)
            options, rest, order = parse(args)
            for param in order:
                single = isinstance(param, click.Option) and not param.multiple and not param.count
                if single and order.count(param) > 1:
                    raise click.UsageError(f"{param.opts[0]} is given twice", ctx)
            return options, rest, order

        parser.parse_args = once  # type: ignore[method-assign]
        return parser


class Verbs(click.Group):
    """A group of such commands, which guesses what a mistyped one was to be."""

    command_class = Verb
    group_class = type

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Click's own, with a guess for an unknown verb."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise click.UsageError(unknown("verb", name, self.list_commands(ctx)), ctx)
        return super().resolve_command(ctx, args)


def asked(option: str) -> bool:
    """Was this option of the verb that runs given, and not left at its default?"""
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="pathprune")
def cli() -> None:
    """Compare path pruners on the same sampled paths, at matched cost, with intervals."""


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
    """The options that say on what, handed over as ``on``: shared by every verb that opens an engine."""
    options = [
        click.option(
            "--task", type=TEXT, default="hands", show_default=True, help="a task's spec, or a file of problems"
        ),
        click.option("--model", type=TEXT, help="embedded model, local folder or hub id  [default: the task's]"),
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
            help="prefix length L in tokens, of bench also several (22,43); of a pool also 0.2 (of the mean length), 30words, 22tokens:TOKENIZER  [default: the "
            "task's first; of a pool 0.2]",
        ),
        click.option("--max-tokens", type=Whole(2), help="longest path in tokens  [default: the task's]"),
        click.option(
            "--seed",
            type=SEED,
            default=0,
            show_default=True,
            help="of the paths' random streams; other problems of an endless task are an option of it: --task reasoning_gym:NAME,seed=1",
        ),
        click.option(
            "--skip-bad", is_flag=True, help="go on without rows of a file of problems that are wrong, and list them"
        ),
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
    """A task's spec, with the option that leaves out bad rows where that was asked for."""
    if not skip_bad:
        return task
    if task.endswith(FILES) and ":" not in task:
        return f"file:data={task},skip=true"
    return f"{task}{',' if ':' in task else ':'}skip=true"


def _opened(pool: str) -> Any:
    """The imported pool, which stands in place of a task."""
    from harness.imports.pool import Pool

    if asked("task"):
        raise PathpruneError("--pool has problems of its own; leave out --task")
    return Pool.open(pool)


def comparison(command: Callable[..., Any]) -> Callable[..., Any]:
    """How kept paths are chosen and vote: shared by the verbs that show tables."""
    from harness.vote import VOTES

    rule = click.option(
        "--vote", type=OneOf("vote", lambda: list(VOTES)), help="second vote column  [default: each method's own]"
    )
    ended = click.option(
        "--ended",
        type=OneOf("policy for ended paths", lambda: ["count", "bypass"]),
        default="count",
        show_default=True,
        help="a path that ended inside its prefix spends one of k, or votes on top",
    )
    return rule(ended(command))
