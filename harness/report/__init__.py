"""From record files to comparable groups, one per table: a pure function of a results folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from harness import advice
from harness.api import Cost, PathpruneError, RankedBy, Role
from harness.ledger import IMPORTED, sum_of
from harness.replay import latency
from harness.replay.latency import Batches, Latency
from harness.replay.pool import Pool
from harness.replay.stages import Checks
from harness.report.staleness import is_stale
from harness.spec import Cut, Stage, schedule_text
from harness.store import records
from harness.store.blame import damaged
from harness.store.records import Record
from harness.text import unknown

# Terms by which ``--only`` selects tables.
OR = "|"  # between several selections
TERMS = (
    "task", "version", "model", "engine", "dtype", "fingerprint", "revision", "temperature", "top_p", "top_k", "seed", "max_tokens", "n",
    "prefix",
)  # fmt: skip

CUT_KEYS = ("at", "until", "stride", "probe")  # keys of a record's spec, as in ``harness.spec.Cut.key``
AT_A_LENGTH: Mapping[str, Any] = {}


@dataclass(frozen=True, eq=False)
class Method:
    """A method's results on the problems it has scored. ``values`` float ``[Q, N]``: scores, or vote weights."""

    name: str
    quadrant: str
    fidelity: str
    vote: str  # its native vote
    key: str  # its record's key
    pool: Pool
    values: np.ndarray
    spent: np.ndarray | None  # int [Q, N] tokens of each path, if the method has its own decision rule
    checks: list[Cost]
    label_tokens: int | None  # one-off cost of its training labels; None: it has none, or they are not recorded
    errors: int
    stale: bool
    role: Role = "method"
    pointwise: bool = False  # was each path scored on its own?
    ranked_by: RankedBy = "paths"  # what its gain is of
    shared: list[Cost] | None = None  # cost of each check that belongs to no single path; None: not recorded
    cold: np.ndarray | None = (
        None  # [Q] tokens of each check if nothing were shared; None: it reads no text, or not recorded
    )
    latency: Latency | None = None  # of its own decision rule; None: not recorded
    batches: Batches | None = None  # generation order of such a rule; None: not recorded
    cuts: tuple[Checks, ...] = ()  # its scores and their costs at each stage of a schedule

    @property
    def top_k(self) -> bool:
        """Does it keep k paths at L? Methods with their own decision rule do not, and are not compared at equal k."""
        return self.spent is None

    @property
    def ranks(self) -> bool:
        """Does it choose paths at L by its own scores, unlike closed-form controls and oracles?"""
        return self.role in ("method", "control") and self.top_k and len(self.pool.problems) > 0


