"""The command line: few verbs, few options each. User errors are one line and exit code 2."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatch
from functools import cached_property, wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from harness import registry
from harness.api import PathpruneError, Sampling

INTERRUPTED = 130
console = Console(width=None if sys.stdout.isatty() else 200)


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
def bar(label: str, total: int) -> Iterator[Callable[[int, str], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=Console(stderr=True)
    ) as p:
        row = p.add_task(label, total=total, note="")
        yield lambda done, note: p.update(row, completed=done, note=note)


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
    from harness.bench import Settings, check_signals

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
    from harness.cluster import Cluster, Recipe, parse
    from harness.work import alone

    if workers is None:
        return alone
    address, count = parse(workers)
    recipe = Recipe(on.task_spec, replace(on).open, tuple(p.spec for p in plugins), settings.terms)
    return Cluster(recipe, address, count, gpus_of_an_engine())


def gpus_of_an_engine() -> int:
    import torch

    return int(torch.cuda.is_available())


def choose(specs: str, engine: Any) -> list[registry.Plugin]:
    """The pruners of a comma-separated list; all-registered leaves out what cannot be served here, and says why."""
    from harness import checkpoints

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


def split_specs(specs: str) -> list[str]:
    """``a:x=1,y=2,b`` is two specs: a part with ``=`` before any ``:`` belongs to the one before it."""
    out: list[str] = []
    for part in filter(None, specs.split(",")):
        if out and "=" in part.partition(":")[0]:
            out[-1] += f",{part}"
        else:
            out.append(part)
    return out


def bench_banked(
    settings: Any, plugins: list[registry.Plugin], keep: int, ended: Any, vote: str | None, crew: Any
) -> None:
    from harness import report, tables
    from harness.bench import bench as run
    from harness.rows import rows

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
    from harness.live import run_live, summary
    from harness.loop import Plan
    from harness.work import native

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
    from harness import checkpoints
    from harness.bench import check_signals
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


def label_folder(on: Where, root: Path, **recipe: Any) -> Any:
    from harness.supervision import Labels, Recipe

    prefixes = tuple(on.task.defaults.prefixes) if on.prefix_given is None else (on.prefix_given,)
    fixed: dict[str, Any] = {"prefixes": prefixes, "max_tokens": on.max_tokens, "seed": on.seed + 1}
    given_ones = {k: v for k, v in recipe.items() if v is not None}
    return Labels(root, on.task, on.engine, Recipe(**fixed, **given_ones))


def make_labels(labels: Any) -> None:
    with bar("label problems", labels.recipe.problems) as progress:
        spent = labels.make(lambda done, tokens: progress(done, f"{tokens:,} tokens"))
    console.print(f"{spent:,} tokens generated; labels in {labels.folder}")


@cli.command()
@where
@click.option("--problems", type=int, help="problems of the label split  [default: 2048]")
@click.option("--continuations", type=int, help="K per prefix, the path's own ending included  [default: 2]")
@click.option("--labels", "root", default="results/labels", show_default=True, type=click.Path(path_type=Path))
def label(on: Where, problems: int | None, continuations: int | None, root: Path) -> None:
    """Monte-Carlo success labels for learned pruners, at the task's prefix lengths or at --prefix."""
    make_labels(label_folder(on, root, problems=problems, continuations=continuations))


@cli.command()
@click.argument("spec")
@where
@click.option("--problems", type=int, help="problems of the label split  [default: 2048]")
@click.option("--labels", "root", default="results/labels", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default="results/checkpoints", show_default=True, type=click.Path(path_type=Path))
def train(spec: str, on: Where, problems: int | None, root: Path, out: Path) -> None:
    """Train a learned pruner on labels, which are made first where they are missing."""
    from harness.training import train_pruner

    plugin = registry.pruner(spec)
    if not hasattr(plugin.pruner, "fit"):
        raise PathpruneError(f"pruner {spec!r} learns nothing, so there is nothing to train")
    labels = label_folder(on, root, problems=problems)
    make_labels(labels)
    place = train_pruner(plugin, on.engine, labels, out, console.print)
    console.print(f"checkpoint in {place}")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="bfloat16", show_default=True)
