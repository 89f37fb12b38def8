"""A banked bench: make sure that a pool exists and that every requested pruner has scored its prefixes."""

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
    """What a bench did: tokens it really sampled, and the pruners that failed with the first reason."""

    sampled: int
    failures: dict[str, tuple[int, str]]


def bench(run: Run, plugins: Sequence[Plugin], progress: Progress, crew: Crew = alone) -> Done:
    """Append what is missing to the pool record and to each method's records, one per prefix length of the run.

    ``crew`` does the work, here or elsewhere.
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
    """What a bar says beside the problems that are done; of imported paths nothing is sampled."""
    return "" if run.is_imported else f"{sampled:,} tokens sampled"


@dataclass
class Work:
    """What a bench has to do, shared with other processes that have the same bank: each problem is one's at a time."""

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
        """Problems that nothing is lacking of."""
        return len(self.problems) - len(self.waiting)

    def jobs(self) -> Jobs:
        """Some problems at a time, as many as the engine likes; None while others work on all that are left."""
        if not self.waiting:
            return  # asking an engine how many it likes would load it
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
        """Paths first, then rows: a row is of paths that are in the bank."""
        for paths in finished.fresh:
            self.bank.put(paths[0].problem, paths)
        self.pool.append(finished.pool, self._same_paths)
        for scoring, record in self.records.items():
            record.append([_fit(record, row) for row in finished.judged.get(scoring, [])])
        names = {row["problem"] for row in finished.pool}
        self.waiting = [p for p in self.waiting if p.id not in names]
        self.claims.release(names)

    def _still_lacking(self, problems: Sequence[Problem]) -> list[Problem]:
        """Those of some problems that other processes have not done meanwhile; the rest no longer waits."""
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
        """A score belongs to the very path it was given for: refuse a pool that was recorded from other paths."""
        # Rows from before statistics were told apart say nothing of them.
        if known["paths"] != row["paths"] or known.get("stats", row["stats"]) != row["stats"]:
            what = "paths" if known["paths"] != row["paths"] else "token statistics"
            raise PathpruneError(
                f"the banked {what} of {row['problem']} are not those that {self.pool.file} was recorded from (another machine or "
                "version sampled them); use another results folder, or the bank that belongs to these records"
            )


def _fit(record: Record, row: Row) -> Row:
    """The row, or one that says what is wrong with it: nothing is written that no reader would take."""
    try:
        validate.rows(record.header, {row["problem"]: row})
    except validate.FlawError as flaw:
        return {"problem": row["problem"], "error": str(flaw)}
    return row


def open_record(run: Run, plugin: Plugin, prefix: int) -> Record:
    """The record of a method's scores at a prefix length; of a decision rule of its own at none (``WHOLE``)."""
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
    """Where imported paths come from, for a record's header."""
    return {"imported": run.engine.origin} if run.is_imported else {}


def check_signals(plugin: Plugin, engine: Engine) -> None:
    """Refuse a pruner that needs what the engine does not give."""
    if lacking := checkpoints.lacking_signals(plugin, engine):
        raise PathpruneError(f"pruner {plugin.name} {lacking}")


def _records(run: Run, plugin: Plugin) -> Iterator[tuple[Scoring, Record]]:
    for prefix in (WHOLE,) if plugin.traits.decides else run.spec.prefixes:
        yield (plugin.name, prefix), open_record(run, plugin, prefix)


def _job(bank: Any, records: Records, group: Sequence[Problem], seed: int) -> Job:
    """What is stored of these problems' pools, and which methods have not scored which of them."""
    stored = {p.id: bank.get(p, seed) for p in group}
    lacking = {scoring: frozenset(p.id for p in group if lacks(r.lines, p.id)) for scoring, r in records.items()}
    return Job(tuple(group), stored, lacking)


def _usable(run: Run, plugins: Sequence[Plugin]) -> tuple[list[Plugin], dict[str, tuple[int, str]]]:
    """The methods whose weights are there, and why the others cannot run; one alone is simply an error."""
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
    """What a new pool's record says of its engine; one that is stored, as a journal or packed, says it already."""
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
