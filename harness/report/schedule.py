"""A table along several cuts: methods that score paths independently, replayed from their records at each prefix length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.api import PathpruneError
from harness.replay.stages import from_rows
from harness.report import Group, Method, groups_of, judged_records
from harness.spec import Cut, RunSpec

Lines = Mapping[str, Mapping[str, Mapping[str, Any]]]  # a record's rows by problem, by the record's key


def schedule_of(folder: Path, spec: RunSpec, problems: Sequence[str]) -> tuple[Group, list[str]]:
    """(the group of a run's schedule on these problems, names of methods that cannot be replayed along it).

    A method that scores paths jointly would score the survivors differently, and a row without costs per path does not give
    the cost of scoring a subset.

    Raises:
        PathpruneError: no record at one of the prefix lengths.
    """
    groups = [_group(folder, spec, cut, problems) for cut in spec.cuts]
    last = groups[-1]
    every = [m for g in groups for m in g.judged if m.top_k and m.role != "oracle"]
    lines = {r.file.stem.rpartition("-")[2]: r.lines for r in judged_records(folder)}
    cut = list(_cut(lines, spec, groups))
    left_out = sorted({m.name for m in every} - {m.name for m in cut})
    rules = [m for m in last.judged if not m.top_k]
    reached = {c.prefix: _reached(g, lines) for c, g in zip(spec.cuts, groups, strict=True) if c.key}
    pool = last.pool.subset([p for p in last.pool.problems if all(p in known for known in reached.values())])
    return replace(last, pool=pool, judged=[*cut, *rules], stages=spec.stages, reached=reached), left_out


def _group(folder: Path, spec: RunSpec, cut: Cut, problems: Sequence[str]) -> Group:
    """The records of one stage.

    Raises:
        PathpruneError: there are none.
    """
    for group in groups_of(folder, spec.n, problems, spec.prefixes[0], cut.key):
        has_places = any(m.top_k and len(m.pool.problems) for m in group.judged)
        if group.prefix == cut.prefix and (cut.at == "token" or has_places):
            return group
    if cut.at == "token":
        raise PathpruneError(f"{folder} has no record at L = {cut.prefix} for n = {spec.n}; bench a pruner there first")
    raise PathpruneError(
        f"{folder} has no scores at {cut.at}@{cut.prefix} for n = {spec.n}; bench a pruner that scores prefixes there first"
    )


def _reached(group: Group, lines: Lines) -> dict[str, list[int]]:
    """By problem, the number of tokens generated of each path for a cut; the same for all methods."""
    return {problem: lines[m.key][problem]["reached"] for m in group.judged if m.top_k for problem in m.pool.problems}


def _cut(lines: Lines, spec: RunSpec, groups: Sequence[Group]) -> Iterator[Method]:
    """Methods with a row at every stage, on the problems that they have scored at all stages.

    With a single stage, all paths are scored together, so methods that score paths jointly are included."""
    alone = len(groups) == 1
    by_name = [{m.name: m for m in group.judged if m.top_k and (m.pointwise or alone)} for group in groups]
    for name, last in by_name[-1].items():
        methods = [named.get(name) for named in by_name]
        if not all(methods):
            continue
        common = [p for p in last.pool.problems if all(m and p in set(m.pool.problems) for m in methods)]
        rows = [[lines[m.key][p] for p in common] for m in methods if m]
        if alone:
            rows = [[{"each": {}, **row} for row in cut] for cut in rows]
        if any("each" not in row and any(row["cost"].values()) for cut in rows for row in cut):
            continue
        cuts = tuple(from_rows(cut, spec.n) for cut in rows)
        pool = last.pool.subset(common)
        yield replace(last, pool=pool, values=cuts[-1].scores, cuts=cuts)
