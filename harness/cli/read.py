"""Verbs that read records: no engine, no sampling."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial, wraps
from itertools import count
from pathlib import Path
from typing import Any, get_args

import click

from harness import advice
from harness.api import PathpruneError
from harness.cli.base import ENDED, LOCAL, PUBLISHED, VENUE, asked, bar, cli, comparison, console, published
from harness.cli.values import COUNT, FILE, FOLDER, OUT_FOLDER, PATHS, TEXT, Amount, OneOf, Text, Whole, out_file

HANDS = "task=hands,model=hands,engine=hf"
ONE = f"{HANDS},prefix=22"  # the table that the README shows


def report_file(given: Path | None, results: Path, name: str) -> Path:
    """The file of a report: the one that is given, or a usual one that is never the published report of other records."""
    if given is not None:
        return given
    published = results.absolute() == Path(PUBLISHED).absolute() or not Path(PUBLISHED).is_dir()
    file: Path = REPORT.convert(str(Path("results" if published else results) / name), None, None)
    return file


def _named(report: str, ended: str) -> str:
    """The usual file of a report; one of the rule ``bypass`` has its own, so that it never replaces the published one."""
    return f"{report}.md" if ended == "count" else f"{report}-{ended}.md"


def usual_report(name: str) -> str:
    """The default of ``report_file`` as a help text says it."""
    return f"results/{name}; of records that are not the published ones {name} in their folder"


REPORT = out_file(".md")


# What a frontier plays besides the lanes that every table has.
SCORERS = click.option(
    "--scorer",
    "scorers",
    type=TEXT,
    help="a,b,c: scorers replayed also with two and three cuts and with a stopping rule  [default: stop, if benched]",
)
RULES = click.option(
    "--rule",
    "rules",
    type=TEXT,
    default="asc",
    show_default=True,
    help="a,b,c: stopping rules, replayed alone and after each scorer",
)
DRAWS = click.option("--draws", type=Whole(1, 10**4), default=16, show_default=True, help="random launches per setting")


class Part(Text):
    """The name of a generated part, as in a README's markers."""

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the name, or fail with the reason."""
        text = super().convert(value, param, ctx)
        if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
            self.fail(f"{text!r} is not a marker name: use letters, digits, - and _", param, ctx)
        return text


PART = Part()


def _figures() -> list[str]:
    from harness.report.figures import FIGURES

    return list(FIGURES)


def _kinds_of_paths() -> list[str]:
    from harness.report.problem import WHICH

    return list(WHICH)


def only_option(default: str | None = "*", told: str = "") -> Callable[[Any], Any]:
    """Add ``--only`` and ``--pool``, which select tables. ``told`` describes a default that is computed."""
    shown = "select tables by terms, e.g. task=hands,model=hands,engine=hf,prefix=22, or by a glob over their names; A|B selects both"
    only = click.option("--only", type=TEXT, default=default, show_default=told or True, help=shown)
    return lambda command: only(_pool_option(command))


def _pool_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--pool NAME``: the tables of an imported pool, by default in the folder that bench writes."""

    @wraps(command)
    def called(pool: str | None, **rest: Any) -> Any:
        if pool is not None:
            if asked("only"):
                raise PathpruneError("--pool selects the tables; leave out --only")
            rest["only"] = f"task={pool}"
            if not asked("results"):
                rest["results"] = Path(LOCAL)
        return command(**rest)

    return click.option("--pool", type=TEXT, help="tables of this imported pool, by default in results/local")(called)


