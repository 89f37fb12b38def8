"""Verbs that make labels, checkpoints and model folders, or move them."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from harness import registry
from harness.api import PathpruneError
from harness.cli.base import bar, cli, console, steps, where
from harness.cli.values import COUNT, FILE, FOLDER, OUT_FOLDER, PATHS, PROCESSES, TEXT, WHOLE, Amount, OneOf, Whole
from harness.hub import is_address
from harness.imports.pool import View
from harness.learn.labels import KINDS, LabelRecipe, Labels
from harness.pools.bank import Bank
from harness.signals import deferred
from harness.spec import Stage, bank_spec
from harness.where import Where

DEVICES = "CUDA_VISIBLE_DEVICES"
SHARE = Amount(0, 1)


def _ablations() -> list[str]:
    from harness.studies.ablation import ABLATIONS

    return sorted(ABLATIONS)


def recipe(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select labels, passed on as ``labels``; every verb that makes or reads labels has them."""
    options = [
        click.option("--problems", type=COUNT, help="problems of the label split  [default: the task's, or 1024]"),
        click.option("--n", type=PATHS, help="paths sampled per problem  [default: the task's, or 32]"),
        click.option(
            "--continuations",
            type=PATHS,
            help="K continuations per prefix, the path's own ending included  [default: the task's, or 32]",
        ),
        click.option("--per-problem", type=PATHS, help="prefixes per problem and prefix length  [default: 16]"),
        click.option("--bounds", type=(SHARE, SHARE), help="pass rates to keep, inclusive  [default: 0.125 0.875]"),
        click.option("--prefixes", type=TEXT, help="prefix lengths, e.g. 16,22,43  [default: the task's, or --prefix]"),
        click.option(
            "--harvest", type=Whole(0), help="label test problems from this number on, with banked paths (K = 1)"
        ),
        click.option(
            "--group",
            type=COUNT,
            default=64,
            show_default=True,
            help="problems labelled in one batch and written together",
        ),
        click.option(
            "--labels",
            "root",
            type=TEXT,
            default="results/labels",
            show_default=True,
            help="folder of label runs, a single label run, or a Hub data set to read, hf://OWNER/NAME[@REVISION]",
        ),
    ]

    @wraps(command)
    def called(on: Where, group: int, root: str, prefixes: str | None, **rest: Any) -> Any:
        shape = {f.name: rest.pop(f.name) for f in fields(LabelRecipe) if f.name in rest}
        return command(on=on, labels=_labels(on, root, group, prefixes, shape), **rest)

    for option in reversed(options):
        called = option(called)
    return called


def _labels(on: Where, root: str, group: int, prefixes: str | None, shape: dict[str, Any]) -> Labels:
    parts = prefixes.split(",") if prefixes else []
    if not all(WHOLE.fullmatch(part) and len(part) < 12 for part in parts):
        raise PathpruneError(f"--prefixes must be a list of integers such as 16,22,43, not {prefixes!r}")
    if len(set(map(int, parts))) < len(parts):
        raise PathpruneError(f"--prefixes {prefixes!r} names a length twice")
    if parts and on.prefix_given is not None:
        raise PathpruneError("--prefixes sets the prefix lengths; leave out --prefix")
    lengths = tuple(map(int, parts))
    if not is_address(root):
        FOLDER.convert(root, None, None)
    if shape.get("harvest") is not None and shape.get("continuations") is None:
        shape["continuations"] = 1
    lengths = lengths or (on.task.defaults.prefixes if on.prefix_given is None else (on.prefix,))
    # A bank holds the paths that bench sampled; labels sampled afresh use another seed.
    seed = on.seed + (shape.get("harvest") is None)
    chosen = dict(on.task.defaults.labels) | {k: v for k, v in shape.items() if v is not None}
    task = _task_of(on, chosen.get("n", 1))
    if on.pool is not None:
        chosen["problems"] = min(chosen["problems"], task.defaults.problems - chosen["harvest"])
    wanted = LabelRecipe(prefixes=tuple(lengths), max_tokens=on.limit, seed=seed, **chosen)
    return Labels(root, task, on.engine, wanted, group)


