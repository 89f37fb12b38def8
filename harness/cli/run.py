"""Verbs that run pruners on paths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from harness import registry
from harness.api import PathpruneError
from harness.cli.base import Where, bar, cli, comparison, console, given, split_specs, where


@cli.command()
@where
@click.option(
    "--pruner", "specs", default="stop", show_default=True, help="a,b,c; name:k=v; ./file.py@Class; all-registered"
)
@click.option("--n", default=64, show_default=True, help="paths per problem")
@click.option("--keep", default=8, show_default=True, help="paths finished per problem")
@click.option("--problems", type=int, help="test problems  [default: the task's]")
@comparison
@click.option("--live", is_flag=True, help="finish only kept paths, and time Launch, Check, Resume")
@click.option("--workers", help="engines at once, by Ray: a number, or ray://host:10001,4")
@click.option("--results", default="results/local", show_default=True, type=click.Path(path_type=Path))
@click.option("--bank", default="results/bank", show_default=True, type=click.Path(path_type=Path))
def bench(
    on: Where, specs: str, n: int, keep: int, problems: int | None, live: bool, workers: str | None, results: Path, bank: Path,
    vote: str | None, ended: Any,
) -> None:  # fmt: skip
    """Score the prefixes of a pool with one or more pruners, and show the table."""
    from harness.runners.bench import Settings, check_signals

    if not 1 <= keep <= n:
        raise PathpruneError(f"--keep {keep} is not between 1 and --n {n}")
    count = given(problems, on.task.defaults.problems)
    settings = Settings(on.task, on.engine, count, n, on.prefix, on.max_tokens, on.seed, results, bank)
    plugins = choose(specs, on.engine)
    for plugin in plugins:
        check_signals(plugin, on.engine)
    if live and workers:
        raise PathpruneError("--live times one engine; leave out --workers")
    if live:
        bench_live(settings, plugins, keep, ended, vote or "majority")
    else:
        bench_banked(settings, plugins, keep, ended, vote, crew_of(workers, on, plugins, settings))


def crew_of(workers: str | None, on: Where, plugins: list[registry.Plugin], settings: Any) -> Any:
    from harness.runners.cluster import Cluster, Opening, parse
    from harness.runners.work import alone

    if workers is None:
        return alone
    address, count = parse(workers)
    recipe = Opening(on.task_spec, replace(on).open, tuple(p.spec for p in plugins), settings.terms)
    return Cluster(recipe, address, count, gpus_of_an_engine())


def gpus_of_an_engine() -> int:
    import torch

    return int(torch.cuda.is_available())


def choose(specs: str, engine: Any) -> list[registry.Plugin]:
    """The pruners of a comma-separated list; all-registered leaves out what cannot be served here, and says why."""
    from harness.learn import checkpoints

    wanted = split_specs(specs)
    if not wanted:
        raise PathpruneError("no pruner given; see: pathprune list")
    plugins = [registry.pruner(spec) for spec in wanted if spec != "all-registered"]
    for name in registry.names("pruners") if "all-registered" in wanted else []:
        plugin = registry.pruner(name)
        if reason := checkpoints.unavailable(plugin, engine):
            console.print(f"left out {name}: {reason}", style="yellow", markup=False)
        else:
            plugins.append(plugin)
    return plugins


def bench_banked(
    settings: Any, plugins: list[registry.Plugin], keep: int, ended: Any, vote: str | None, crew: Any
) -> None:
    from harness import report
    from harness.report import tables
    from harness.report.rows import rows
    from harness.runners.bench import bench as run

    with bar(f"{settings.task.name} L={settings.prefix}", settings.problems) as progress:
        done = run(settings, plugins, progress, crew)
    asked = [p.id for p in settings.task.problems("test", settings.problems)]
    for group in report.groups_of(settings.folder, settings.n, asked, settings.prefix):
        if group.prefix == settings.prefix:
            console.print(tables.terminal(group, keep, rows(group, keep, ended, vote)))
            for line in tables.notes(group):
                console.print(line)
    console.print(f"{done.sampled:,} tokens generated; records in {settings.folder}")
    for name, (count, reason) in done.failures.items():
        console.print(f"{name} failed on {count} problems, which have no score: {reason}", style="red", markup=False)
    if done.failures:
        raise SystemExit(1)


def bench_live(settings: Any, plugins: list[registry.Plugin], keep: int, ended: Any, vote: str) -> None:
    from harness.loop import Plan
    from harness.report.overhead import summary
    from harness.runners.live import run_live
    from harness.runners.work import native

    for plugin in filter(native, plugins):
        raise PathpruneError(f"{plugin.name} has a decision rule of its own, which is replayed; leave out --live")
    plan = Plan(settings.n, keep, settings.prefix, settings.max_tokens, settings.seed, ended, vote)
    with bar("live", settings.problems * len(plugins)) as progress:
        records = run_live(settings, plugins, plan, progress)
    console.print(summary(records))
    failed = [row["error"] for record in records for row in record.lines.values() if "error" in row]
    if failed:
        console.print(f"{len(failed)} problems have no result: {failed[0]}", style="red", markup=False)
        raise SystemExit(1)


@cli.command("list")
def list_all() -> None:
    """Pruners by quadrant, tasks and engines."""
    table = Table("pruner", "quadrant", "needs", "cost", "fidelity", "learned", "decides", "vote", "source")
    made = [registry.pruner(name) for name in registry.names("pruners")]
    for plugin in sorted(made, key=lambda p: (p.pruner.quadrant, p.name)):
        p = plugin.pruner
        learned = "yes" if hasattr(p, "fit") else ""
        decides = "own rule" if hasattr(p, "decide") else "top-k at L"
        cost, vote = getattr(p, "cost_class", "free"), getattr(p, "vote", "majority")
        needs = ", ".join(sorted(p.needs)) or "-"
        table.add_row(plugin.name, p.quadrant, needs, cost, p.fidelity, learned, decides, vote, plugin.source)
    console.print(table)
    console.print(f"tasks: {', '.join(registry.names('tasks'))}")
    console.print(f"engines: {', '.join(registry.names('engines'))}")


@cli.command()
@click.argument("spec")
@where
def check(spec: str, on: Where) -> None:
    """Run the conformance suite on a pruner, yours or ours."""
    from harness.learn import checkpoints
    from harness.runners.bench import check_signals
    from harness.testing import conformance

    plugin = registry.pruner(spec)
    check_signals(plugin, on.engine)
    checkpoints.attach(plugin, on.engine)
    failed = 0
    for name, problem in conformance(plugin.pruner, on.task, on.engine, on.prefix, on.seed):
        line = f"pass {name}" if problem is None else f"FAIL {name}: {problem}"
        console.print(line, style="green" if problem is None else "red", markup=False)
        failed += problem is not None
    raise SystemExit(1 if failed else 0)


@cli.command()
@where
@click.option("--n", default=64, show_default=True)
@click.option("--problems", type=int, default=100, show_default=True)
@click.option("--continuations", default=8, show_default=True, help="K per prefix")
@click.option("--results", default="results/local", show_default=True, type=click.Path(path_type=Path))
@click.option("--bank", default="results/bank", show_default=True, type=click.Path(path_type=Path))
def oracle(on: Where, n: int, problems: int, continuations: int, results: Path, bank: Path) -> None:
    """Score test prefixes by Monte-Carlo continuations: the ceiling that tables draw, never a pruner."""
    from harness.runners.bench import Settings
    from harness.studies.oracle import score_oracle

    settings = Settings(on.task, on.engine, problems, n, on.prefix, on.max_tokens, on.seed, results, bank)
    with bar("oracle", problems) as progress:
        spent = score_oracle(settings, continuations, progress)
    console.print(f"{spent:,} tokens generated")


@cli.command()
@where
@click.option("--pruner", "spec", default="stop", show_default=True, help="one that appends tokens to a prefix")
@click.option("--problems", default=8, show_default=True)
@click.option("--n", default=16, show_default=True, help="paths per problem")
@click.option("--out", default="results/figures", show_default=True, type=click.Path(path_type=Path))
@click.option("--venue", default="neurips", show_default=True, help="widths and fonts: neurips, icml, acl, slides")
def attention(on: Where, spec: str, problems: int, n: int, out: Path, venue: str) -> None:
    """Draw what the [STOP] tokens attend to, on prefixes of high and low score (STOP, Fig. 7); engine hf."""
    from harness.studies.attention_figure import attention_figure, scored

    if on.engine.spec["engine"] != "hf":
        raise PathpruneError(f"attention is read on engine hf, not {on.engine.spec['engine']}")
    paths, scores, adapter = scored(on.task, on.engine, spec, on.prefix, problems, n, on.seed)
    stem = out / f"{on.task.name}-{on.engine.spec['model']}-L{on.prefix}-attention"
    attention_figure(on.engine, paths, scores, adapter, stem, venue)
    console.print(f"wrote {stem}.png, .pdf, .csv")
