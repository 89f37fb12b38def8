"""The lines of a table: every method of a group against the exact controls, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.api import PathpruneError
from harness.loop import Ended
from harness.replay.pool import (
    PerProblem,
    kept_mask,
    length_matched,
    no_pruning,
    own_rule,
    random_pruning,
    replay,
    vote_weights,
    weighted_vote,
)
from harness.replay.stats import FEW, Interval, auroc, bootstrap, holm, ratio, within_auroc
from harness.report import Group, Method

EXACT = ("all", "random")  # drawn from the pool in closed form, whether or not they were run
ORACLE = "oracle"
NAN = float("nan")
NOTHING = Interval(NAN, NAN, NAN, NAN)


def ranks(method: Method) -> bool:
    """Does it keep k paths at L by scores of its own? Exact controls, the oracle and own decision rules do not."""
    named = method.name.partition(":")[0] not in EXACT and not method.name.startswith(ORACLE)
    return named and method.spent is None and len(method.pool.problems) > 0


@dataclass(frozen=True)
class Row:
    """One line of a table. Intervals are 95 % bootstrap over problems; gains are paired with random's expectation.

    A number that does not exist for a row (a score that failed, a comparison that makes no sense) is None or NaN.
    """

    name: str
    quadrant: str
    fidelity: str
    problems: int = 0
    accuracy: Interval = NOTHING
    gain: Interval | None = None
    adjusted_p: float | None = None
    matched: Interval | None = None
    behind: Interval | None = None  # paired difference to the best pruner of the table
    oracle_share: Interval | None = None  # sum of gains / sum of the oracle's, on the problems both have judged
    voted: Interval = NOTHING
    own_vote: tuple[str, Interval] | None = None
    tokens: Interval = NOTHING
    saved: float = NAN
    saved_generated: float = NAN
    flops: float = NAN
    within: Interval | None = None
    pooled: float | None = None
    kept_length: Interval = NOTHING
    truncated: float = NAN
    label_tokens: int | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Replayed:
    """A method's result on its problems; ``gain`` ``[Q]`` over the expectation of random."""

    method: Method
    mask: np.ndarray  # [Q, N] paths that are finished and vote
    result: PerProblem

    @property
    def gain(self) -> np.ndarray:
        return self.result.accuracy - self.method.pool.correct.mean(1)

    @property
    def top_k(self) -> bool:
        """Does it keep k paths at L? Methods with a rule of their own are not matched in k, so not compared by it."""
        return self.method.spent is None

    @property
    def oracle(self) -> bool:
        return self.method.name.startswith(ORACLE)


def rows(group: Group, keep: int, ended: Ended = "count", vote: str | None = None) -> list[Row]:
    """The table of a group: both exact controls first, then methods by gain, references last.

    ``vote`` replaces every method's native vote in the second vote column.
    """
    if not 1 <= keep <= group.pool.n:
        raise PathpruneError(f"--keep {keep} is not between 1 and n = {group.pool.n}")
    everything, chance = no_pruning(group.pool), random_pruning(group.pool, keep, group.prefix)
    few = "" if len(group.pool.problems) >= FEW else "few problems"
    exact = [
        Row("all (no pruning)", "control", "exact", note=few, **_numbers(everything, everything)),
        Row("random (expected)", "control", "exact", **_numbers(chance, everything)),
    ]
    shown = [m for m in group.judged if m.name.partition(":")[0] not in EXACT]
    judged = [_judge(m, keep, group.prefix, ended) for m in shown if len(m.pool.problems)]
    competing = [j for j in judged if j.top_k and not j.oracle]
    adjusted = dict(zip(competing, holm([bootstrap(j.gain).p for j in competing]), strict=True))
    best = max(competing, key=lambda j: j.gain.mean(), default=None)
    oracle = next((j for j in judged if j.oracle), None)
    made = [_row(j, group, adjusted.get(j), best, oracle, vote) for j in judged]
    made.sort(key=lambda r: (r.name.startswith(ORACLE), -(r.gain.mean if r.gain else -9.0)))
    failed = [
        Row(m.name, m.quadrant, m.fidelity, note=_note(m, group, None)) for m in shown if not len(m.pool.problems)
    ]
    return exact + made + failed + [_leaky(group, keep, everything)]