def _task_of(on: Where, n: int) -> Any:
    """The task; for an imported pool, restricted to problems with ``n`` paths."""
    return on.task if on.pool is None else on.task.with_paths(n)


def make_labels(labels: Labels, bank: Path) -> None:
    """Make missing labels, with a progress bar; ``--harvest`` takes them from the paths in ``bank``."""
    with bar("label problems", labels.recipe.problems) as progress:
        labels.make(lambda done, tokens: progress(done, f"{tokens:,} tokens"), _bank_of(labels, bank))


def _bank_of(labels: Labels, bank: Path) -> Bank | View | None:
    """The bank to harvest labels from; None if labels are sampled."""
    wanted = labels.recipe
    if wanted.harvest is None:
        return None
    from harness.imports.engine import ImportedEngine

    if isinstance(labels.engine, ImportedEngine):
        return labels.engine.view
    return Bank(bank, bank_spec(labels.task, labels.engine, wanted.seed, wanted.max_tokens))


def device_of(index: int, given: str | None) -> str:
    """The GPU for worker number ``index``, round-robin over the ``given`` devices, or over all of the machine's."""
    devices = [device.strip() for device in (given or "").split(",") if device.strip()]
    if given is None:
        return str(index)
    return devices[index % len(devices)] if devices else given


def _help(on: Where, root: Path | str, recipe: LabelRecipe, group: int, bank: Path, index: int, threads: int) -> None:
    """Run one extra worker process on its own GPU, or on its share of the cores."""
    os.environ[DEVICES] = device_of(index, os.environ.get(DEVICES))  # before torch looks
    import torch

    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()

    def leave_with_parent(done: int, tokens: int) -> None:
        if parent is not None and not parent.is_alive():
            sys.exit()

    with suppress(KeyboardInterrupt):
        labels = Labels(root, _task_of(on, recipe.n), on.engine, recipe, group)
        labels.make(leave_with_parent, _bank_of(labels, bank))


@contextmanager
def helpers(on: Where, labels: Labels, bank: Path, workers: int) -> Iterator[None]:
    """Run ``workers - 1`` extra processes that share the same label run, each with its own engine."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    spawn = multiprocessing.get_context("spawn")
    shared = (replace(on), labels.root, labels.recipe, labels.group, bank)
    others = [spawn.Process(target=_help, args=(*shared, i, threads), daemon=True) for i in range(1, workers)]
    with deferred():
        for process in others:
            process.start()
    if others:
        import torch

        torch.set_num_threads(threads)
    yield
    for process in others:
        process.join()


def show_cost(labels: Labels) -> None:
    """Print the cost of the labels per stage, and how many problems and prefixes were kept."""
    cost = labels.cost()
    table = Table("", "paths", "tokens", "seconds", title=f"labels in {labels.folder}")
    for name in ("launched", "continued"):
        values = [getattr(cost, name + part) for part in ("", "_tokens", "_seconds")]
        table.add_row(name, *(f"{value:,.0f}" for value in values))
    console.print(table)
    console.print(
        f"{cost.kept:,} of {cost.problems:,} problems are neither too easy nor too hard: {cost.prefixes:,} prefixes"
    )


BANK = click.option(
    "--bank", default="results/bank", show_default=True, type=FOLDER, help="sampled paths, kept for every later run"
)


@cli.command()
@where
@recipe
@BANK
@click.option(
    "--workers",
    type=PROCESSES,
    default=1,
    show_default=True,
    help="parallel processes: one per GPU, or an equal share of the cores each",
)
def label(on: Where, labels: Labels, bank: Path, workers: int) -> None:
    """Make Monte-Carlo success labels for learned pruners, at the task's prefix lengths or at those given."""
    with helpers(on, labels, bank, workers):
        make_labels(labels, bank)
    show_cost(labels)