@dataclass(frozen=True, eq=False)
class Group:
    """All records of one pool at one prefix length, or along one schedule of ``stages``; one table shows one group."""

    folder: Path
    spec: dict[str, Any]
    pool: Pool
    prefix: int
    judged: list[Method]
    stages: tuple[Stage, ...] = ()  # empty: one cut at ``prefix``
    origin: Mapping[str, Any] = field(
        default_factory=dict
    )  # where imported paths come from; empty where they were sampled here
    reached: Mapping[int, Mapping[str, Sequence[int]]] = field(
        default_factory=dict
    )  # by prefix length and problem, how far each path was generated, of stages that do not cut all at one length
    key: Mapping[str, Any] = field(default_factory=dict)  # ``Cut.key`` of its records; empty: cut at ``prefix`` tokens

    @property
    def cut(self) -> Cut:
        """Where a group of one cut cuts paths."""
        return Cut(self.prefix, self.key.get("at", "token"), self.key.get("until", self.prefix))

    def ends(self, pool: Pool) -> list[int | np.ndarray]:
        """The number of tokens to which each stage generates paths, on the problems of ``pool``: an int, or int ``[Q, N]``."""
        return [
            np.array([self.reached[s.prefix][p] for p in pool.problems], dtype=int).reshape(pool.lengths.shape)
            if s.prefix in self.reached
            else s.prefix
            for s in self.stages
        ]

    @property
    def slug(self) -> str:
        """The name of its figure."""
        where = (
            "-".join(f"{s.keep}at{s.where.replace('@', '')}" for s in self.stages)
            or f"{self.key.get('at', 'L')}{self.prefix}"
        )
        return f"{self.spec['task']}-{self.folder.name}-{where}"

    @property
    def unit(self) -> str:
        """What lengths and costs count: tokens, of whichever tokenizer, or words; the title says whose tokens."""
        return str(self.spec["engine"].get("unit", "tokens")).partition(" ")[0]

    def matches(self, only: str) -> bool:
        """Does ``only`` select it, by terms or by a glob over its slug? See ``selected``."""
        about = facts(self.spec) | {"prefix": str(self.prefix)}
        for one in only.split(OR):
            wanted = terms_of(one)
            if all(fnmatch(about.get(key, ""), value) for key, value in wanted.items()) and (
                wanted or fnmatch(self.slug, one)
            ):
                return True
        return False

    @property
    def title(self) -> str:
        """Task, model, engine, sampling, seed and prefix length or schedule, in one line."""
        spec = self.spec
        engine = spec["engine"]
        unit = engine.get("unit", "tokens")
        dtype = f" {engine['dtype']}" if "dtype" in engine else ""
        sampling = "".join(f", {k} {v}" for k, v in engine.get("sampling", {}).items())
        share = self.prefix / self.pool.lengths.mean()
        where = f"L = {self.prefix} {unit} ({share:.0%} of the mean length), N = {self.pool.n}"
        if self.stages:
            where = f"{schedule_text(self.pool.n, self.stages)} {unit}"
        if engine["engine"] == IMPORTED:
            reader = (
                f", read by model {engine['model']} ({engine['fingerprint'][:8]}){dtype}" if "reader" in engine else ""
            )
            return f"imported pool {spec['task']} ({engine['pool'][:8]}){reader}, {where}"
        return (
            f"{spec['task']} v{spec['task_version']}, model {engine['model']} ({engine['fingerprint'][:8]}), "
            f"engine {engine['engine']}{dtype}{sampling}, seed {spec['seed']}, {where}"
        )


def selected(root: Path, only: str = "*", places: bool = False) -> list[Group]:
    """Select groups under a results folder, in a fixed order.

    Args:
        root: the results folder.
        only: terms such as ``task=hands,model=hands,engine=hf,prefix=22``, whose values may be globs, or a glob over
            ``Group.slug``. Several selections are separated by ``|``.
        places: also the groups of cuts at step boundaries and at forced answers, after the others of their pool.

    Raises:
        PathpruneError: no group matches.
    """
    wanted = [terms_of(one) for one in only.split(OR)]
    chosen = []
    for folder in records.pools(root):
        about = facts(records.pool_of(folder).header["spec"])
        # Read methods' records only if the pool can match.
        if any(all(fnmatch(about[key], value) for key, value in one.items() if key in about) for one in wanted):
            every = (*groups_of(folder), *(placed_groups(folder) if places else ()))
            chosen += [g for g in every if g.matches(only)]
    if not chosen:
        command = advice.command("bench", pruner="stop", results=root)
        raise PathpruneError(f"no records under {root} for {only}; run: {command}")
    return chosen


