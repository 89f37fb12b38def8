"""Verbs that make labels, checkpoints and model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness import registry
from harness.api import PathpruneError
from harness.cli.base import Where, bar, cli, console, split_specs, where


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