def _judge(method: Method, keep: int, prefix: int, ended: Ended) -> Replayed:
    if method.spent is not None:
        result = own_rule(method.pool, method.spent, method.values, method.checks)
        return Replayed(method, method.values > 0, result)
    mask = kept_mask(method.pool, method.values, keep, prefix, ended)
    return Replayed(method, mask, replay(method.pool, mask, prefix, method.checks))


def _row(
    j: Replayed, group: Group, adjusted: float | None, best: Replayed | None, oracle: Replayed | None, vote: str | None
) -> Row:  # fmt: skip
    method, pool = j.method, j.method.pool
    behind = _paired(j, best) if best and j.top_k and not j.oracle and j is not best else None
    share = _paired(j, oracle) if oracle and j.top_k else None
    scores = method.values if j.top_k else None
    return Row(
        method.name,
        method.quadrant,
        method.fidelity,
        gain=bootstrap(j.gain),
        adjusted_p=adjusted,
        matched=bootstrap(j.result.accuracy - length_matched(pool, j.mask)),
        behind=bootstrap(behind[0] - behind[1]) if behind and len(behind[0]) else None,
        oracle_share=ratio(*share) if share and share[1].sum() > 0 else None,
        own_vote=_own_vote(j, vote),
        within=None if scores is None else bootstrap(within_auroc(scores, pool.correct)),
        pooled=None if scores is None else auroc(scores, pool.correct),
        label_tokens=method.label_tokens,
        note=_note(method, group, j),
        **_numbers(j.result, no_pruning(pool)),
    )


def _numbers(result: PerProblem, everything: PerProblem) -> dict[str, Any]:
    """The columns that every row has."""
    return {
        "problems": len(result.accuracy),
        "accuracy": bootstrap(result.accuracy),
        "voted": bootstrap(result.voted),
        "tokens": bootstrap(result.tokens),
        "saved": float(1 - result.tokens.mean() / everything.tokens.mean()),
        "saved_generated": float(1 - result.generated.mean() / everything.generated.mean()),
        "flops": float(result.flops.mean()),
        "kept_length": bootstrap(result.kept_length),
        "truncated": float(result.truncated.mean()),
    }


def _own_vote(j: Replayed, asked: str | None) -> tuple[str, Interval] | None:
    """The method's native vote, or the one asked for, on the same kept paths; None where it cannot be taken."""
    rule, scores = asked or j.method.vote, j.method.values
    if not j.top_k:
        return None if asked else (rule, bootstrap(weighted_vote(j.method.pool, scores)))
    if rule == "majority" or (rule in ("weighted", "filtered") and (scores < 0).any()):
        return None
    return rule, bootstrap(weighted_vote(j.method.pool, vote_weights(j.method.pool, j.mask, scores, rule)))


def _paired(one: Replayed, other: Replayed) -> tuple[np.ndarray, np.ndarray]:
    """Gains of two methods on the problems that both have judged."""
    mine, theirs = (dict(zip(j.method.pool.problems, j.gain, strict=True)) for j in (one, other))
    common = [p for p in mine if p in theirs]
    return np.array([mine[p] for p in common]), np.array([theirs[p] for p in common])


def _note(method: Method, group: Group, j: Replayed | None) -> str:
    total, count = len(group.pool.problems), len(method.pool.problems)
    notes = [f"{method.errors} errors"] * bool(method.errors) + ["stale"] * method.stale
    notes += [f"{count} of {total} problems"] * (0 < count < total)
    if j and not j.top_k:
        kept = j.mask.sum(1)
        notes.append(f"own rule: {kept.mean():.1f} of {group.pool.n} paths vote")
        notes += [f"no path left on {int((kept == 0).sum())} problems"] * bool((kept == 0).any())
    return ", ".join(notes)


def _leaky(group: Group, keep: int, everything: PerProblem) -> Row:
    """The shortest full lengths, which no prefix shows: how much of a gain mere length could explain."""
    pool = group.pool
    mask = kept_mask(pool, -pool.lengths.astype(float), keep, group.prefix)
    result = replay(pool, mask, group.prefix)
    gain = bootstrap(result.accuracy - pool.correct.mean(1))
    return Row(
        "shortest in full (leaky)",
        "reference",
        "sees the future",
        gain=gain,
        **_numbers(result, everything),
    )