def usual_keep(group: Group) -> int:
    """Paths finished per problem where nobody says: an eighth of imported ones, 8 of others."""
    return max(1, group.pool.n // 8) if group.spec["engine"]["engine"] == IMPORTED else 8


def terms_of(only: str) -> dict[str, str]:
    """Parse ``key=value,key=value``; {} if ``only`` is a glob."""
    if "=" not in only:
        return {}
    parts = [*filter(None, only.split(","))]
    wanted = dict(part.partition("=")[::2] for part in parts)
    for key, value in wanted.items():
        if key not in TERMS:
            raise PathpruneError(unknown("term of only", key, list(TERMS)))
        if not value:
            raise PathpruneError(f"only {only!r}: {key!r} is not term=value, e.g. {key}=...")
    if len(wanted) < len(parts):
        raise PathpruneError(f"only {only!r}: a term is given twice")
    return wanted


def facts(spec: Mapping[str, Any]) -> dict[str, str]:
    """The values of a pool's spec that ``--only`` can select by: each of ``TERMS`` except the prefix."""
    engine = spec["engine"]
    every = {**spec, **engine.get("sampling", {}), **engine, "version": spec["task_version"]}
    return {key: str(every[key]) for key in TERMS if key in every}


def groups(root: Path, n: int | None = None) -> Iterator[Group]:
    """Every (pool, prefix length) under a results folder, in a fixed order."""
    for folder in records.pools(root):
        yield from groups_of(folder, n)


def groups_of(
    folder: Path,
    n: int | None = None,
    problems: Sequence[str] | None = None,
    prefix: int | None = None,
    key: Mapping[str, Any] = AT_A_LENGTH,
) -> Iterator[Group]:
    """The groups of one pool folder; none if the pool has fewer than n paths per problem.

    Methods with their own decision rule appear at every recorded prefix length and at ``prefix``.

    Args:
        folder: the pool's folder.
        n: paths per problem to use; None: all.
        problems: ids of the problems to use; None: all.
        prefix: a prefix length at which methods with their own decision rule appear in any case.
        key: ``harness.spec.Cut.key``, how paths are cut relative to the prefix length.
    """
    record = records.pool_of(folder)
    spec = record.header["spec"]
    size = n or spec["n"]
    if size > spec["n"] or not record.lines:
        return
    # Sorted, because processes append in any order, and resamples depend on the order.
    pool = Pool.from_record(record.header, dict(sorted(record.lines.items())), size)
    if problems is not None:
        pool = pool.subset([p for p in pool.problems if p in set(problems)])
    by_prefix: dict[int, list[Method]] = {}
    for judged in judged_records(folder):
        _of_this_pool(judged, record)
        where = judged.header["spec"]
        if where["prefix"] == 0 or _cut_key(where) == key:
            by_prefix.setdefault(where["prefix"], []).extend(_judged(judged, pool))
    if set(by_prefix) == {0}:  # nothing but rules of their own: any L has them
        by_prefix[prefix or 1] = []
    own_rules = [m for m in by_prefix.pop(0, []) if size == spec["n"]]  # decided on the whole pool
    if prefix and own_rules:
        by_prefix.setdefault(prefix, [])
    for length, methods in sorted(by_prefix.items()):
        yield Group(
            folder,
            spec,
            pool,
            length,
            _distinct(methods + own_rules),
            origin=record.header.get("imported", {}),
            key=key,
        )


def placed_groups(folder: Path) -> Iterator[Group]:
    """The groups of one pool folder whose cuts lie at step boundaries or at forced answers; none if it has no such records."""
    keys = {tuple(_cut_key(record.header["spec"]).items()) for record in judged_records(folder)}
    for key in sorted(keys - {()}):
        yield from groups_of(folder, key=dict(key))


def _cut_key(spec: Mapping[str, Any]) -> dict[str, Any]:
    """``harness.spec.Cut.key`` of a record, from its spec."""
    return {key: spec[key] for key in CUT_KEYS if key in spec}


def judged_records(folder: Path) -> Iterator[Record]:
    """The records of a pool's methods, packed or not, in a fixed order."""
    return records.records(folder, "judged")


def _of_this_pool(judged: Record, pool: Record) -> None:
    """Raise PathpruneError if a method's record was not made on the paths of this pool."""
    theirs, ours = judged.header["spec"], pool.header["spec"]
    if differing := [key for key, value in ours.items() if theirs.get(key) != value]:
        raise PathpruneError(
            f"{records.shown(judged.file)} was not recorded on {pool.file}: its {differing[0]} is {theirs.get(differing[0])!r}, not "
            f"{ours[differing[0]]!r}; move it to the folder of its own pool"
        )
    if theirs["prefix"] != 0:
        return
    for problem, row in judged.lines.items():
        if "error" in row or problem not in pool.lines:
            continue
        paths = zip(row["spent"], row["weights"], pool.lines[problem]["lengths"], strict=True)
        if any(spent > length or (weight > 0 and spent < length) for spent, weight, length in paths):
            raise damaged(
                records.shown(judged.file),
                f"the row of {problem} spends more tokens than a path has, or lets an aborted path vote",
                records.remedy(judged.header),
            )


def _judged(record: Record, pool: Pool) -> list[Method]:
    rows = {p: record.lines[p] for p in pool.problems if "cost" in record.lines.get(p, {})}
    errors = sum("error" in record.lines.get(p, {}) for p in pool.problems)
    if not rows and not errors:
        return []
    header = record.header
    role: Role = header["role"]
    own_rule = role == "own-rule"

    def column(name: str, kind: Any) -> np.ndarray:
        return np.array([r[name][: pool.n] for r in rows.values()], dtype=kind).reshape(len(rows), pool.n)

    spent = column("spent", int) if own_rule else None
    batches = latency.recorded(header) if own_rule else None

    return [
        Method(
            name=header["spec"]["pruner"],
            quadrant=header["quadrant"],
            fidelity=header["fidelity"],
            vote=header.get("vote", "majority"),
            key=record.file.stem.rpartition("-")[2],
            pool=pool.subset(list(rows)),
            values=column("weights" if own_rule else "scores", np.float32),
            spent=spent,
            latency=None if spent is None or batches is None else batches.latency(spent),
            batches=batches,
            checks=[_of_first(r, pool.n) for r in rows.values()],
            shared=_shared([*rows.values()]),
            cold=_cold([*rows.values()], pool.n),
            label_tokens=header.get("label_tokens"),
            errors=errors,
            stale=is_stale(header),
            role=role,
            pointwise=bool(header.get("pointwise")),
            ranked_by=header.get("ranked_by", "paths"),
        )
    ]


def _of_first(row: Mapping[str, Any], n: int) -> Cost:
    """The cost of scoring the first n paths; that of all paths if the row has no costs per path."""
    cost = Cost(**row["cost"])
    if "each" not in row or n == len(row["scores"]):
        return cost
    return _without(cost, sum_of(row["each"], len(row["scores"]), n))


def _shared(rows: Sequence[Mapping[str, Any]]) -> list[Cost] | None:
    if not all("each" in row for row in rows):
        return None
    return [_without(Cost(**row["cost"]), sum_of(row["each"], len(row["scores"]))) for row in rows]


def _without(cost: Cost, part: Cost) -> Cost:
    rest = {name: value - getattr(part, name) for name, value in vars(cost).items()}
    return Cost(**{name: max(0, value) for name, value in rest.items()})  # sums of FLOPs are rounded


def _cold(rows: Sequence[Mapping[str, Any]], n: int) -> np.ndarray | None:
    if not rows or not all("cold" in row for row in rows):
        return None
    return np.array([_cold_of(row, n) for row in rows], dtype=float)


def _cold_of(row: Mapping[str, Any], n: int) -> int:
    each = row.get("cold_each")
    if each is None or n == len(row["scores"]):
        return int(row["cold"])
    return sum(each[:n]) if isinstance(each, list) else n * each


def _distinct(methods: list[Method]) -> list[Method]:
    """One row per method: rows of current code replace those of older code, and other duplicates carry their key."""
    fresh = {m.name for m in methods if not m.stale}
    shown = [m for m in methods if not (m.stale and m.name in fresh)]
    counts = Counter(m.name for m in shown)
    return [m if counts[m.name] == 1 else replace(m, name=f"{m.name} ({m.key})") for m in shown]
