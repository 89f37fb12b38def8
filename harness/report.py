"""From record files to rows: a pure function of a results folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import registry
from harness.api import Cost, PathpruneError
from harness.loop import Ended
from harness.replay import Pool, Result, kept_mask, no_pruning, random_pruning, replay
from harness.stats import Interval, auroc, bootstrap, holm, within_auroc
from harness.store import Record

EXACT = ("all", "random")  # drawn from the pool in closed form, whether or not they were run
ORACLE = "oracle"
BINS = 4  # path-length quantiles per problem of the length-matched comparison


@dataclass(frozen=True, eq=False)
class Scored:
    """One pruner's scores on the problems of the pool it has scored."""

    name: str
    quadrant: str
    fidelity: str
    pool: Pool
    scores: np.ndarray  # [Q, N]
    checks: list[Cost]
    errors: int
    stale: bool


@dataclass(frozen=True, eq=False)
class Group:
    """Everything recorded on one pool at one prefix length: what may stand in one table."""

    folder: Path
    spec: dict[str, Any]
    pool: Pool
    prefix: int
    scored: list[Scored]

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


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a table. Intervals are 95 % bootstrap over problems; gains are paired with random's expectation."""

    name: str
    quadrant: str
    fidelity: str
    problems: int
    accuracy: Interval
    gain: Interval | None
    adjusted_p: float | None
    matched: Interval | None
    oracle_share: float | None
    voted: Interval
    tokens: float
    saved: float
    flops: float
    within: float | None
    pooled: float | None
    kept_length: float
    truncated: float
    note: str


def groups(root: Path, n: int | None = None) -> Iterator[Group]:
    """Every (pool, prefix length) under a results folder, in a fixed order."""
    if not root.is_dir():
        raise PathpruneError(f"no results folder at {root}; run: make bench PRUNER=stop")
    for file in sorted(root.rglob("pool.jsonl")):
        record = Record.read(file)
        size = n or record.header["spec"]["n"]
        if size > record.header["spec"]["n"] or not record.lines:
            continue
        pool = Pool.from_record(record.header, record.lines, size)
        by_prefix: dict[int, list[Scored]] = {}
        for path in sorted(file.parent.glob("L*.jsonl")):
            other = Record.read(path)
            by_prefix.setdefault(int(other.header["spec"]["prefix"]), []).extend(_scored(other, pool))
        for prefix, scored in sorted(by_prefix.items()):
            yield Group(file.parent, record.header["spec"], pool, prefix, scored)


def _scored(record: Record, pool: Pool) -> list[Scored]:
    rows = {p: record.lines[p] for p in pool.problems if "scores" in record.lines.get(p, {})}
    errors = sum("error" in row for row in record.lines.values())
    if not rows and not errors:
        return []
    header = record.header
    return [
        Scored(
            name=header["spec"]["pruner"],
            quadrant=header["quadrant"],
            fidelity=header["fidelity"],
            pool=pool.subset(list(rows)),
            scores=np.array([r["scores"][: pool.n] for r in rows.values()], dtype=np.float32).reshape(
                len(rows), pool.n
            ),
            checks=[Cost(**r["cost"]) for r in rows.values()],
            errors=errors,
            stale=_stale(header),
        )
    ]


def _stale(header: dict[str, Any]) -> bool:
    """Was the row made by other code than is installed now? Pruners that are not installed cannot be judged."""
    name = header["spec"]["pruner"].partition(":")[0]
    if name not in registry.names("pruners"):
        return False
    return bool(registry.code_digest(registry.load("pruners", name)[0]) != header["code"])


def rows(group: Group, keep: int, ended: Ended = "count") -> list[Row]:
    """The table of a group: both exact controls first, then pruners by gain, the oracle last."""
    if not 1 <= keep <= group.pool.n:
        raise PathpruneError(f"--keep {keep} is not between 1 and n = {group.pool.n}")
    everything, chance = no_pruning(group.pool), random_pruning(group.pool, keep, group.prefix)
    exact = [
        _exact("all (no pruning)", everything, everything, "" if len(group.pool.problems) >= 50 else "few problems"),
        _exact("random (expected)", chance, everything, ""),
    ]
    shown = [s for s in group.scored if s.name.partition(":")[0] not in EXACT]
    reach = {s.name: _gain(s, keep, group.prefix, ended) for s in shown if len(s.pool.problems)}
    p_of = {name: bootstrap(gain).p for name, gain in reach.items() if name != ORACLE}
    adjusted = dict(zip(p_of, holm(list(p_of.values())), strict=True))
    oracle = next((s for s in shown if s.name == ORACLE), None)
    made = [_row(s, keep, group.prefix, ended, adjusted.get(s.name), _share(s, oracle, reach)) for s in shown]
    made.sort(key=lambda r: (r.name == ORACLE, -(r.gain.mean if r.gain else -9.0)))
    return exact + made


