"""Verbs that run pruners on paths."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from harness import registry
from harness.api import PathpruneError
from harness.cli.base import VENUE, Ended, asked, bar, cli, comparison, console, given, where
from harness.cli.values import COUNT, FOLDER, MOST_PATHS, OUT_FOLDER, PATHS, SECONDS, TEXT, Whole
from harness.spec import Stage
from harness.where import Where

RESULTS = click.option(
    "--results", default="results/local", show_default=True, type=OUT_FOLDER, help="folder of records"
)
SHOWN = 20  # lines of what is wrong with a pool
BANK = click.option(
    "--bank", default="results/bank", show_default=True, type=FOLDER, help="sampled paths, kept for every later run"
)


@cli.command()
@where
@click.option(
    "--pruner",
    "specs",
    type=TEXT,
    default="stop",
    show_default=True,
    help="one or more: a,b,c; name:k=v; ./file.py@Class; all-registered",
)
@click.option(
    "--n", type=PATHS, help="paths per problem  [default: 64; for a pool, the number that uses most of its paths]"
)
@click.option("--keep", type=PATHS, help="paths finished per problem  [default: 8; n/8 for a pool]")
@click.option(
    "--stages",
    type=TEXT,
    help="several stages, [step@|forced@]PREFIX:KEEP each, e.g. 16:32,step@43:8  [default: --prefix:--keep]",
)
@click.option("--problems", type=COUNT, help="test problems  [default: the task's]")
@comparison
@click.option("--live", is_flag=True, help="finish kept paths only, and time Launch, Check and Resume")
@click.option("--time-limit", type=SECONDS, help="seconds a pruner may take per problem  [default: none]")
@click.option("--plot", is_flag=True, help="plot majority vote against tokens for each table, to results/figures")
@click.option("--workers", type=TEXT, help="parallel engines, run by Ray: a number, or ray://host:10001,4")
@RESULTS
@BANK
def bench(
    on: Where, specs: str, vote: str | None, live: bool, workers: str | None, bank: Path, plot: bool, **rest: Any
) -> None:
    """Score the prefixes of a pool with one or more pruners, and show the table."""
    from harness import session

    if live and workers:
        raise PathpruneError("--live times one engine; leave out --workers")
    if live and (plot or "," in str(on.prefix_given or "")):
        raise PathpruneError(
            "--live takes one prefix length and draws no figure; give one --prefix and leave out --plot"
        )
    if rest["stages"] and asked("keep"):
        raise PathpruneError("--stages sets how many paths are kept; leave out --keep")
    arguments = {**_where(on), **rest}
    failed: int
    if live:
        arguments |= {"n": given(rest["n"], 64), "keep": given(rest["keep"], 8)}
        timed = session.live(specs, **arguments, vote=vote or "majority")
        console.print(timed)
        failed = _show_failures({"live": (len(timed.failures), timed.failures[0])} if timed.failures else {})
    else:
        failed = 0
        for table in _benched(specs, {**arguments, "vote": vote, "workers": workers, "bank": bank}):
            _show(table)
            failed += _show_failures(table.failures)
            if plot:
                console.print(f"wrote {table.plot().stem}.png, .pdf, .csv")
    raise Ended(1 if failed else 0)


def _benched(specs: str, arguments: dict[str, Any]) -> Any:
    """One table per requested prefix length."""
    from harness import session

    text = str(arguments["prefix"] or "")
    if "," not in text:
        return [session.bench(specs, **arguments)]
    if arguments["stages"]:
        raise PathpruneError("--stages sets where paths are cut; leave out --prefix")
    return [session.bench(specs, **(arguments | {"prefix": part})) for part in dict.fromkeys(text.split(","))]


def _where(on: Where) -> dict[str, Any]:
    """The arguments of ``harness.bench`` for task, engine and pool."""
    return {
        "task": on.task_given, "model": on.model_given, "engine": on.engine_given, "sampling": on.sampling,
        "prefix": on.prefix_given, "limit": on.limit_given, "seed": on.seed,
    }  # fmt: skip


def _show(table: Any) -> None:
    """Print a bench's table and the notes below it."""
    from harness.report import tables

    for why in dict.fromkeys(table.left_out.values()):
        names = ", ".join(name for name, reason in table.left_out.items() if reason == why)
        console.print(f"left out {names}: {why}", style="yellow")
    if table.stored:
        console.print(f"scores taken from the pool: {', '.join(table.stored)}")
    if table.as_sets:
        console.print(
            f"left out of the schedule: {', '.join(table.as_sets)} (they score paths as a set; run them with --live)"
        )
    console.print(table)
    for line in tables.with_power(table.group, table.keep, table.rows):
        console.print(line)
    made = f"{table.sampled:,} tokens generated"
    if table.run.is_imported:
        made = f"{table.group.pool.lengths.size:,} imported paths of {len(table.group.pool.problems):,} problems, nothing sampled"
    console.print(f"{made}; records in {table.run.folder}")


def _show_failures(failures: Any) -> int:
    for name, (count, why) in failures.items():
        console.print(f"{name} failed on {count} problems, which are left unscored: {why}", style="red")
    return len(failures)