@cli.command()
@published
@click.option("--keep", type=PATHS, help="paths finished  [default: 8; of imported pools an eighth of their paths]")
@click.option(
    "--out",
    "outs",
    multiple=True,
    show_default=usual_report("leaderboard.md"),
    type=out_file(".md", ".tex", ".csv", ".html"),
    help="output file, may be repeated; the suffix sets the format: .md, .tex, .csv, .html",
)
@click.option(
    "--figures",
    default="results/figures",
    show_default=True,
    type=FOLDER,
    help="figures that Markdown shows, from plot",
)
@only_option()
@click.option("--part", type=PART, default="leaderboard", show_default=True, help="which markers to fill in a README")
@click.option(
    "--findings",
    "findings_file",
    type=FILE,
    help="findings to include in the HTML page  [default: results/findings.md for published records]",
)
@click.option(
    "--bank",
    default="results/bank",
    show_default=True,
    type=FOLDER,
    help="bank with the texts of the paths that the page shows",
)
@click.option("--brief", is_flag=True, help="only the best method of each type, chosen on held-out problems; .md")
@comparison
def leaderboard(
    results: Path, keep: int | None, outs: tuple[Path, ...], figures: Path, only: str, part: str, findings_file: Path | None, bank: Path, brief: bool,
    vote: str | None, ended: Any,
) -> None:  # fmt: skip
    """Write all tables of a results folder as Markdown (a file, or a README's marked part), LaTeX, CSV or HTML."""
    from harness import report
    from harness.report.parallel import each_table

    writers: dict[str, Callable[[Any, int, Path, Path], None]] = {
        ".md": partial(_markdown, part=part),
        ".tex": _latex,
        ".csv": _csv,
        ".html": partial(_page, findings=_findings_of(results, findings_file), bank=bank),
    }
    if len({out.absolute() for out in outs}) < len(outs):
        raise PathpruneError("--out names a file twice")
    outs = outs or (report_file(None, results, "leaderboard.md"),)
    keep, chosen = _with_enough_paths(report.selected(results, only), keep, f"{results} for {only}")
    if brief:
        _brief(chosen, keep, outs)
        return
    chosen.sort(key=lambda group: -len(group.judged) * group.pool.lengths.size)  # the most expensive tables first
    curved = any(out.suffix == ".html" for out in outs)
    counted = partial(_table, keep=keep, ended=ended, vote=vote, curved=curved)
    with bar("tables", len(chosen)) if len(chosen) > 1 else nullcontext(_silent) as progress:
        numbers = count(1)
        large = each_table(counted, chosen, lambda table: progress(next(numbers), table[0].slug))
    large.sort(key=lambda table: (str(table[0].folder), table[0].prefix))
    for out in outs:
        writers[out.suffix](large, keep, out, figures)
        console.print(f"wrote {out}")


def _with_enough_paths(groups: Any, keep: int | None, told: str) -> tuple[int, list[Any]]:
    """Paths finished, and the tables that have as many; where nobody says how many, those in which some are pruned."""
    from harness.report import usual_keep

    kept = max(map(usual_keep, groups)) if keep is None else keep
    least = kept + 1 if keep is None else kept
    chosen = [group for group in groups if group.pool.n >= least]
    if not chosen:
        few = f"fewer than --keep {kept} paths" + (", or as many" if keep is None else "")
        raise PathpruneError(f"the pools under {told} have {few}; give a smaller --keep")
    for group in groups:
        if group.pool.n < least:
            console.print(f"left out, with {group.pool.n} paths (--keep is {kept}): {group.title}", style="yellow")
    return kept, chosen


def _silent(done: int, note: str) -> None:
    """No bar: one table takes seconds."""


def _brief(groups: Any, keep: int, outs: tuple[Path, ...]) -> None:
    from harness.report import brief

    if others := [out for out in outs if out.suffix != ".md"]:
        raise PathpruneError(f"--brief writes Markdown, not {others[0]}; give --out a name that ends in .md")
    if asked("vote") or asked("ended"):
        raise PathpruneError("--brief always shows majority votes and counts ended paths; leave out --vote and --ended")
    for out in outs:
        brief.write(groups, keep, out)
        console.print(f"wrote {out}")


def _table(group: Any, keep: int, ended: Any, vote: str | None, curved: bool) -> tuple[Any, Any, Any]:
    """(group, rows, curves if ``curved``) of one table."""
    from harness.report.rows import rows
    from harness.report.scaling import scaling_data

    return group, rows(group, keep, ended, vote), scaling_data(group) if curved else None


def _markdown(large: Any, keep: int, out: Path, figures: Path, part: str) -> None:
    from harness.report.tables import write_leaderboard

    write_leaderboard(_tables(large), keep, out, figures, part)


def _latex(large: Any, keep: int, out: Path, figures: Path) -> None:
    from harness.report import latex
    from harness.store.files import writable

    with writable(out) as part:
        part.write_text(latex.document(_tables(large), keep))


def _csv(large: Any, keep: int, out: Path, figures: Path) -> None:
    from harness.report.sheet import sheet
    from harness.store.files import writable

    with writable(out) as part:
        sheet(_tables(large), keep).to_csv(part, index=False)


def _tables(large: Any) -> Any:
    """The tables without their curves."""
    return [(group, rows) for group, rows, _ in large]


def _findings_of(results: Path, given: Path | None) -> Path | None:
    """The findings file for a results folder: the given one, or the published one for published records."""
    if given is not None:
        if not given.is_file():
            raise PathpruneError(f"no findings at {given}; write them with: pathprune findings --out {given}")
        return given
    usual = Path("results/findings.md")
    return usual if results == Path(PUBLISHED) and usual.is_file() else None


