"""A banked bench: ensure that a pool exists and that every requested pruner has scored its prefixes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.api import Engine, PathpruneError, Problem
from harness.learn import checkpoints
from harness.plugins.declared import Plugin
from harness.runners.run import Run
from harness.runners.work import WHOLE, Crew, Finished, Job, Jobs, Scoring, Worker, alone
from harness.store import validate
from harness.store.keys import digest
from harness.store.locks import Claims
from harness.store.packed import SUFFIX, Row
from harness.store.records import Record, lacks

Progress = Callable[[int, str], None]
Records = Mapping[Scoring, Record]


@dataclass(frozen=True)
class Done:
    """The result of a bench: tokens that it sampled, and by failed pruner the number of failures and the first reason."""

    sampled: int
    failures: dict[str, tuple[int, str]]


def bench(run: Run, plugins: Sequence[Plugin], progress: Progress, crew: Crew = alone) -> Done:
    """Append missing rows to the pool's record and to each method's records, one per prefix length of the run.

    Args:
        run: the run.
        plugins: the pruners.
        progress: called with the number of finished problems and a note.
        crew: does the work, in this process or elsewhere.
    """
    pool = Record.open(run.folder / "pool.jsonl", run.spec.pool, **_engine_facts(run), **_origin(run)).checked()
    usable, failures = _usable(run, plugins)
    records = {scoring: record for plugin in usable for scoring, record in _records(run, plugin)}
    problems, bank = run.chosen(), run.opened_bank()
    sampled = 0
    with bank.claims() as claims:
        work = Work(run, pool, records, bank, claims, problems)
        progress(work.done, "")
        for finished in crew(Worker(run.task, run.engine, usable, run.spec, run.time_limit), work.jobs()):
            work.store(finished)
            sampled += finished.sampled
            progress(work.done, _note(run, sampled))
        progress(work.done, _note(run, sampled))
    return Done(sampled, failures | _failures(records, problems))


def _note(run: Run, sampled: int) -> str:
    """The note of the progress bar; empty for imported paths, which are not sampled."""
    return "" if run.is_imported else f"{sampled:,} tokens sampled"


@dataclass
class Work:
    """The remaining work of a bench, shared with other processes on the same bank; each problem is claimed by one at a time."""

    run: Run
    pool: Record
    records: Records
    bank: Any
    claims: Claims
    problems: Sequence[Problem]

    def __post_init__(self) -> None:
        self.waiting = self._lacking(self.problems)

    @property
    def done(self) -> int:
        """Number of complete problems."""
        return len(self.problems) - len(self.waiting)

    def jobs(self) -> Jobs:
        """Jobs of as many problems as the engine prefers; None while other processes work on all the rest."""
        if not self.waiting:
            return  # reading the engine's preference would open its tokenizer
        size, ours = self.run.engine.rows // self.run.spec.n or 1, {p.id: p for p in self.problems}
        while self.waiting:
            taken = [ours[name] for name in self.claims.take((p.id for p in self.waiting), size)]
            lacking = self._still_lacking(taken)
            self.claims.release(p.id for p in taken if p not in lacking)
            if lacking:
                yield _job(self.bank, self.records, lacking, self.run.spec.seed)
            elif not taken and self.waiting:
                yield None
                self._still_lacking(self.waiting)

    def store(self, finished: Finished) -> None:
        """Store the paths first, then the rows, so that every row refers to paths in the bank."""
        for paths in finished.fresh:
            self.bank.put(paths[0].problem, paths)
        self.pool.append(finished.pool, self._same_paths)
        for scoring, record in self.records.items():
            record.append([_fit(record, row) for row in finished.judged.get(scoring, [])])
        names = {row["problem"] for row in finished.pool}
        self.waiting = [p for p in self.waiting if p.id not in names]
        self.claims.release(names)

    def _still_lacking(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems that other processes have not completed meanwhile; the others are no longer pending."""
        for record in (self.pool, *self.records.values()):
            record.refresh()
        lacking = self._lacking(problems)
        gone = {p.id for p in problems} - {p.id for p in lacking}
        self.waiting = [p for p in self.waiting if p.id not in gone]
        return lacking

    def _lacking(self, problems: Sequence[Problem]) -> list[Problem]:
        every = list(self.records.values())
        return [p for p in problems if p.id not in self.pool.lines or any(lacks(r.lines, p.id) for r in every)]

    def _same_paths(self, known: Row, row: Row) -> None:
        """Refuse a pool that was recorded from other paths, because scores belong to specific paths."""
        # Old rows have no digest of the statistics.
        if known["paths"] != row["paths"] or known.get("stats", row["stats"]) != row["stats"]:
            what = "paths" if known["paths"] != row["paths"] else "token statistics"
            raise PathpruneError(
                f"the banked {what} of {row['problem']} are not those that {self.pool.file} was recorded from (another machine or "
                "version sampled them); use another results folder, or the bank that belongs to these records"
            )