@cli.command("list")
def list_all() -> None:
    """List pruners by quadrant, the model behind each checkpoint's LoRA, tasks, engines and imported pools."""
    from harness.imports.pool import names_of_pools
    from harness.learn import checkpoints

    table = Table("pruner", "quadrant", "needs", "cost", "fidelity", "learned", "decides", "vote", "source")
    plugins = [registry.pruner(name) for name in registry.names("pruners")]
    for plugin in sorted(plugins, key=lambda p: (p.traits.quadrant, p.name)):
        traits = plugin.traits
        learned = "yes" if traits.learns else ""
        decides = "own rule" if traits.decides else "top-k at L"
        needs = ", ".join(sorted(traits.needs)) or "-"
        about = (plugin.name, traits.quadrant, needs, traits.cost_class, traits.fidelity)
        table.add_row(*about, learned, decides, traits.vote, plugin.source)
    console.print(table)
    for checkpoint, reach in checkpoints.reaches():
        console.print(f"{checkpoint}: {reach}", soft_wrap=True)
    console.print(f"tasks: {', '.join(registry.names('tasks'))}")
    console.print(f"engines: {', '.join(registry.names('engines'))}")
    if pools := names_of_pools():
        console.print(f"imported pools: {', '.join(pools)}")


@cli.command()
@click.argument("spec", type=TEXT, required=False)
@where
def check(spec: str | None, on: Where) -> None:
    """Run the conformance suite on a pruner, or with --pool and no pruner, verify an imported pool."""
    if spec is None:
        raise Ended(_check_pool(on))
    from harness.learn import checkpoints
    from harness.runners.bench import check_signals
    from harness.testing import conformance

    plugin = registry.pruner(spec)
    check_signals(plugin, on.engine)
    checkpoints.attach(plugin, on.engine)
    failed = 0
    for name, problem in conformance(plugin, on.task, on.engine, on.prefix, on.seed):
        line = f"pass {name}" if problem is None else f"FAIL {name}: {problem}"
        console.print(line, style="green" if problem is None else "red")
        failed += problem is not None
    if not failed:
        console.print(f"{plugin.name} passes; a row for it: pathprune bench --pruner {shlex.quote(spec)}")
    raise Ended(2 if failed else 0)


def _check_pool(on: Where) -> int:
    """Print the flaws of a pool; return the exit code."""
    if on.pool is None:
        raise PathpruneError("name a pruner to check, or an imported pool: --pool NAME")
    from harness.session import check_pool

    wrong = check_pool(on.pool)
    for line in wrong[:SHOWN]:
        console.print(line, style="red", soft_wrap=True)
    if len(wrong) > SHOWN:
        console.print(f"and {len(wrong) - SHOWN:,} more", style="red")
    if not wrong:
        about = on.pool.about
        console.print(
            f"pool {on.pool.name} is intact: {about['paths']:,} paths of {about['problems']:,} problems match the hashes, sizes, signals "
            "and grades on its card",
            style="green",
        )
    return 2 if wrong else 0


@cli.command()
@where
@click.option("--n", type=PATHS, default=64, show_default=True, help="paths per problem")
@click.option("--problems", type=COUNT, default=100, show_default=True, help="test problems")
@click.option("--continuations", type=PATHS, default=8, show_default=True, help="K per prefix")
@RESULTS
@BANK
def oracle(on: Where, n: int, problems: int, continuations: int, results: Path, bank: Path) -> None:
    """Score test prefixes by Monte-Carlo continuations: an upper reference in tables, never a pruner."""
    from harness.session import run_of
    from harness.studies.oracle import score_oracle

    run = run_of(replace(on), n, (Stage(on.prefix, 1),), problems, results, bank)
    with bar("oracle", problems) as progress:
        spent = score_oracle(run, continuations, progress)
    console.print(f"{spent:,} tokens generated")


@cli.command()
@where
@click.option(
    "--pruner", "spec", type=TEXT, default="stop", show_default=True, help="a pruner that appends tokens to a prefix"
)
@click.option("--problems", type=COUNT, default=8, show_default=True, help="test problems")
@click.option("--n", type=Whole(2, MOST_PATHS), default=16, show_default=True, help="paths per problem")
@click.option("--out", default="results/figures", show_default=True, type=OUT_FOLDER, help="folder of the figure")
@VENUE
def attention(on: Where, spec: str, problems: int, n: int, out: Path, venue: str) -> None:
    """Plot what the [STOP] tokens attend to, on prefixes of high and low score (STOP, Fig. 7); engine hf."""
    if on.engine.spec["engine"] != "hf":
        raise PathpruneError(f"attention needs engine hf, not {on.engine.spec['engine']}")
    from harness.studies.attention_figure import attention_figure, scored

    paths, scores, adapter = scored(on.task, on.engine, spec, on.prefix, problems, n, on.seed)
    stem = out / f"{on.task.name}-{on.engine.spec['model']}-L{on.prefix}-attention"
    attention_figure(on.engine, paths, scores, adapter, stem, venue)
    console.print(f"wrote {stem}.png, .pdf, .csv")