def _gain(scored: Scored, keep: int, prefix: int, ended: Ended) -> np.ndarray:
    mask = kept_mask(scored.pool, scored.scores, keep, prefix, ended)
    return (scored.pool.correct * mask).sum(1) / mask.sum(1) - scored.pool.correct.mean(1)


def _share(scored: Scored, oracle: Scored | None, reach: dict[str, np.ndarray]) -> float | None:
    """Gain as a share of the oracle's, on the problems that both have scored."""
    if oracle is None or scored.name not in reach:
        return None
    common = set(scored.pool.problems) & set(oracle.pool.problems)
    if not common:
        return None
    mine = np.mean([g for p, g in zip(scored.pool.problems, reach[scored.name], strict=True) if p in common])
    best = np.mean([g for p, g in zip(oracle.pool.problems, reach[oracle.name], strict=True) if p in common])
    return float(mine / best) if best > 0 else None


def _exact(name: str, result: Result, everything: Result, note: str) -> Row:
    return _line(name, "control", "exact", result, everything, gain=None, note=note)


def _row(scored: Scored, keep: int, prefix: int, ended: Ended, adjusted: float | None, share: float | None) -> Row:
    notes = [f"{scored.errors} errors"] * bool(scored.errors) + ["stale"] * scored.stale
    pool = scored.pool
    if not len(pool.problems):
        return _failed(scored, ", ".join(notes))
    mask = kept_mask(pool, scored.scores, keep, prefix, ended)
    result = replay(pool, mask, prefix, scored.checks)
    return _line(
        scored.name,
        scored.quadrant,
        scored.fidelity,
        result,
        no_pruning(pool),
        gain=bootstrap(result.accuracy - pool.correct.mean(1)),
        adjusted_p=adjusted,
        matched=bootstrap(result.accuracy - length_matched(pool, mask)),
        oracle_share=share,
        within=within_auroc(scored.scores, pool.correct),
        pooled=auroc(scored.scores, pool.correct),
        note=", ".join(notes),
    )


def length_matched(pool: Pool, mask: np.ndarray) -> np.ndarray:
    """Accuracy that the kept paths' full lengths alone would give, ``[Q]``.

    Each kept path counts as the mean correctness of its problem's paths in the same length quantile: a pruner
    that only picks short paths gains nothing over this.
    """
    out = np.zeros(len(pool.problems))
    for q, (lengths, correct) in enumerate(zip(pool.lengths, pool.correct, strict=True)):
        edges = np.quantile(lengths, np.linspace(0, 1, BINS + 1)[1:-1])
        bins = np.searchsorted(edges, lengths, side="left")
        means = np.array([correct[bins == b].mean() if (bins == b).any() else 0.0 for b in range(BINS)])
        out[q] = means[bins[mask[q]]].mean()
    return out


def _line(name: str, quadrant: str, fidelity: str, result: Result, everything: Result, **more: Any) -> Row:
    blank: dict[str, Any] = dict.fromkeys(("gain", "adjusted_p", "matched", "oracle_share", "within", "pooled"))
    return Row(
        name=name,
        quadrant=quadrant,
        fidelity=fidelity,
        problems=len(result.accuracy),
        accuracy=bootstrap(result.accuracy),
        voted=bootstrap(result.voted),
        tokens=float(result.tokens.mean()),
        saved=float(1 - result.tokens.mean() / everything.tokens.mean()),
        flops=float(result.flops.mean()),
        kept_length=float(result.kept_length.mean()),
        truncated=float(result.truncated.mean()),
        **(blank | more),
    )


def _failed(scored: Scored, note: str) -> Row:
    nothing = Interval(float("nan"), float("nan"), float("nan"), float("nan"))
    nan = float("nan")
    return Row(
        scored.name, scored.quadrant, scored.fidelity, 0, nothing, None, None, None, None, nothing,
        nan, nan, nan, None, None, nan, nan, note,
    )  # fmt: skip


def difference(group: Group, first: str, second: str, keep: int) -> Interval:
    """Paired difference of avg@k between two pruners on the problems that both have scored."""
    found = {s.name: s for s in group.scored}
    for name in (first, second):
        if name not in found:
            raise PathpruneError(registry.unknown("row", name, sorted(found)))
    gains = [
        dict(zip(s.pool.problems, _gain(s, keep, group.prefix, "count"), strict=True))
        for s in (found[first], found[second])
    ]
    common: Sequence[str] = [p for p in gains[0] if p in gains[1]]
    return bootstrap(np.array([gains[0][p] - gains[1][p] for p in common]))