@cli.command()
@click.argument("spec", type=TEXT)
@where
@recipe
@BANK
@click.option(
    "--kind", type=OneOf("kind of labels", lambda: KINDS), help="kind of label to train on  [default: the pruner's own]"
)
@click.option("--make-labels", "make", is_flag=True, help="sample the labels that are missing first")
@click.option(
    "--out",
    default="results/checkpoints",
    show_default=True,
    type=OUT_FOLDER,
    help="folder of checkpoints, where bench looks",
)
def train(spec: str, on: Where, labels: Labels, bank: Path, kind: str | None, make: bool, out: Path) -> None:
    """Train a learned pruner on existing labels. Only --make-labels samples new ones."""
    from harness.learn.training import train_pruner, writes

    speaks = writes()
    plugin = registry.pruner(spec)
    if not plugin.traits.learns:
        raise PathpruneError(f"pruner {spec!r} has no trainable parameters; name a learned one, such as stop")
    if make or labels.recipe.harvest is not None:  # harvesting samples nothing
        make_labels(labels, bank)
    labels.require()
    if speaks:
        console.print(f"labels: {labels.folder}", markup=False)
    with steps("train") as progress:
        log = console.print if speaks else lambda line: None
        checkpoint = train_pruner(plugin, on.engine, labels, out, log, progress, kind or "")
    if speaks:
        console.print(f"checkpoint: {checkpoint}", markup=False)


