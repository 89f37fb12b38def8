"""The Python interface: benchmark pruners and read results. The command line is a thin layer over it.

import pathprune as pp
table = pp.bench("stop,logprob", task="hands", n=64, keep=8)
table.frame()
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, get_args

from harness import advice, registry
from harness.api import PathpruneError, Sampling, UnavailableError
from harness.imports.pool import POOLS, Pool
from harness.learn import checkpoints
from harness.loop import ScoringError, check, decide
from harness.plugins.declared import Method, Plugin
from harness.plugins.objects import remember
from harness.progress import bar, steps
from harness.report.table import Results, Table
from harness.runners.bench import bench as bench_banked
from harness.runners.bench import check_signals
from harness.runners.live import check_live, run_live
from harness.runners.run import Run
from harness.runners.stored import adopt, stored_methods
from harness.runners.work import Crew, alone
from harness.spec import LARGEST, Ended, Pair, Stage, parse_stages, stages_of
from harness.store.records import Record
from harness.text import is_utf8, shown, unknown
from harness.vote import VOTES
from harness.where import Where, given

if TYPE_CHECKING:
    from harness.report import Group
    from harness.report.frontier import Frontiers
    from harness.report.lanes import Table as Lanes
    from harness.report.problem import Shown
    from harness.report.recommend import Recommendation

DERIVED = ("fingerprint", "version", "max_tokens")  # terms that usually follow from others
RESULTS, BANK, LAW = FilePath("results/local"), FilePath("results/bank"), FilePath("results/law.json")


@dataclass(frozen=True, eq=False, repr=False)
class Result(Table):
    """The table of a benchmark, and what the benchmark did.

    ``sampled``: tokens sampled by this call, 0 if everything was stored. ``left_out``: methods of ``all-registered`` that
    cannot run here, with the reason. ``stored``: methods whose scores were shipped with the pool.
    """

    run: Run | None = None
    sampled: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    stored: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Live:
    """Timed runs, one record per pruner."""

    run: Run
    records: Sequence[Record]

    @property
    def failures(self) -> list[str]:
        """The error of each problem without a result."""
        return [row["error"] for record in self.records for row in record.lines.values() if "error" in row]

    def frame(self) -> Any:
        """One row per pruner and problem: kept paths, vote, cost and seconds of each stage, as a pandas DataFrame."""
        import pandas as pd

        rows = [{"pruner": r.header["spec"]["pruner"]} | line for r in self.records for line in r.lines.values()]
        return pd.json_normalize(rows)

    def __rich__(self) -> Any:
        from harness.report.overhead import summary

        return summary(self.records)


def bench(
    pruners: Any = "stop",
    task: Any = None,
    *,
    model: str | None = None,
    engine: Any = "hf",
    sampling: str | Mapping[str, Any] | Sampling = "",
    n: int | None = None,
    keep: int | None = None,
    prefix: Any = None,
    stages: str | Sequence[Pair] | None = None,
    limit: int | None = None,
    problems: int | None = None,
    seed: int = 0,
    vote: str | None = None,
    ended: Ended = "count",
    workers: str | int | None = None,
    results: str | FilePath = RESULTS,
    bank: str | FilePath = BANK,
    progress: bool = True,
    time_limit: float | None = None,
) -> Result:
    """Score the prefixes of a pool of paths with some pruners. Missing paths are sampled, except for an imported pool.

    Args:
        pruners: comma-separated specs (``"stop,deepconf:window=8"``, ``"./mine.py@Mine"``, ``"all-registered"``), or a sequence
            of specs, pruner objects and pruner classes. ``"stop+asc:threshold=0.95"`` is a scorer with a stopping rule: the
            paths that the scorer keeps are finished from the highest score down until the rule stops.
        task: a task's spec, a file of problems, a ``Task``, or a pool of ``import_pool``; "hands" by default. A pool may also
            be the first argument: ``bench(pool, ["jaccard", Mine()])``; without pruners, all registered ones are used.
        model: an embedded model's name, a transformers folder or a hub id; by default the task's.
        engine: an engine's spec such as ``"hf:dtype=bfloat16,device=cuda"``, or an ``Engine``.
        sampling: values that override the task's sampling.
        n: paths launched per problem, 64 by default. For an imported pool, the default uses as many of its paths as possible;
            problems with fewer than n paths are left out.
        keep: paths finished per problem, 8 by default; for an imported pool n / 8.
        prefix: prefix length L in tokens; by default the task's first. For an imported pool also a share of the mean length
            (0.2, the default), words ("30words") or tokens of a tokenizer ("22tokens:FOLDER").
        stages: several cuts instead of ``prefix`` and ``keep``: ``[(16, 32), (43, 8)]`` or ``"16:32,43:8"``. They are replayed
            from the scores of pointwise methods. ``(43, 8, "step")`` or ``"step@43:8"`` cuts each path at the first end of a
            reasoning step from 43 tokens on, ``"forced@43:8"`` at the first multiple of 43 tokens at which it can answer.
        limit: maximum tokens per path; by default the task's.
        problems: number of test problems; by default the task's.
        seed: of the paths' random streams. A procedural task has its own seed for problems: "reasoning_gym:chain_sum,seed=1".
        vote: one vote for all methods, replacing each method's native one.
        ended: whether a path that ended inside a prefix counts towards ``keep`` ("count") or is kept in addition ("bypass").
        workers: number of parallel engines (Ray), or a cluster and a number: ``"ray://host:10001,4"``.
        results: folder of the records. Existing results are not computed again.
        bank: folder of the sampled paths.
        progress: show a progress bar.
        time_limit: seconds that a pruner may take for one problem; beyond it, the problem has an error instead of a score. A
            call into compiled code cannot be interrupted.

    Returns:
        The table; its ``failures`` list the pruners that failed.

    Raises:
        PathpruneError: an error that the user can fix, in one line.
    """
    pruners, task = _in_order(pruners, task)
    where = Where(task, model, engine, sampling, prefix, limit, seed)
    if vote is not None:
        _one_of("vote", vote, VOTES)
    _check_flag("progress", progress)
    if where.pool is not None and workers is not None:
        raise PathpruneError(
            "an imported pool needs no sampling and is always benched in this process; leave out workers"
        )
    n, keep = _sizes(where, n, keep)
    run = run_of(where, n, schedule(where, keep, stages), problems, results, bank, time_limit, ended=ended)
    methods, left_out = choose(pruners, run.engine, partial(_lacks_on, run) if run.is_imported else _lacks_nothing)
    stored = stored_methods(run)
    here = [method for method in methods if not (stored and _stands_stored(run, method.plugins[0], stored))]
    plugins = _one_of_each([method.plugins[0] for method in here])
    for plugin in plugins:
        check_signals(plugin, run.engine)
        if run.is_imported and (trained := _trained_on(run, plugin)):
            raise PathpruneError(f"pruner {plugin.name} {trained}")
    crew = crew_of(workers, where, plugins, run)
    with _shown(progress, run) as step, _remembered(plugins):
        done = bench_banked(run, plugins, step, crew)
    adopt(run, {name: every for name, every in stored.items() if name not in {p.name for p in plugins}})
    pairs = [method for method in methods if len(method.plugins) > 1]
    table = Table.of(run.folder, run.spec, [p.id for p in run.chosen()], vote, run.bank, pairs, time_limit)
    told = vars(table) | {"failures": {**done.failures, **table.failures}}
    left_out = {name: why for name, why in left_out.items() if name not in stored}
    shown = tuple(sorted(stored.keys() - {p.name for p in plugins}))
    return Result(**told, run=run, sampled=done.sampled, left_out=left_out, stored=shown)


def live(
    pruners: Any = "stop",
    task: Any = "hands",
    *,
    model: str | None = None,
    engine: Any = "hf",
    sampling: str | Mapping[str, Any] | Sampling = "",
    n: int = 64,
    keep: int = 8,
    prefix: int | None = None,
    stages: str | Sequence[Pair] | None = None,
    limit: int | None = None,
    problems: int | None = None,
    seed: int = 0,
    vote: str = "majority",
    ended: Ended = "count",
    results: str | FilePath = RESULTS,
    progress: bool = True,
    time_limit: float | None = None,
) -> Live:
    """Run Launch, Check, Resume and Vote live: only the kept paths are finished, and each stage is timed.

    For the arguments see ``bench``. ``vote`` selects the answer; methods with a stopping rule always use the majority vote.
    Sequential stopping rules can run live, alone or after a scorer; other decision rules can only be replayed.

    Returns:
        One record per method.

    Raises:
        PathpruneError: an error that the user can fix, in one line.
    """
    where = Where(task, model, engine, sampling, prefix, limit, seed)
    if where.pool is not None:
        raise PathpruneError(
            f"pool {where.pool.name} was imported, so there is nothing to sample or to time; use bench instead"
        )
    _one_of("vote", vote, VOTES)
    _check_flag("progress", progress)
    run = run_of(where, n, schedule(where, keep, stages), problems, results, BANK, time_limit, ended=ended, vote=vote)
    methods, _ = choose(pruners, run.engine)
    plugins = [plugin for method in methods for plugin in method.plugins]
    for plugin in plugins:
        check_live(plugin, run.engine)
    with _shown(progress, run, "live", len(methods)) as step, _remembered(plugins):
        return Live(run, run_live(run, methods, step))


def import_pool(
    files: str | FilePath | Sequence[str | FilePath],
    name: str,
    *,
    mapping: Mapping[str, str] | None = None,
    shape: str | None = None,
    grades: Any = None,
    tokenizer: str | FilePath | None = None,
    parameters: float | None = None,
    skip_bad: bool = False,
    golds: str | FilePath | None = None,
    pools: str | FilePath = POOLS,
    progress: bool = True,
) -> Pool:
    """Import paths that were sampled elsewhere as a pool, which ``bench`` accepts as its task.

    Args:
        files: JSONL, JSON, CSV or Parquet files, optionally compressed (``.gz``, ``.zst``), a folder of them, or a hub data set.
        name: of the pool, stored in ``pools``/name. An identical earlier import is reused.
        mapping: our field names to the file's, such as ``{"text": "completion", "gold": "target"}``.
        shape: a known file layout; by default it is detected.
        grades: "given" (the file's), "ours" (parsed from the texts and graded) or "both" (the file's; differences from ours are
            reported); by default "both" if the file has grades.
        tokenizer: a model's name, folder or hub id, used to count tokens of texts without counts and to decode token ids.
        parameters: number of model parameters, such as 8e9; needed to show FLOPs.
        skip_bad: skip invalid entries and list them.
        golds: a file of problems with their right answers, matched by id or problem text, for files without gold answers.
        pools: folder of all pools.
        progress: show a progress bar.

    Returns:
        The pool.

    Raises:
        PathpruneError: an error that the user can fix, in one line; no partial import remains.
    """
    from harness.imports.importing import import_files
    from harness.imports.wanted import Wanted
    from harness.imports.watch import SILENT

    listed = [files] if isinstance(files, str | FilePath) else list(files)
    if not listed:
        raise PathpruneError("no file to import; name one or more")
    _check_flag("progress", progress)
    named = None if tokenizer is None else str(tokenizer)
    beside = None if golds is None else str(golds)
    wanted = Wanted(tuple(map(str, listed)), dict(mapping or {}), shape, grades, named, parameters, skip_bad, beside)
    with steps(f"import {name}", in_bytes=True) if progress else nullcontext(SILENT) as step:
        return import_files(wanted, name, _folder("pools", pools), step)


def open_pool(name: str | FilePath, pools: str | FilePath = POOLS) -> Pool:
    """Open an imported pool by its name or folder.

    Raises:
        PathpruneError: there is no such pool, or it is damaged.
    """
    return Pool.open(name, _folder("pools", pools))


def ship_pool(
    run: Run, out: str | FilePath, *, licence: str = "", statistics: Sequence[str] | None = None, progress: bool = True
) -> Pool:
    """Write the banked paths of a run as a pool for distribution: one small file, a card, and the recorded scores.

    Args:
        run: the benchmark; scores are taken from its results folder, except those of outdated code.
        out: the folder to write; its name is the pool's.
        licence: of the model's weights, for the card.
        statistics: token statistics to include; by default those that fit.
        progress: show a progress bar.

    Returns:
        The pool.

    Raises:
        PathpruneError: an error that the user can fix, in one line.
    """
    from harness.imports import shipping
    from harness.imports.watch import SILENT
    from harness.report.staleness import is_stale
    from harness.store import records

    scores, recorded = None, None
    if run.folder in (records.pools(run.results) if run.results.is_dir() else ()):
        recorded = records.pool_of(run.folder).header
        headers = [r.header for r in records.records(run.folder, "judged") if not is_stale(r.header)]
        scores = shipping.Scores(run.folder, headers)
    sampled = {
        "task": run.task.name,
        "task_version": run.task.version,
        "engine": dict(run.spec.engine),
        "seed": run.spec.seed,
        "max_tokens": run.spec.limit,
    }
    about = shipping.About(licence, sampled, recorded)
    with steps("ship") if progress else nullcontext(SILENT) as step:
        return shipping.ship_bank(run, _folder("out", out), scores, about, statistics, step)


def check_pool(pool: Pool | str | FilePath, pools: str | FilePath = POOLS, progress: bool = True) -> list[str]:
    """Verify a stored pool: rows, hashes, sizes, signals and grades.

    Returns:
        One line for each deviation from what was imported; empty if the pool is intact.
    """
    from harness.imports.checking import flaws
    from harness.imports.watch import SILENT

    _check_flag("progress", progress)
    opened = pool if isinstance(pool, Pool) else open_pool(pool, pools)
    with steps(f"check {opened.name}") if progress else nullcontext(SILENT) as step:
        return list(flaws(opened, step))


def results(
    folder: str | FilePath = RESULTS, keep: int | None = None, only: str = "*", bank: str | FilePath = BANK
) -> Results:
    """Read all tables of a results folder, in a fixed order: one per pool and prefix length.

    Args:
        folder: a results folder of ``bench``, or results/published of the repository.
        keep: paths finished per problem; by default 8, or an eighth of imported paths.
        only: tables to read, such as ``"task=hands,prefix=22"`` or a glob over their names.
        bank: folder of the sampled paths, for ``paths()``.

    Raises:
        PathpruneError: an error that the user can fix, in one line.
    """
    _check_only(only)
    if keep is not None:
        _whole("keep", keep)
    return Results.read(_folder("folder", folder), keep, only, _folder("bank", bank))


def show(
    problem: str | int,
    pruners: str | Sequence[str] | None = None,
    *,
    results: str | FilePath = RESULTS,
    keep: int | None = None,
    only: str | None = None,
    bank: str | FilePath = BANK,
) -> Shown:
    """Show the paths of one problem: which ones each method kept or dropped, and whether they are right. Samples nothing.

    Args:
        problem: its id, or its number in the table, from 0.
        pruners: methods of the table, in one string or a sequence; the first one orders the paths. By default stop, or the
            method with the largest gain if stop was not benched.
        results: a results folder of ``bench``, or results/published of the repository.
        keep: paths finished per problem; by default 8, or an eighth of imported paths.
        only: the table, such as ``"task=hands,prefix=22"``; by default the largest up-to-date one that has the problem.
        bank: folder of the sampled paths or of the imported pool, which holds the texts.

    Returns:
        The paths, with ``frame()`` and ``only("dropped", "right")``; terminals and notebooks show them as a table.

    Raises:
        PathpruneError: an error that the user can fix, in one line. Missing texts are only noted.
    """
    from harness.report import selected
    from harness.report.order import foremost
    from harness.report.problem import table_with

    if isinstance(problem, bool) or not isinstance(problem, str | int):
        raise PathpruneError(f"problem must be an id or a number, not {shown(problem)}")
    if keep is not None:
        _whole("keep", keep)
    _check_only("*" if only is None else only)
    tables = foremost(selected(_folder("results", results), "*" if only is None else only))
    group = table_with(tables, problem)
    kept = given(keep, _usual_keep(group))
    found = Table(group, (), kept, _folder("bank", bank)).show(problem, pruners)
    others = [other for other in tables if other is not group and found.problem in other.pool.problems]
    if only is not None or not others:
        return found
    more = "1 more table" if len(others) == 1 else f"{len(others)} more tables"
    told = f"The problem is in {more}; choose one with only, e.g. {_terms(others[0], group)}."
    return replace(found, notes=(*found.notes, told))


def _usual_keep(group: Group) -> int:
    """The default of ``keep``: that of the table, and no more than the paths of a problem."""
    from harness.report import usual_keep

    return min(usual_keep(group), group.pool.n)


def _terms(group: Group, other: Group) -> str:
    """The terms of ``only`` that distinguish a table from another one."""
    from harness.report import facts

    ours, theirs = ({**facts(g.spec), "prefix": str(g.prefix)} for g in (group, other))
    terms = [f"{key}={value}" for key, value in ours.items() if theirs.get(key) != value and key not in DERIVED]
    return ",".join(terms) or group.slug


def frontier(
    results: str | FilePath = RESULTS,
    *,
    only: str = "*",
    scorers: str | Sequence[str] | None = None,
    rules: Any = "asc",
    draws: int = 16,
    ended: Ended = "count",
    progress: bool = True,
) -> Frontiers:
    """Compute accuracy, tokens and latency of every policy that the recorded scores allow. Samples nothing.

    A policy is a number of paths with cuts, a stopping rule, or both. For each budget, every kind of policy (a lane) uses
    the settings that are best on held-out problems.

    Args:
        results: a results folder of ``bench``, or results/published of the repository.
        only: pools and prefix lengths, such as ``"task=hands,engine=hf"`` or a glob over their tables' names.
        scorers: methods to try also with two and three cuts, and with stopping rules: names in one string or a sequence. By
            default stop, if it was benched. Every method is tried with one cut.
        rules: stopping rules to try alone and after scorers: specs in one string (``"asc,./mine.py@Mine"``), or a sequence of
            specs, objects and classes. A rule without options is tried at every value of its ``grid``. Registered rules are
            always tried alone.
        draws: random launches per setting.
        ended: whether a path that ended inside a prefix counts towards the number kept ("count") or is kept in addition
            ("bypass", the official STOP code).
        progress: show a progress bar.

    Returns:
        One frontier per pool, each with ``frame()`` and ``plot()``.

    Raises:
        PathpruneError: an error that the user can fix, in one line.
    """
    from harness.report.frontier import frontiers

    _one_of("ended", ended, get_args(Ended))
    tables, chosen, behind = _policies(results, only, scorers, rules, draws, progress)
    with bar("frontier", 1000) if progress else nullcontext(_silent) as step:
        return frontiers(tables, chosen, behind, draws, progress=step, ended=ended)


def recommend(
    budget: float,
    results: str | FilePath = RESULTS,
    *,
    latency: float | None = None,
    only: str = "*",
    scorers: str | Sequence[str] | None = None,
    rules: Any = "asc",
    draws: int = 16,
    ended: Ended = "count",
    law: str | FilePath = LAW,
    progress: bool = True,
) -> Recommendation:
    """Recommend a policy for a budget from the records of one pool: method, numbers of paths, cuts and stopping rule.

    For the other arguments see ``frontier``.

    Args:
        budget: tokens per problem; a value of at most 1 is a share of the tokens for finishing all paths.
        latency: maximum serial tokens per problem; None: no limit.
        law: a file of ``pathprune law fit``; its plan for the budget is shown too if its method was benched.

    Returns:
        The policy with its expected accuracy, tokens and latency.

    Raises:
        PathpruneError: an error that the user can fix, in one line, or a budget that no policy meets.
    """
    from harness.report.lanes import lanes, without_lane
    from harness.report.recommend import recommend as best_of
    from harness.studies.law_plans import law_plans

    _above_zero("budget", budget)
    _above_zero("latency", 1.0 if latency is None else latency)
    _one_of("ended", ended, get_args(Ended))
    tables, chosen, behind = _policies(results, only, scorers, rules, draws, progress)
    if len(tables) > 1:
        folders = ", ".join(table.group.folder.name for table in tables)
        raise PathpruneError(f"{only} matches {len(tables)} pools under {results}: {folders}; add a term, e.g. task=")
    table = tables[0]
    full = float(table.pool.lengths.sum(1).mean())
    tokens = budget * full if budget <= 1 else budget
    with steps("lanes") if progress else nullcontext(_silent) as step:
        played = lanes(table, chosen[0], behind, draws, step, ended)
    advised = best_of(played, tokens, float("inf") if latency is None else latency, table.group.unit)
    notes = (*without_lane(table.left_out), *law_plans(_folder("law", law), table, tokens, draws, ended))
    title = table.group.title.partition(", L =")[0] + f", ended {ended}" * (ended != "count")
    return replace(advised, full=full, title=title, notes=notes)


def _policies(
    results: Any, only: Any, scorers: Any, rules: Any, draws: Any, progress: Any
) -> tuple[list[Lanes], list[list[str]], list[Plugin]]:
    """Validate the arguments of a frontier or recommendation; returns the recorded pools, the scorers of each, and the rules."""
    from harness.report import selected
    from harness.report.lanes import rules_of, scorers_of, tables_of

    _check_flag("progress", progress)
    _whole("draws", draws)
    _check_only(only)
    names = registry.split_specs(scorers) if isinstance(scorers, str) else scorers
    if names is not None and not (isinstance(names, list | tuple) and all(isinstance(n, str) for n in names)):
        raise PathpruneError(f"scorers must be names of methods, not {shown(scorers)}")
    listed = registry.split_specs(rules) if issubclass(type(rules), str) else rules
    listed = listed if issubclass(type(listed), Sequence) else [listed]
    behind = {plugin.name: plugin for plugin in rules_of(listed)}
    tables = tables_of(selected(_folder("results", results), only, places=True))
    return tables, scorers_of(tables, names), list(behind.values())


def _silent(*told: Any) -> None:
    """Show no progress bar."""


def run_of(
    where: Where,
    n: int,
    stages: tuple[Stage, ...],
    problems: int | None,
    results: str | FilePath,
    bank: str | FilePath,
    time_limit: float | None = None,
    **rest: Any,
) -> Run:
    """The run at ``where``; by default on the task's number of problems.

    Raises:
        PathpruneError: an invalid number, folder or schedule.
    """
    if problems is not None and (not isinstance(problems, int) or isinstance(problems, bool)):
        raise PathpruneError(f"problems must be an integer, not {shown(problems)}")
    if problems is not None and problems > LARGEST["problems"]:
        raise PathpruneError(f"problems must be at most {LARGEST['problems']}, not {shown(problems)}")
    folders = _folder("results", results), _folder("bank", bank)
    spec, task = where.spec(n, stages, **rest), where.task
    count = given(problems, task.defaults.problems)
    if where.pool is not None:
        task, folders = task.with_paths(n), (folders[0], where.pool.folder)
        count = min(count, task.defaults.problems)
    return Run(spec, task, where.engine, count, *folders, time_limit)


def _in_order(pruners: Any, task: Any) -> tuple[Any, Any]:
    """(pruners, task) in this order, with defaults; a pool may have been given first."""
    if issubclass(type(pruners), Pool):  # by type: reading ``__class__`` of a third-party object may raise
        return ("all-registered" if task is None else task), pruners
    return pruners, ("hands" if task is None else task)


def _sizes(where: Where, n: int | None, keep: int | None) -> tuple[int, int]:
    """Numbers of paths launched and kept, as given or by default."""
    if where.pool is None:
        return given(n, 64), given(keep, 8)
    n = given(n, where.pool.best_n())
    return n, given(keep, max(1, n // 8))


def _lacks_nothing(plugin: Plugin) -> str:
    return ""


def _trained_on(run: Run, plugin: Plugin) -> str:
    """Which problems of this run a learned method was trained on; "" for none. A pool has only one split."""
    plugin = plugin.scorer or plugin
    if not plugin.needs_checkpoint:
        return ""
    card = checkpoints.read_card(checkpoints.locate(plugin, run.engine.fingerprint))
    first = card.get("labels", {}).get("harvest")
    if card.get("task") != run.task.name or not isinstance(first, int) or first >= run.problems:
        return ""
    mend = f"bench only the {first} before them: {advice.option(problems=first)}" if first else "bench another pool"
    return (
        f"was trained on problems of this pool, from number {first} on; {mend}, or train it on a part: --harvest NUMBER"
    )


def _lacks_on(run: Run, plugin: Plugin) -> str:
    """Why a method cannot run on these imported paths; "" if it can. It is tried on two of them.

    A trial is needed because a method does not declare which token statistics it reads, nor whether it reads token ids.
    """
    if trained := _trained_on(run, plugin):
        return trained
    needs = plugin.traits.needs
    if (
        (needs and not needs & {"token_stats", "forced", "rewards"})
        or plugin.needs_checkpoint
        or run.engine.inner is not None
    ):
        return ""
    paths = run.engine.view.get(run.chosen()[0], run.spec.seed)[:2]
    try:
        if plugin.traits.decides:
            decide(plugin.pruner, paths, run.engine, run.task, run.spec.seed, run.time_limit, plugin.scores_by)
        else:
            cut = [p.cut(run.spec.prefixes[0], run.engine.decode) for p in paths]
            check(plugin.pruner, cut, run.engine, run.task, run.spec.seed, run.time_limit)
    except ScoringError as error:
        return str(error) if isinstance(error.__cause__, UnavailableError) else ""
    return ""


def _stands_stored(run: Run, plugin: Plugin, stored: Collection[str]) -> bool:
    """Whether to use the scores shipped with the pool, because the method cannot run on its paths here."""
    return plugin.name in stored and bool(checkpoints.unavailable(plugin, run.engine) or _lacks_on(run, plugin))


def _folder(name: str, given: Any) -> FilePath:
    if not isinstance(given, str | FilePath) or not str(given) or "\0" in str(given) or not is_utf8(str(given)):
        raise PathpruneError(f"{name} must be the path of a folder, not {shown(given)}")
    return FilePath(given)


def _one_of(name: str, given: Any, known: Collection[str]) -> None:
    if not isinstance(given, str) or given not in known:
        raise PathpruneError(unknown(name, given if isinstance(given, str) else shown(given), list(known)))


def _check_only(only: Any) -> None:
    if not isinstance(only, str):
        raise PathpruneError(f"only must be terms such as 'task=hands' or a glob, not {shown(only)}")


def _whole(name: str, given: Any) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise PathpruneError(f"{name} must be an integer of 1 or more, not {shown(given)}")


def _above_zero(name: str, given: Any) -> None:
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given < float("inf"):
        raise PathpruneError(f"{name} must be a number above 0, not {shown(given)}")


def _check_flag(name: str, given: Any) -> None:
    if not isinstance(given, bool):
        raise PathpruneError(f"{name} must be True or False, not {shown(given)}")


@contextmanager
def _remembered(plugins: Sequence[Plugin]) -> Iterator[None]:
    """Changes that a run makes to pruner objects do not change their identity, however the run ends."""
    try:
        yield
    finally:
        remember(plugins)


def schedule(where: Where, keep: int, stages: str | Sequence[Pair] | None) -> tuple[Stage, ...]:
    """The stages as given, or a single one from ``prefix`` and ``keep``."""
    if not stages:
        return (Stage(where.prefix, keep),)
    if where.prefix_given is not None:
        raise PathpruneError("stages already define where paths are cut; leave out prefix")
    return parse_stages(stages) if isinstance(stages, str) else stages_of(stages)


def choose(
    pruners: Any, engine: Any, lacks: Callable[[Plugin], str] = _lacks_nothing
) -> tuple[list[Method], dict[str, str]]:
    """Resolve pruners to methods.

    Args:
        pruners: as in ``bench``.
        engine: the engine that they will run on.
        lacks: returns why a method of ``all-registered`` cannot run on these paths; "" if it can.

    Returns:
        Methods ready to run, and the methods that ``all-registered`` leaves out, with the reason.

    Raises:
        PathpruneError: an invalid pruner, or two different ones of the same name.
    """
    # By type: reading ``__class__`` of a third-party object may raise.
    wanted = registry.split_specs(pruners) if issubclass(type(pruners), str) else pruners
    wanted = wanted if issubclass(type(wanted), Sequence) else [wanted]
    if not wanted:
        raise PathpruneError("no pruner given; see: pathprune list")
    methods: list[Method] = []
    left_out: dict[str, str] = {}
    for one in wanted:
        is_spec = issubclass(type(one), str)
        if is_spec and one == "all-registered":
            for name in registry.names("pruners"):
                plugin = registry.pruner(name)
                if reason := checkpoints.unavailable(plugin, engine) or lacks(plugin):
                    left_out[name] = reason
                else:
                    methods.append(Method.alone(plugin))
        else:
            methods.append(registry.method(one) if is_spec else Method.alone(registry.of_object(one)))
    _one_of_each([plugin for method in methods for plugin in method.plugins])
    return list({method.name: method for method in methods}.values()), left_out


def _one_of_each(plugins: Sequence[Plugin]) -> list[Plugin]:
    """The pruners without duplicates.

    Raises:
        PathpruneError: two pruners of the same name have different code or weights, so their rows would be ambiguous.
    """
    known: dict[str, Plugin] = {}
    for plugin in plugins:
        first = known.setdefault(plugin.name, plugin)
        if (first.code, first.checkpoint, first.source, first.options) != (
            plugin.code,
            plugin.checkpoint,
            plugin.source,
            plugin.options,
        ):
            raise PathpruneError(
                f"two different pruners are named {plugin.name}; rename one of the classes, or bench them one after the other"
            )
    return list(known.values())


def crew_of(workers: str | int | None, where: Where, plugins: Sequence[Plugin], run: Run) -> Crew:
    """The crew that does the work: this process, or Ray workers, which open everything by name.

    Raises:
        PathpruneError: invalid ``workers``, or objects that workers cannot open by name.
    """
    if workers is None:
        return alone
    if not isinstance(workers, str | int) or isinstance(workers, bool):
        raise PathpruneError(f"workers must be a number, or a cluster's address and a number, not {shown(workers)}")
    from harness.runners.cluster import Cluster, Opening, devices_of, parse

    if not where.by_name or not all(p.spec for p in plugins):
        raise PathpruneError("workers open everything by name: give task, engine and pruners as strings")
    address, count = parse(str(workers))
    opening = Opening(replace(where), tuple(p.spec for p in plugins), run.spec, run.time_limit)
    return Cluster(opening, address, count, devices_of(where.engine_given))


@contextmanager
def _shown(progress: bool, run: Run, label: str = "", times: int = 1) -> Iterator[Callable[[int, str], None]]:
    """A progress bar over problems, if requested."""
    if not progress:
        yield lambda done, note: None
        return
    named = label or f"{run.task.name} L={', '.join(map(str, run.spec.prefixes))}"
    with bar(named, run.problems * times) as step:
        yield step
