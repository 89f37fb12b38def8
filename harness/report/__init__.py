"""From record files to what may stand in one table: a pure function of a results folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness import advice, registry
from harness.api import Cost, PathpruneError
from harness.replay.pool import Pool
from harness.store.records import Record


@dataclass(frozen=True, eq=False)
class Method:
    """What one method said of the problems it has judged. ``values`` ``[Q, N]``: scores, or the votes' weights."""

    name: str
    quadrant: str
    fidelity: str
    vote: str  # its native vote
    key: str  # of its record
    pool: Pool
    values: np.ndarray
    spent: np.ndarray | None  # int [Q, N] tokens of each path, when the decision rule was the method's own
    checks: list[Cost]
    label_tokens: int | None  # one-off cost of its training labels; None: it has none, or they are not recorded
    errors: int
    stale: bool


@dataclass(frozen=True, eq=False)
class Group:
    """Everything recorded on one pool at one prefix length: what may stand in one table."""

    folder: Path
    spec: dict[str, Any]
    pool: Pool
    prefix: int
    judged: list[Method]

    @property
    def slug(self) -> str:
        """The name of its figure."""
        return f"{self.spec['task']}-{self.folder.name}-L{self.prefix}"

    @property
    def title(self) -> str:
        spec = self.spec
        sampling = ", ".join(f"{k} {v}" for k, v in spec["engine"]["sampling"].items())
        share = self.prefix / self.pool.lengths.mean()
        return (
            f"{spec['task']} v{spec['task_version']}, model {spec['engine']['model']} "
            f"({spec['engine']['fingerprint'][:8]}), engine {spec['engine']['engine']} {spec['engine']['dtype']}, {sampling}, "
            f"seed {spec['seed']}, L = {self.prefix} tokens ({share:.0%} of the mean length)"
        )


def groups(root: Path, n: int | None = None) -> Iterator[Group]:
    """Every (pool, prefix length) under a results folder, in a fixed order."""
    if not root.is_dir():
        raise PathpruneError(f"no results folder at {root}; run: {advice.command('bench', pruner='stop')}")
    for file in sorted(root.rglob("pool.jsonl")):
        yield from groups_of(file.parent, n)


def groups_of(
    folder: Path, n: int | None = None, problems: Sequence[str] | None = None, prefix: int | None = None
) -> Iterator[Group]:
    """The groups of one pool folder, on all of its problems or on those named; a pool of fewer than n paths has none.

    Methods with a rule of their own stand at every prefix length that has a record, and at ``prefix``."""
    record = Record.read(folder / "pool.jsonl")
    size = n or record.header["spec"]["n"]
    if size > record.header["spec"]["n"] or not record.lines:
        return
    with _blamed(record.file):
        pool = Pool.from_record(record.header, record.lines, size)
        if problems is not None:
            pool = pool.subset([p for p in problems if p in set(pool.problems)])
    files = sorted(folder.glob("L*.jsonl")) + sorted(folder.glob("own-rule-*.jsonl"))
    by_prefix: dict[int, list[Method]] = {}
    for path in files:
        other = Record.read(path)
        with _blamed(path):
            by_prefix.setdefault(int(other.header["spec"]["prefix"]), []).extend(_judged(other, pool))
    if set(by_prefix) == {0}:  # nothing but rules of their own: any L has them
        by_prefix[prefix or 1] = []
    own = [j for j in by_prefix.pop(0, []) if size == record.header["spec"]["n"]]  # decided on the whole pool
    if prefix and own:
        by_prefix.setdefault(prefix, [])
    for length, judged in sorted(by_prefix.items()):
        yield Group(folder, record.header["spec"], pool, length, _distinct(judged + own))


@contextmanager
def _blamed(file: Path) -> Iterator[None]:
    """A record whose rows lack what a report needs is named, not traced back."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise PathpruneError(f"{file} is damaged ({type(error).__name__}: {error}); delete it and run again") from error


def _judged(record: Record, pool: Pool) -> list[Method]:
    rows = {p: record.lines[p] for p in pool.problems if "cost" in record.lines.get(p, {})}
    errors = sum("error" in record.lines.get(p, {}) for p in pool.problems)
    if not rows and not errors:
        return []
    header = record.header
    own = header["spec"]["prefix"] == 0

    def column(name: str, kind: Any) -> np.ndarray:
        return np.array([r[name][: pool.n] for r in rows.values()], dtype=kind).reshape(len(rows), pool.n)

    return [
        Method(
            name=header["spec"]["pruner"],
            quadrant=header["quadrant"],
            fidelity=header["fidelity"],
            vote=header.get("vote", "majority"),
            key=record.file.stem.rpartition("-")[2],
            pool=pool.subset(list(rows)),
            values=column("weights" if own else "scores", np.float32),
            spent=column("spent", int) if own else None,
            checks=[Cost(**r["cost"]) for r in rows.values()],
            label_tokens=header.get("label_tokens"),
            errors=errors,
            stale=_stale(header),
        )
    ]


def _distinct(judged: list[Method]) -> list[Method]:
    """One row per method: older code's rows give way to the present code's, other doubles carry their key."""
    fresh = {j.name for j in judged if not j.stale}
    shown = [j for j in judged if not (j.stale and j.name in fresh)]
    counts = Counter(j.name for j in shown)
    return [j if counts[j.name] == 1 else replace(j, name=f"{j.name} ({j.key})") for j in shown]


def _stale(header: dict[str, Any]) -> bool:
    """Was the row made by other code than is installed now? Pruners that are not installed cannot be judged."""
    name = header["spec"]["pruner"].partition(":")[0]
    if name not in registry.names("pruners"):
        return False
    return bool(registry.code_digest(registry.load("pruners", name)[0]) != header["spec"]["code"])