def convert(file: Path, folder: Path, dtype: str) -> None:
    """Make a model folder, which every engine takes, of a GGUF file."""
    from harness.engines.convert import convert as made

    console.print(f"wrote {made(file, folder, dtype)}", markup=False)


@cli.command()
@click.argument("specs")
@where
@click.option("--out", required=True, type=click.Path(path_type=Path))
def export(specs: str, on: Where, out: Path) -> None:
    """Write a model folder with trained adapters that `vllm serve` takes as it is, and print how to serve it."""
    from harness import checkpoints
    from harness.engines.identity import locate
    from harness.engines.vllm.export import export as write

    places = []
    for plugin in map(registry.pruner, split_specs(specs)):
        checkpoints.attach(plugin, on.engine)
        if (folder := getattr(plugin.pruner, "folder", None)) is None:
            raise PathpruneError(
                f"pruner {plugin.name} has no [STOP] tokens, so it needs no export: any served model does"
            )
        places.append(folder)
    command = write(locate(on.model), on.engine.fingerprint, places, out)
    console.print(f"wrote {out}; on a machine with vLLM and pathprune, serve it with:", markup=False)
    click.echo(command)


@cli.command()
@where
@click.option("--n", default=64, show_default=True)
@click.option("--problems", type=int, default=100, show_default=True)
@click.option("--continuations", default=8, show_default=True, help="K per prefix")
@click.option("--results", default="results/local", show_default=True, type=click.Path(path_type=Path))
@click.option("--bank", default="results/bank", show_default=True, type=click.Path(path_type=Path))
def oracle(on: Where, n: int, problems: int, continuations: int, results: Path, bank: Path) -> None:
    """Score test prefixes by Monte-Carlo continuations: the ceiling that tables draw, never a pruner."""
    from harness.bench import Settings
    from harness.oracle import score_oracle

    settings = Settings(on.task, on.engine, problems, n, on.prefix, on.max_tokens, on.seed, results, bank)
    with bar("oracle", problems) as progress:
        spent = score_oracle(settings, continuations, progress)
    console.print(f"{spent:,} tokens generated")


@cli.command()
@click.option("--results", default="results/published", show_default=True, type=click.Path(path_type=Path))
@click.option("--keep", default=8, show_default=True)
@click.option("--out", default="results/leaderboard.md", show_default=True, type=click.Path(path_type=Path))
@click.option("--figures", default="results/figures", show_default=True, type=click.Path(path_type=Path))
@click.option("--only", default="*", help="tables whose figure's name matches, e.g. 'hands-*-L22'")
@comparison
def leaderboard(
    results: Path, keep: int, out: Path, figures: Path, only: str, vote: str | None, ended: Any
) -> None:  # fmt: skip
    """All tables of a results folder as Markdown, to a file or between a README's markers."""
    from harness import report, tables
    from harness.rows import rows

    chosen = [g for g in report.groups(results) if g.pool.n >= keep and fnmatch(g.slug, only)]
    large = [(group, rows(group, keep, ended, vote)) for group in chosen]
    if not large:
        raise PathpruneError(f"no records under {results} for {only}; run: make bench PRUNER=stop")
    tables.write_leaderboard(large, keep, out, figures)
    console.print(f"wrote {out}")


@cli.command()
@click.option("--results", default="results/published", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default="results/figures", show_default=True, type=click.Path(path_type=Path))
def plot(results: Path, out: Path) -> None:
    """cons@N against tokens for every pool and prefix length: PNG, PDF and the data as CSV."""
    from harness import figures, report

    for group in report.groups(results):
        stem = out / group.slug
        figures.scaling_figure(group, stem)
        console.print(f"wrote {stem}.png, .pdf, .csv")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
def show(file: Path) -> None:
    """Spec, provenance and problem count of one record file."""
    from harness.store import Record

    record = Record.read(file)
    errors = sum("error" in line for line in record.lines.values())
    console.print_json(json.dumps(record.header | {"problems": len(record.lines), "errors": errors}))


def main() -> None:
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


if __name__ == "__main__":
    main()