def _page(large: Any, keep: int, out: Path, figures: Path, findings: Path | None, bank: Path) -> None:
    from harness.report.examples import examples
    from harness.report.order import foremost
    from harness.report.page import write_page
    from harness.report.table import Table

    first = foremost([group for group, _ in _tables(large)])[0]
    shown = examples(first, keep, Table(first, (), keep, bank).show)
    if not shown:
        console.print(f"{out} shows no paths: {bank} has none for {first.slug}, or none with text")
    write_page(_tables(large), {group.slug: curves for group, _, curves in large}, keep, out, findings, shown)


@cli.command()
@published
@only_option()
@click.option(
    "--cost",
    type=OneOf("cost", lambda: ["tokens", "flops"]),
    default="tokens",
    show_default=True,
    help="what budgets are of",
)
@click.option(
    "--metric",
    type=OneOf("metric", lambda: ["voted", "accuracy", "matched"]),
    default="voted",
    show_default=True,
    help="majority vote (cons), accuracy of kept paths (avg), or avg beyond what path lengths explain",
)
@click.option(
    "--draws", type=Whole(1, 10**6), default=100, show_default=True, help="random launches per setting for votes"
)
@ENDED
@click.option(
    "--out", show_default=usual_report("budgets.md"), type=REPORT, help="Markdown; a .csv is written beside it"
)
def budgets(results: Path, only: str, cost: Any, metric: Any, draws: int, ended: Any, out: Path | None) -> None:
    """Every method at matched cost: within budgets, by area, and what no pruning's accuracy costs; .md and .csv."""
    from harness import report
    from harness.report import budgets as matched

    out = report_file(out, results, _named("budgets", ended))
    chosen = report.selected(results, only)
    tables = []
    with bar("tables", len(chosen)) as progress:
        for number, group in enumerate(chosen, 1):
            tables.append(matched.budgets(group, cost, metric, draws, ended))
            progress(number, group.slug)
    matched.write(tables, out)
    console.print(f"wrote {out}")


@cli.command()
@published
@only_option()
@SCORERS
@RULES
@DRAWS
@ENDED
@click.option(
    "--out", show_default=usual_report("frontier.md"), type=REPORT, help="Markdown; a .csv is written beside it"
)
@click.option("--figures", type=OUT_FOLDER, default="results/figures", show_default=True, help="folder of the figures")
@VENUE
def frontier(
    results: Path, only: str, scorers: str | None, rules: str, draws: int, ended: Any, out: Path | None, figures: Path,
    venue: str,
) -> None:  # fmt: skip
    """Compare pruning, early stopping and both: majority vote, tokens and latency within budgets; .md, .csv, figure."""
    from harness import session

    out = report_file(out, results, _named("frontier", ended))
    found = session.frontier(results, only=only, scorers=scorers, rules=rules, draws=draws, ended=ended)
    found.write(out)
    console.print(f"wrote {out}")
    for one in found:
        console.print(f"wrote {one.plot(figures / one.slug, venue).stem}.png, .pdf, .csv")


@cli.command()
@published
@click.option("--ablations", default="results/ablations", show_default=True, type=FOLDER, help="what ablation wrote")
@click.option(
    "--frontier",
    "frontier_file",
    default="results/frontier.csv",
    show_default=True,
    type=FILE,
    help="what frontier wrote",
)
@click.option("--law", "law_file", default="results/law.json", show_default=True, type=FILE, help="what law fit wrote")
@click.option(
    "--across", type=TEXT, default="*", show_default=True, help="tables to compare side by side, selected as by --only"
)
@only_option(ONE)
@click.option("--out", show_default=usual_report("findings.md"), type=REPORT, help="Markdown")
def findings(
    results: Path, ablations: Path, frontier_file: Path, law_file: Path, across: str, only: str, out: Path | None
) -> None:
    """Test the claims of STOP's paper: confirmed, not confirmed or undecided, on one table and across models and tasks."""
    from harness import report
    from harness.studies import evidence
    from harness.studies import findings as study

    out = report_file(out, results, "findings.md")
    chosen = report.selected(results, only)
    if len(chosen) != 1:
        raise PathpruneError(
            f"--only {only} selects {len(chosen)} tables under {results}, and findings need exactly one; add a term: "
            + ", ".join(group.slug for group in chosen)
        )
    claims = [*study.claims(ablations, chosen[0], frontier_file), *study.with_tools(results)]
    for claim in claims:
        console.print(f"{claim.verdict:<32}{claim.text}: {claim.measured} {claim.value}", markup=False)
    columns = evidence.columns(report.selected(results, across), ablations, frontier_file, law_file)
    for text in evidence.verdicts(columns):
        console.print(text, markup=False)
    study.write(claims, ablations, out, evidence.markdown(columns) if columns else "")
    console.print(f"wrote {out}")