def _fit(record: Record, row: Row) -> Row:
    """The row, or an error row if it is invalid, so that no unreadable row is written."""
    try:
        validate.rows(record.header, {row["problem"]: row})
    except validate.FlawError as flaw:
        return {"problem": row["problem"], "error": str(flaw)}
    return row


def open_record(run: Run, plugin: Plugin, prefix: int) -> Record:
    """The record of a method's scores at a prefix length; ``WHOLE`` for a decision rule."""
    identity = checkpoints.attach(plugin, run.engine)
    place = run.spec.scored_at(prefix)
    stem = "own-rule" if plugin.traits.decides else f"{place.get('at', 'L')}{prefix}"
    spec = place | {"pruner": plugin.name, "code": plugin.code} | identity
    name = f"{stem}-{checkpoints.slug(plugin.name)}-{digest(spec, 8)}.jsonl"
    about: dict[str, Any] = {
        "role": plugin.traits.role,
        "quadrant": plugin.traits.quadrant,
        "fidelity": plugin.traits.fidelity,
        "vote": plugin.traits.vote,
        "ranked_by": plugin.traits.ranked_by,
        "pointwise": plugin.traits.pointwise,
        **plugin.traits.order,
        "label_tokens": checkpoints.label_tokens(plugin, run.engine),
    }
    return Record.open(run.folder / name, spec, **about, **_origin(run), source=plugin.source).checked()


def _origin(run: Run) -> dict[str, Any]:
    """The origin of imported paths, for a record's header."""
    return {"imported": run.engine.origin} if run.is_imported else {}


def check_signals(plugin: Plugin, engine: Engine) -> None:
    """Refuse a pruner that needs a signal that the engine does not provide.

    Raises:
        PathpruneError: names the missing signals.
    """
    if lacking := checkpoints.lacking_signals(plugin, engine):
        raise PathpruneError(f"pruner {plugin.name} {lacking}")


def _records(run: Run, plugin: Plugin) -> Iterator[tuple[Scoring, Record]]:
    for prefix in (WHOLE,) if plugin.traits.decides else run.spec.prefixes:
        yield (plugin.name, prefix), open_record(run, plugin, prefix)


def _job(bank: Any, records: Records, group: Sequence[Problem], seed: int) -> Job:
    """A job for these problems: their stored paths, and the methods that have not scored them."""
    stored = {p.id: bank.get(p, seed) for p in group}
    lacking = {scoring: frozenset(p.id for p in group if lacks(r.lines, p.id)) for scoring, r in records.items()}
    return Job(tuple(group), stored, lacking)


def _usable(run: Run, plugins: Sequence[Plugin]) -> tuple[list[Plugin], dict[str, tuple[int, str]]]:
    """The methods whose weights are available, and why the others cannot run; a single unavailable method is an error."""
    usable, failures = [], {}
    for plugin in plugins:
        try:
            checkpoints.attach(plugin, run.engine)
            usable.append(plugin)
        except PathpruneError as error:
            if len(plugins) == 1:
                raise
            failures[plugin.name] = (run.problems, str(error))
    return usable, failures


def _engine_facts(run: Run) -> dict[str, Any]:
    """Facts about the engine for a new pool's record; empty if the record exists, because it has them."""
    pool = run.folder / "pool.jsonl"
    if pool.exists() or pool.with_suffix(SUFFIX).exists():
        return {}
    return {"flops": asdict(run.engine.flops), "device": run.engine.describe()}


def _failures(records: Records, problems: Sequence[Problem]) -> dict[str, tuple[int, str]]:
    failures: dict[str, tuple[int, str]] = {}
    for (name, _), record in records.items():
        errors = [record.lines[p.id]["error"] for p in problems if "error" in record.lines.get(p.id, {})]
        if errors and name not in failures:
            failures[name] = (len(errors), errors[0])
    return failures
