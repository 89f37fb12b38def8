"""From record files to rows: a pure function of a results folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
    key: str  # of its record
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
    behind: Interval | None  # paired difference to the best pruner of the table
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
        yield from groups_of(file.parent, n)


def groups_of(folder: Path, n: int | None = None, problems: Sequence[str] | None = None) -> Iterator[Group]:
    """The groups of one pool folder, on all of its problems or on those named; a pool of fewer than n paths has none."""
    record = Record.read(folder / "pool.jsonl")
    size = n or record.header["spec"]["n"]
    if size > record.header["spec"]["n"] or not record.lines:
        return
    with _blamed(record.file):
        pool = Pool.from_record(record.header, record.lines, size)
        if problems is not None:
            pool = pool.subset([p for p in problems if p in set(pool.problems)])
    by_prefix: dict[int, list[Scored]] = {}
    for path in sorted(folder.glob("L*.jsonl")):
        other = Record.read(path)
        with _blamed(path):
            by_prefix.setdefault(int(other.header["spec"]["prefix"]), []).extend(_scored(other, pool))
    for prefix, scored in sorted(by_prefix.items()):
        yield Group(folder, record.header["spec"], pool, prefix, _distinct(scored))


@contextmanager
def _blamed(file: Path) -> Iterator[None]:
    """A record whose rows lack what a report needs is named, not traced back."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise PathpruneError(f"{file} is damaged ({type(error).__name__}: {error}); delete it and run again") from error


def _scored(record: Record, pool: Pool) -> list[Scored]:
    rows = {p: record.lines[p] for p in pool.problems if "scores" in record.lines.get(p, {})}
    errors = sum("error" in record.lines.get(p, {}) for p in pool.problems)
    if not rows and not errors:
        return []
    header = record.header
    return [
        Scored(
            name=header["spec"]["pruner"],
            quadrant=header["quadrant"],
            fidelity=header["fidelity"],
            key=record.file.stem.rpartition("-")[2],
            pool=pool.subset(list(rows)),
            scores=np.array([r["scores"][: pool.n] for r in rows.values()], dtype=np.float32).reshape(
                len(rows), pool.n
            ),
            checks=[Cost(**r["cost"]) for r in rows.values()],
            errors=errors,
            stale=_stale(header),
        )
    ]


def _distinct(scored: list[Scored]) -> list[Scored]:
    """One row per method: older code's rows give way to the present code's, other doubles carry their key."""
    fresh = {s.name for s in scored if not s.stale}
    shown = [s for s in scored if not (s.stale and s.name in fresh)]
    counts = Counter(s.name for s in shown)
    return [s if counts[s.name] == 1 else replace(s, name=f"{s.name} ({s.key})") for s in shown]


def _stale(header: dict[str, Any]) -> bool:
    """Was the row made by other code than is installed now? Pruners that are not installed cannot be judged."""
    name = header["spec"]["pruner"].partition(":")[0]
    if name not in registry.names("pruners"):
        return False
    return bool(registry.code_digest(registry.load("pruners", name)[0]) != header["spec"]["code"])


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
    methods = {name: gain for name, gain in reach.items() if not name.startswith(ORACLE)}
    adjusted = dict(zip(methods, holm([bootstrap(gain).p for gain in methods.values()]), strict=True))
    by_name = {s.name: s for s in shown}
    oracle = next((s for s in shown if s.name.startswith(ORACLE)), None)
    best = by_name[max(methods, key=lambda name: methods[name].mean())] if methods else None
    made = []
    for s in shown:
        compared = {
            "adjusted_p": adjusted.get(s.name),
            "oracle_share": _share(s, oracle, reach),
            "behind": _behind(s, best, reach) if s.name in methods else None,
        }
        made.append(_row(s, keep, group.prefix, ended, group, compared))
    made.sort(key=lambda r: (r.name.startswith(ORACLE), -(r.gain.mean if r.gain else -9.0)))
    return exact + made


def _gain(scored: Scored, keep: int, prefix: int, ended: Ended) -> np.ndarray:
    mask = kept_mask(scored.pool, scored.scores, keep, prefix, ended)
    return (scored.pool.correct * mask).sum(1) / mask.sum(1) - scored.pool.correct.mean(1)


def _paired(one: Scored, other: Scored, reach: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Gains of two methods on the problems that both have scored."""
    mine, theirs = (dict(zip(s.pool.problems, reach[s.name], strict=True)) for s in (one, other))
    common = [p for p in mine if p in theirs]
    return np.array([mine[p] for p in common]), np.array([theirs[p] for p in common])


def _share(scored: Scored, oracle: Scored | None, reach: dict[str, np.ndarray]) -> float | None:
    """Gain as a share of the oracle's."""
    if oracle is None or scored.name not in reach or oracle.name not in reach:
        return None
    mine, ceiling = _paired(scored, oracle, reach)
    return float(mine.mean() / ceiling.mean()) if len(mine) and ceiling.mean() > 0 else None


def _behind(scored: Scored, best: Scored | None, reach: dict[str, np.ndarray]) -> Interval | None:
    if best is None or best is scored:
        return None
    mine, leading = _paired(scored, best, reach)
    return bootstrap(mine - leading) if len(mine) else None


def _exact(name: str, result: Result, everything: Result, note: str) -> Row:
    return _line(name, "control", "exact", result, everything, gain=None, note=note)


def _row(scored: Scored, keep: int, prefix: int, ended: Ended, group: Group, compared: dict[str, Any]) -> Row:
    pool, total = scored.pool, len(group.pool.problems)
    notes = [f"{scored.errors} errors"] * bool(scored.errors) + ["stale"] * scored.stale
    if not len(pool.problems):
        return _failed(scored, ", ".join(notes))
    notes += [f"{len(pool.problems)} of {total} problems"] * (len(pool.problems) < total)
    mask = kept_mask(pool, scored.scores, keep, prefix, ended)
    result = replay(pool, mask, prefix, scored.checks)
    return _line(
        scored.name,
        scored.quadrant,
        scored.fidelity,
        result,
        no_pruning(pool),
        gain=bootstrap(result.accuracy - pool.correct.mean(1)),
        matched=bootstrap(result.accuracy - length_matched(pool, mask)),
        within=within_auroc(scored.scores, pool.correct),
        pooled=auroc(scored.scores, pool.correct),
        note=", ".join(notes),
        **compared,
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
    blank: dict[str, Any] = dict.fromkeys(
        ("gain", "adjusted_p", "matched", "behind", "oracle_share", "within", "pooled")
    )
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
    """A row without a single score: every number is missing, none is zero."""
    nan = float("nan")
    nothing = {"accuracy": Interval(nan, nan, nan, nan), "voted": Interval(nan, nan, nan, nan)}
    missing = dict.fromkeys(("tokens", "saved", "flops", "kept_length", "truncated"), nan)
    blank = dict.fromkeys(("gain", "adjusted_p", "matched", "behind", "oracle_share", "within", "pooled"))
    identity = {
        "name": scored.name,
        "quadrant": scored.quadrant,
        "fidelity": scored.fidelity,
        "problems": 0,
        "note": note,
    }
    values: dict[str, Any] = identity | nothing | missing | blank
    return Row(**values)
