"""Verbs that import paths sampled elsewhere, and export pools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness import advice
from harness.api import PathpruneError
from harness.cli.base import asked, cli, console, steps, where
from harness.cli.values import COUNT, FOLDER, OUT_FOLDER, PATHS, TEXT, Amount, OneOf
from harness.where import Where, given

SHOWN = 10  # skipped rows that are listed


def _grades() -> list[str]:
    return ["given", "ours", "both"]


@cli.command("import")
@click.argument("files", nargs=-1, required=True, type=TEXT)
@click.option("--name", required=True, type=TEXT, help="name of the pool, for --pool NAME")
@click.option(
    "--map",
    "mapped",
    multiple=True,
    type=TEXT,
    help="which field holds what, as in text=completion; finish= reads no field; may be repeated",
)
@click.option("--shape", type=TEXT, help="file format, by name  [default: detected]")
@click.option(
    "--grades",
    type=OneOf("grades", _grades),
    help="given, ours or both  [default: both if every path has a grade, else ours]",
)
@click.option(
    "--tokenizer", type=TEXT, help="model name, folder or Hub id whose tokenizer counts texts and decodes token ids"
)
@click.option("--model", type=TEXT, help="the model that sampled the paths; its tokenizer is used")
@click.option("--parameters", type=Amount(1, 1e15), help="the model's active parameters, e.g. 8e9, for FLOPs")
@click.option(
    "--golds",
    type=TEXT,
    help="file of problems with gold answers (id, answer), for paths whose files have none",
)
@click.option("--skip-bad", is_flag=True, help="go on without rows that are wrong, and list them")
@click.option("--pools", default="results/pools", show_default=True, type=OUT_FOLDER, help="where imported pools lie")
def import_files(
    files: tuple[str, ...], name: str, mapped: tuple[str, ...], tokenizer: str | None, model: str | None, pools: Path, **rest: Any
) -> None:  # fmt: skip
    """Import paths that were sampled elsewhere as a pool, for --pool NAME."""
    from harness import session

    if tokenizer and model:
        raise PathpruneError("--model sets the tokenizer; leave out --tokenizer")
    mapping = dict(_pair(part) for text in mapped for part in text.split(","))
    pool = session.import_pool(files, name, mapping=mapping, tokenizer=tokenizer or model, pools=pools, **rest)
    for line in summary(pool):
        console.print(line)


def _pair(text: str) -> tuple[str, str]:
    field, equals, name = text.partition("=")
    if not (equals and field.strip()):
        raise PathpruneError(f"--map {text!r} is not WHAT=FIELD, as in text=completion; WHAT= reads nothing")
    return field.strip(), name.strip()


def summary(pool: Any) -> list[str]:
    """Lines on what was imported, and which data its paths have and lack."""
    about = pool.about
    few, most = about["n"]["min"], about["n"]["max"]
    each = f"{few}" if few == most else f"{few} to {most}"
    lines = [
        f"imported {about['paths']:,} paths of {about['problems']:,} problems ({each} each) as {pool.name}: mean length "
        f"{about['lengths']['mean']:,.0f} {about['unit']}, shape {about['shape']}"
    ]
    have = [name for name in about["signals"] if pool.has(name)]
    partial = [f"{name} ({count:,} paths)" for name, count in about["signals"].items() if count and not pool.has(name)]
    lines.append(
        f"every path has: {', '.join(have) or 'its length alone'}"
        + (f"; some have: {', '.join(partial)}" if partial else "")
    )
    if about["grades"] == "both":
        lines.append(
            f"grades are the file's; ours differ on {about['disagreements']:,} paths ({pool.folder / 'disagreements.jsonl'})"
        )
    else:
        lines.append(f"grades: {about['grades']}")
    odd = {"truncated": "cut by a limit", "unknown_finish": "without a recorded end", "duplicates": "twice in a problem", "empty": "empty",
           "unanswered": "without an answer"}  # fmt: skip
    if counted := [f"{about[key]:,} {what}" for key, what in odd.items() if about.get(key)]:
        lines.append(f"paths: {', '.join(counted)}")
    if clipped := about.get("clipped"):
        told = ", ".join(f"{count:,} of {name}" for name, count in clipped.items())
        lines.append(f"numbers beyond the range of float16, stored as 65,504 or -65,504: {told}")
    skipped = about.get("skipped", [])
    lines += [f"left out: {line}" for line in skipped[:SHOWN]] + [f"and {len(skipped) - SHOWN:,} more"] * (
        len(skipped) > SHOWN
    )
    return [*lines, f"bench it: {advice.command('bench', pool=pool.name, pruner='all-registered')}"]


@cli.command("export-pool")
@where
@click.option("--n", type=PATHS, help="paths per problem of a bank  [default: 64]")
@click.option("--problems", type=COUNT, help="test problems of a bank  [default: the task's]")
@click.option("--bank", default="results/bank", show_default=True, type=FOLDER, help="sampled paths")
@click.option("--out", required=True, type=OUT_FOLDER, help="a new folder")
@click.option("--push", "repository", type=TEXT, help="upload it to the hub as this data set, OWNER/NAME")
@click.option("--private", is_flag=True, help="with --push: a data set that only you see")
@click.option("--ship", is_flag=True, help="a folder that benches take as it is, with the scores of --results")
@click.option("--results", default="results/published", show_default=True, type=FOLDER, help="of --ship: scores")
@click.option("--statistics", type=TEXT, help="of --ship: token statistics, a,b,c  [default: those that fit]")
@click.option("--licence", type=TEXT, help="of --ship: of the model's weights, for the card")
def export_pool(
    on: Where, n: int | None, problems: int | None, bank: Path, out: Path, repository: str | None, private: bool, ship: bool, **rest: Any
) -> None:  # fmt: skip
    """Write an imported pool, or the banked paths of a task, as a Parquet data set with a card."""
    from harness.imports import exporting
    from harness.session import run_of
    from harness.spec import Stage

    if private and not repository:
        raise PathpruneError("--private needs --push OWNER/NAME; give both")
    if on.pool is not None and (n is not None or problems is not None):
        raise PathpruneError("a pool is exported whole; leave out --n and --problems")
    if ship:
        _ship(on, given(n, 64), problems, bank, out, repository, **rest)
        return
    if given_in_vain := [name for name in ("results", "statistics", "licence") if asked(name)]:
        raise PathpruneError(f"--{given_in_vain[0]} needs --ship; give both")
    with steps("export") as progress:
        if on.pool is not None:
            exporting.export_pool(on.pool, out, progress)
        else:
            run = run_of(on, given(n, 64), (Stage(on.prefix, 1),), problems, "results/local", bank)
            exporting.export_bank(run, out, progress)
    console.print(f"wrote {out}; import it with: {advice.command('import', file=out, name='NAME')}")
    if repository:
        console.print(f"pushed to {exporting.push_pool(out, repository, private)}")


def _ship(
    on: Where, n: int, problems: int | None, bank: Path, out: Path, repository: str | None, results: Path, statistics: str | None,
    licence: str | None,
) -> None:  # fmt: skip
    from harness.session import run_of, ship_pool
    from harness.spec import Stage

    if on.pool is not None or repository:
        raise PathpruneError("--ship writes banked paths to a folder; leave out --pool and --push")
    run = run_of(on, n, (Stage(on.prefix, 1),), problems, results, bank)
    wanted = None if statistics is None else [name.strip() for name in statistics.split(",") if name.strip()]
    pool = ship_pool(run, out, licence=licence or "", statistics=wanted)
    size = sum(file.stat().st_size for file in pool.folder.rglob("*") if file.is_file())
    there = ", ".join(pool.statistics) or "no token statistics"
    if not pool.about["prefixes"]:
        console.print(f"no scores are included: {results} has none for these paths", style="yellow")
    console.print(f"wrote {out}: {size / 1e6:.1f} MB, with {there}; bench it: {advice.command('bench', pool=out)}")


@cli.command("restore")
@click.argument("pool", type=TEXT)
@click.option("--pools", default="results/pools", show_default=True, type=FOLDER, help="where pools lie")
@click.option("--bank", default="results/bank", show_default=True, type=OUT_FOLDER, help="sampled paths")
def restore(pool: str, pools: Path, bank: Path) -> None:
    """Put the paths of a shipped pool into the bank: runs with its model go on from them."""
    from harness.imports import restoring
    from harness.session import open_pool

    opened = open_pool(pool, pools)
    with steps(f"restore {opened.name}") as progress:
        folder = restoring.restore(opened, bank, progress).folder
    console.print(f"{opened.about['paths']:,} paths of {opened.about['problems']:,} problems are in {folder}")