@cli.group()
def law() -> None:
    """The retention law: which fraction of the launched paths to finish (STOP, Eq. 7)."""


@law.command()
@click.option("--results", default="results/law", show_default=True, type=FOLDER, help="folder of records")
@click.option("--pruner", type=TEXT, default="stop", show_default=True, help="whose scores the law is of")
@only_option()
@click.option(
    "--out",
    default="results/law.json",
    show_default=True,
    type=out_file(".json"),
    help="the law; a .csv of its cells is written beside it",
)
@click.option("--figures", default="results/figures", show_default=True, type=OUT_FOLDER, help="folder of the figure")
def fit(results: Path, pruner: str, only: str, out: Path, figures: Path) -> None:
    """Fit 1/gamma = a C^b L^c / T^d to records at four or more prefix lengths, and evaluate it on held-out problems."""
    from harness.studies import law as laws
    from harness.studies.retention_figure import law_figure

    fitted = laws.write(results, pruner, out, only)
    for line in laws.summary(fitted):
        console.print(line, highlight=False)
    law_figure(fitted, figures / out.stem)
    console.print(f"wrote {out}, {out.with_suffix('.csv').name} and the figure {figures / out.stem}.png, .pdf, .csv")


@law.command("show")
@click.option("--law", "file", default="results/law.json", show_default=True, type=FILE, help="what law fit wrote")
@click.option("--out", type=out_file(".md"), help="a README with law markers  [default: print]")
def show_law(file: Path, out: Path | None) -> None:
    """Print the coefficients with intervals beside the paper's, and the law's gain on held-out problems."""
    from harness.report.tables import write_part
    from harness.studies import law as laws

    lines = laws.summary(laws.read(file))
    if out is None:
        click.echo("\n".join(lines))
    else:
        write_part(out, "law", "# Retention law\n\n", "\n".join(lines) + "\n")
        console.print(f"wrote {out}")


@law.command("recommend")
@click.option("--budget", type=Amount(1, 1e12), required=True, help="tokens per problem")
@click.option("--prefix", type=COUNT, required=True, help="prefix length L in tokens")
@click.option("--length", type=Amount(1, 1e12), required=True, help="mean length of a whole path in tokens")
@click.option("--law", "file", default="results/law.json", show_default=True, type=FILE, help="what law fit wrote")
def recommend_by_law(budget: float, prefix: int, length: float, file: Path) -> None:
    """Print how many paths to launch and to finish within a budget, by the fitted law alone."""
    from harness.studies import law as laws

    plan = laws.recommend(laws.read(file), budget, prefix, length)
    console.print(
        f"gamma = {plan.gamma:.3f}: launch n = {plan.n}, finish k = {plan.k} ({plan.spent:,.0f} tokens per problem)"
    )
    console.print(f"expected cons@{plan.k}: {plan.expected or 'n/a'}")
    for warning in plan.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)


@cli.command()
@published
@only_option(None, "the only pool in the folder; for results/published, hands")
@click.option(
    "--budget", type=Amount(1e-3, 1e12), required=True, help="tokens per problem; up to 1, a fraction of the full cost"
)
@click.option("--latency", type=Amount(1, 1e12), help="maximum serial tokens per problem  [default: no limit]")
@SCORERS
@RULES
@DRAWS
@ENDED
@click.option("--law", "file", default="results/law.json", show_default=True, type=FILE, help="what law fit wrote")
def recommend(
    results: Path,
    only: str,
    budget: float,
    latency: float | None,
    scorers: str | None,
    rules: str,
    draws: int,
    ended: Any,
    file: Path,
) -> None:
    """Recommend a policy for a budget: method, numbers of paths, cuts, stopping rule, and its expected accuracy."""
    from harness import session

    only = only or (HANDS if results == Path(PUBLISHED) else "*")
    console.print(
        session.recommend(
            budget,
            results,
            latency=latency,
            only=only,
            scorers=scorers,
            rules=rules,
            draws=draws,
            ended=ended,
            law=file,
        )
    )


