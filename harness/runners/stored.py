"""Scores shipped with a pool, for methods that cannot run without the model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from harness.imports.shipping import RECORDS
from harness.learn import checkpoints
from harness.runners.run import Run
from harness.store import records
from harness.store.keys import digest
from harness.store.records import OWN_RULE, Record, lacks

OF_A_RUN = (
    "format",
    "spec",
    "provenance",
    "was",
    "imported",
)  # header fields of the run; the others describe the method


def stored_methods(run: Run) -> dict[str, list[Record]]:
    """The records shipped with the pool of a run, for its cuts, by method; empty for other runs."""
    if not run.is_imported or not run.engine.view.recorded:
        return {}
    folder = run.engine.view.pool.folder / RECORDS
    named: dict[str, list[Record]] = {}
    stems = (*(f"L{prefix}-" for prefix in run.spec.prefixes), OWN_RULE)
    for name in records.names(folder, "judged") if folder.is_dir() else ():
        if not name.startswith(stems):
            continue
        record = Record.read(folder / name).checked()
        spec = record.header["spec"]
        if record.header["role"] == "closed-form":  # every table computes those exactly
            continue
        if spec["n"] == run.spec.n and spec["prefix"] in (0, *run.spec.prefixes) and "at" not in spec:
            named.setdefault(spec["pruner"], []).append(record)
    return named


def adopt(run: Run, named: Mapping[str, Collection[Record]]) -> None:
    """Add shipped records to those of a run; their header states their origin under ``stored``."""
    problems = {problem.id for problem in run.chosen()}
    for record in (record for every in named.values() for record in every):
        adopted = _opened(run, record)
        adopted.append([row for name, row in record.lines.items() if name in problems and lacks(adopted.lines, name)])


def _opened(run: Run, record: Record) -> Record:
    header, spec = record.header, record.header["spec"]
    own = run.spec.pool | dict(_of_method(spec))
    stem = f"L{spec['prefix']}" if spec["prefix"] else OWN_RULE
    name = f"{stem}-{checkpoints.slug(spec['pruner'])}-{digest(own, 8)}.jsonl"
    about = {key: value for key, value in header.items() if key not in OF_A_RUN}
    stored = {"engine": spec["engine"], "provenance": header.get("provenance")}
    return Record.open(run.folder / name, own, **about, imported=run.engine.origin, stored=stored).checked()


def _of_method(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The entries of a record's spec that describe its method rather than the pool."""
    of_pool = ("task", "task_version", "engine", "seed", "max_tokens", "n")
    return ((key, value) for key, value in spec.items() if key not in of_pool)
