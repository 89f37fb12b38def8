"""A table along several cuts: methods that score paths one by one, replayed from their records at every prefix length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.api import PathpruneError
from harness.replay.stages import from_rows
from harness.report import Group, Method, groups_of, judged_records
from harness.spec import RunSpec


def schedule_of(folder: Path, spec: RunSpec, problems: Sequence[str]) -> tuple[Group, list[str]]:
    """(the group of a run's schedule on these problems, names of methods that cannot be replayed along it).

    A method that scores a path by those beside it would score the survivors otherwise; a row from before costs were
    recorded per path does not say what scoring only some of them costs.

    Raises:
        PathpruneError: no record at one of the prefix lengths.
    """
    groups = {g.prefix: g for g in groups_of(folder, spec.n, problems, spec.prefixes[0])}
    lacking = [prefix for prefix in spec.prefixes if prefix not in groups]
    if lacking:
        raise PathpruneError(f"{folder} has no record at L = {lacking[0]} for n = {spec.n}; bench a pruner there first")
    last = groups[spec.prefixes[-1]]
    every = [m for g in groups.values() for m in g.judged if m.top_k and m.role != "oracle"]
    cut = list(_cut(folder, spec, [groups[prefix] for prefix in spec.prefixes]))
    left_out = sorted({m.name for m in every} - {m.name for m in cut})
    rules = [m for m in last.judged if not m.top_k]
    return replace(last, judged=[*cut, *rules], stages=spec.stages), left_out


def _cut(folder: Path, spec: RunSpec, groups: Sequence[Group]) -> Iterator[Method]:
    """Methods with a row at every prefix length, on the problems that they have scored at all of them."""
    lines = {r.file.stem.rpartition("-")[2]: r.lines for r in judged_records(folder)}
    by_name = [{m.name: m for m in group.judged if m.top_k and m.pointwise} for group in groups]
    for name, last in by_name[-1].items():
        methods = [named.get(name) for named in by_name]
        if not all(methods):
            continue
        common = [p for p in last.pool.problems if all(m and p in set(m.pool.problems) for m in methods)]
        rows = [[lines[m.key][p] for p in common] for m in methods if m]
        if any("each" not in row and any(row["cost"].values()) for cut in rows for row in cut):
            continue
        cuts = tuple(from_rows(cut, spec.n) for cut in rows)
        pool = last.pool.subset(common)
        yield replace(last, pool=pool, values=cuts[-1].scores, cuts=cuts)