@cli.command()
@published
@click.option("--out", default="results/figures", show_default=True, type=OUT_FOLDER, help="folder of the figures")
@only_option()
@click.option(
    "--kind",
    type=OneOf("kind of figure", _figures, several=True),
    default="scaling",
    show_default=True,
    help="kinds of figure, a,b,c, or all",
)
@VENUE
def plot(results: Path, out: Path, only: str, kind: str, venue: str) -> None:
    """Draw figures for every pool and prefix length: PNG, PDF, and the data as CSV."""
    from harness import report
    from harness.report import figures

    kinds = list(figures.FIGURES) if kind == "all" else list(dict.fromkeys(kind.split(",")))
    chosen = report.selected(results, only)
    for group in chosen:
        for name in kinds:
            stem = out / (group.slug if name == "scaling" else f"{group.slug}-{name}")
            drawn = figures.FIGURES[name](group, stem, venue=venue)
            console.print(
                f"{group.slug}: nothing to draw for {name}" if drawn is None else f"wrote {stem}.png, .pdf, .csv"
            )


@cli.command()
@click.argument("problem", type=TEXT)
@published
@only_option(None, "the largest table of current code that has the problem")
@click.option(
    "--pruner",
    "pruners",
    type=TEXT,
    help="methods of the table, a,b,c; the first sorts the paths  [default: stop, or the method with the largest gain]",
)
@click.option("--keep", type=PATHS, help="paths finished  [default: 8; an eighth of an imported pool's paths]")
@click.option(
    "--which",
    type=OneOf("kind of path", _kinds_of_paths, several=True),
    default="all",
    show_default=True,
    help="kept, dropped, right, wrong; dropped,right: paths that are both",
)
@click.option(
    "--chars",
    type=Whole(0),
    default=160,
    show_default=True,
    help="characters shown from a prefix's end; 0: the whole prefix",
)
@click.option("--bank", default="results/bank", show_default=True, type=FOLDER, help="sampled paths, for their texts")
@click.option("--out", type=out_file(".html"), help="a page of its own in place of the terminal")
def show(
    problem: str, results: Path, only: str | None, pruners: str | None, keep: int | None, which: str, chars: int, bank: Path,
    out: Path | None,
) -> None:  # fmt: skip
    """Show the paths of a problem, given by id or number: prefix, score, kept or dropped, answer, right or wrong."""
    from harness import session

    if problem.endswith((".jsonl", ".parquet")):
        raise PathpruneError(f"{problem} is a file of records, not a problem; read it with: pathprune record {problem}")
    found = session.show(problem, pruners, results=results, keep=keep, only=only, bank=bank)
    if out is None:
        console.print(found.only(*which.split(","), characters=chars))
        return
    from harness.report.page import write_problem

    write_problem(found, out)
    console.print(f"wrote {out}")


@cli.command()
@click.argument("file", type=FILE)
def record(file: Path) -> None:
    """Print the spec, provenance and problem count of one record (a journal), or list the records in a snapshot."""
    from harness.store import packed
    from harness.store.records import Record, snapshot_records

    if file.suffix == packed.SUFFIX:
        for record in snapshot_records(file):
            role = record.header.get("role", "pool")
            about = ", ".join(f"{number} {what}" for what, number in _counts(record).items())
            click.echo(f"{record.file.relative_to(file.parent).as_posix()}: {role}, {about}")
    else:
        record = Record.read(file)
        console.print_json(json.dumps(record.header | _counts(record)))


def _counts(record: Any) -> dict[str, int]:
    return {"problems": len(record.lines), "errors": sum("error" in row for row in record.lines.values())}


@cli.command()
@click.argument("folder", default="results/published", type=FOLDER)
@click.option("--drop-stale", is_flag=True, help="drop rows scored by older code of their pruner")
def pack(folder: Path, drop_stale: bool) -> None:
    """Pack the journals of a results folder into snapshots, one Parquet file per pool and prefix length."""
    from harness.report.staleness import is_stale, restated
    from harness.store import records

    pools = records.pools(folder)
    if not pools:
        raise PathpruneError(f"no records under {folder}; run: {advice.command('bench', pruner='stop')}")

    def keeps(header: dict[str, Any]) -> bool:
        stale = drop_stale and "pruner" in header["spec"] and is_stale(header)
        if stale:
            console.print(f"dropped {header['spec']['pruner']} of {header['spec']['task']}, which older code scored")
        return not stale

    for pool in pools:
        for kind in get_args(records.Kind):
            list(records.records(pool, kind))  # never pack a record that reports would refuse
        for file in records.pack(pool, restated, keeps):
            console.print(f"wrote {file}")