@cli.command()
@click.argument("name", type=OneOf("ablation", _ablations))
@where
@recipe
@BANK
@click.option("--test-problems", type=COUNT, help="test problems  [default: the task's]")
@click.option(
    "--paths", type=PATHS, default=64, show_default=True, help="paths per test problem; an eighth is finished"
)
@click.option("--source", type=TEXT, help="transfer: the task whose labels are used instead")
@click.option(
    "--out",
    default="results/ablations",
    show_default=True,
    type=OUT_FOLDER,
    help="folder of the figure and its numbers",
)
def ablation(
    name: str,
    on: Where,
    labels: Labels,
    bank: Path,
    test_problems: int | None,
    paths: int,
    source: str | None,
    out: Path,
) -> None:
    """Measure one ingredient: labels, tokens, rank, seeds, adapter, equal-budget, budget, prefix or transfer.

    Makes missing labels, then trains and benches each variant.
    """
    from harness.session import run_of
    from harness.studies.ablation import Study

    if (name == "transfer") != bool(source):
        raise PathpruneError("ablation transfer needs --source TASK, and no other ablation takes it")
    run = run_of(on, paths, (Stage(on.prefix, max(1, paths // 8)),), test_problems, out, bank)
    make_labels(labels, bank)
    with steps("ablation") as progress:
        data = Study(name, run, labels, out, console.print, progress, source or "").run()
    for row in data.itertuples():
        console.print(
            f"{row.label:<28}{row.label_tokens:>14,} label tokens  {row.gain:+.3f} [{row.low:.3f}, {row.high:.3f}]  "
            f"{row.difference:+.3f} [{row.difference_low:.3f}, {row.difference_high:.3f}]",
            markup=False,
        )
    console.print(f"table and figure: {out / name}.csv, .png, .pdf", markup=False)


@cli.command()
@click.argument("file", type=FILE)
@click.argument("folder", type=OUT_FOLDER)
@click.option(
    "--dtype",
    type=OneOf("dtype", lambda: ["float32", "bfloat16", "float16"]),
    default="bfloat16",
    show_default=True,
    help="of the weights in the folder",
)
def convert(file: Path, folder: Path, dtype: str) -> None:
    """Convert a GGUF file to a model folder that every engine loads."""
    from harness.engines.convert import convert as write

    console.print(f"wrote {write(file, folder, dtype)}", markup=False)


@cli.command()
@click.argument("folder", type=FOLDER)
@where
@click.option("--out", required=True, type=OUT_FOLDER, help="a new folder")
def adopt(folder: Path, on: Where, out: Path) -> None:
    """Convert a checkpoint in the official STOP repository's layout, for --pruner stop:checkpoint=OUT."""
    from harness.studies.official import adopt as write

    console.print(f"wrote {write(folder, on.engine, out)}; use it with --pruner stop:checkpoint={out}", markup=False)


@cli.command()
@click.argument("spec", type=TEXT)
@click.argument("repository", type=TEXT)
@where
@click.option("--private", is_flag=True, help="a repository that only you see")
def push(spec: str, repository: str, on: Where, private: bool) -> None:
    """Upload a trained pruner's checkpoint to the Hugging Face Hub, for --pruner SPEC:checkpoint=hf://REPOSITORY."""
    from harness.hub import push as upload
    from harness.learn import checkpoints

    plugin = registry.pruner(spec)
    checkpoints.attach(plugin, on.engine)  # never publish a checkpoint that would not load
    checkpoint = checkpoints.locate(plugin, on.engine.fingerprint)
    console.print(
        f"pushed to {upload(checkpoint, checkpoints.read_card(checkpoint), repository, private)}", markup=False
    )


@cli.command()
@click.argument("specs", type=TEXT)
@where
@click.option("--out", required=True, type=OUT_FOLDER, help="a new folder")
def export(specs: str, on: Where, out: Path) -> None:
    """Write a model folder with trained adapters that an unmodified `vllm serve` loads, and print how to serve it."""
    from harness.engines.identity import locate
    from harness.engines.vllm.export import export as write
    from harness.learn import checkpoints
    from harness.registry import split_specs

    names = split_specs(specs)
    if not names:
        raise PathpruneError("no pruner given; name one or more that append tokens, such as stop")
    adapters = []
    for plugin in map(registry.pruner, names):
        checkpoints.attach(plugin, on.engine)
        if (adapter := plugin.adapter_folder) is None:
            raise PathpruneError(
                f"pruner {plugin.name} has no [STOP] tokens, so it needs no export: it runs on any served model"
            )
        adapters.append(adapter)
    command = write(locate(on.model), on.engine.fingerprint, adapters, out, on.engine.spec.get("revision"))
    console.print(
        f"wrote {out}; on a machine with vLLM and pathprune, serve it with the command below. Only that machine can reach it; "
        'for others, add --host and --api-key "$PATHPRUNE_API_KEY": engine vllm-http sends the key in that variable.',
        markup=False,
    )
    click.echo(command)


def _arms() -> list[str]:
    from harness.studies.rollouts import ARMS

    return list(ARMS)


@cli.command()
@click.option("--arm", "arms", multiple=True, type=OneOf("arm", _arms), help="may be repeated  [default: all]")
@click.option("--seeds", type=COUNT, default=3, show_default=True, help="trainings of each arm")
@click.option("--steps", "count", type=COUNT, default=20, show_default=True, help="of each training")
@click.option("--rate", type=Amount(0, 1), default=3e-4, show_default=True, help="learning rate")
@click.option(
    "--out",
    default="results/rollouts",
    show_default=True,
    type=OUT_FOLDER,
    help="folder of trainings and their results",
)
def rollouts(arms: tuple[str, ...], seeds: int, count: int, rate: float, out: Path) -> None:
    """Does pruning help reinforcement learning? GRPO on hands with pruned rollouts; finished trainings are reused."""
    from harness.store.files import writable
    from harness.studies import rollouts as study

    terms = study.Terms(steps=count, rate=rate)
    with steps("rollouts") as progress:
        measured = study.run(terms, arms or _arms(), range(seeds), out, progress)
    text = study.markdown(terms, study.table(measured))
    with writable(out.with_suffix(".md")) as part:
        part.write_text(f"# Pruned rollouts\n\n{text}")
    study.figure(measured, out.with_name("figures") / out.name)
    click.echo(text)
    console.print(f"wrote {out.with_suffix('.md')} and the figure {out.name}.png, .pdf, .csv", highlight=False)
