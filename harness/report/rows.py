"""The lines of a table: every method of a group against the exact controls, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.api import PathpruneError, Role
from harness.replay.pool import (
    PerProblem,
    Pool,
    kept_mask,
    length_matched,
    no_pruning,
    own_rule,
    random_pruning,
    replay,
    vote_weights,
    weighted_vote,
)
from harness.replay.stages import Checks, random_stages, replay_stages
from harness.replay.stats import FEW, Interval, auroc, bootstrap, holm, ratio, within_auroc
from harness.report import Group, Method
from harness.report.parallel import each
from harness.spec import Ended

NAN = float("nan")
NOTHING = Interval(NAN, NAN, NAN, NAN)


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
    role: Role = "method"


@dataclass(frozen=True, eq=False)
class Replayed:
    """A method's result on its problems; ``gain`` ``[Q]`` over the expectation of random."""

    method: Method
    mask: np.ndarray  # [Q, N] paths that are finished and vote
    result: PerProblem

    @property
    def gain(self) -> np.ndarray:
        """avg@k of the kept minus the mean over all paths, ``[Q]``."""
        return self.result.accuracy - self.method.pool.correct.mean(1)

    @property
    def competes(self) -> bool:
        """Is it compared with the others, which keep as many paths at L by what a prefix shows?"""
        return self.method.ranks


def rows(group: Group, keep: int, ended: Ended = "count", vote: str | None = None) -> list[Row]:
    """The table of a group: both exact controls first, then methods by gain, references last.

    ``vote`` replaces every method's native vote in the second vote column.
    """
    if not 1 <= keep <= group.pool.n:
        raise PathpruneError(f"keep {keep} is not between 1 and n = {group.pool.n}")
    everything, chance = no_pruning(group.pool), _chance(group, keep)
    few = "" if len(group.pool.problems) >= FEW else "few problems"
    exact = [
        Row(
            "all (no pruning)",
            "control",
            "exact",
            note=few,
            role="closed-form",
            **_numbers(everything, everything, group.pool),
        ),
        Row("random (expected)", "control", "exact", role="closed-form", **_numbers(chance, everything, group.pool)),
    ]
    shown = [m for m in group.judged if m.role != "closed-form"]
    replayed = each(lambda m: _judge(m, group, keep, ended), [m for m in shown if len(m.pool.problems)])
    competing = [r for r in replayed if r.competes]
    adjusted = dict(zip(competing, holm([bootstrap(r.gain).p for r in competing]), strict=True))
    best = max(competing, key=lambda r: r.gain.mean(), default=None)
    oracle = next((r for r in replayed if r.method.role == "oracle"), None)
    ranked = each(lambda r: _row(r, group, adjusted.get(r), best, oracle, vote), replayed)
    ranked.sort(key=lambda row: (row.role == "oracle", -(row.gain.mean if row.gain else -9.0)))
    failed = [
        Row(m.name, m.quadrant, m.fidelity, note=_note(m, group, None), role=m.role)
        for m in shown
        if not len(m.pool.problems)
    ]
    return exact + ranked + failed + [_leaky(group, keep, everything)]


def _chance(group: Group, keep: int) -> PerProblem:
    """The expectation of random survivors."""
    return random_stages(group.pool, group.stages) if group.stages else random_pruning(group.pool, keep, group.prefix)


def _judge(method: Method, group: Group, keep: int, ended: Ended) -> Replayed:
    if method.spent is not None:
        result = own_rule(method.pool, method.spent, method.values, method.checks)
        return Replayed(method, method.values > 0, result)
    if group.stages:
        staged, survivors = replay_stages(method.pool, method.cuts, group.stages, ended)
        return Replayed(method, survivors, staged)
    mask = kept_mask(method.pool, method.values, keep, group.prefix, ended)
    return Replayed(method, mask, replay(method.pool, mask, group.prefix, method.checks))


def _row(
    replayed: Replayed, group: Group, adjusted: float | None, best: Replayed | None, oracle: Replayed | None, vote: str | None
) -> Row:  # fmt: skip
    method, pool = replayed.method, replayed.method.pool
    behind = _paired(replayed, best) if best and replayed.competes and replayed is not best else None
    share = _paired(replayed, oracle) if oracle and method.top_k else None
    scores = method.values if method.top_k else None
    return Row(
        method.name,
        method.quadrant,
        method.fidelity,
        gain=bootstrap(replayed.gain),
        adjusted_p=adjusted,
        matched=bootstrap(replayed.result.accuracy - length_matched(pool, replayed.mask)),
        behind=bootstrap(behind[0] - behind[1]) if behind and len(behind[0]) else None,
        oracle_share=ratio(*share) if share and share[1].sum() > 0 else None,
        own_vote=_own_vote(replayed, vote),
        within=None if scores is None else bootstrap(within_auroc(scores, pool.correct)),
        pooled=None if scores is None else auroc(scores, pool.correct),
        label_tokens=method.label_tokens,
        note=_note(method, group, replayed),
        role=method.role,
        **_numbers(replayed.result, no_pruning(pool), pool),
    )


def _numbers(result: PerProblem, everything: PerProblem, pool: Pool) -> dict[str, Any]:
    """The columns that every row has; no FLOPs where nobody knows what a token of the generator costs."""
    return {
        "problems": len(result.accuracy),
        "accuracy": bootstrap(result.accuracy),
        "voted": bootstrap(result.voted),
        "tokens": bootstrap(result.tokens),
        "saved": float(1 - result.tokens.mean() / everything.tokens.mean()),
        "saved_generated": float(1 - result.generated.mean() / everything.generated.mean()),
        "flops": float(result.flops.mean()) if pool.flops.per_token else NAN,
        "kept_length": bootstrap(result.kept_length),
        "truncated": float(result.truncated.mean()),
    }


def _own_vote(replayed: Replayed, asked: str | None) -> tuple[str, Interval] | None:
    """The method's native vote, or the one asked for, on the same kept paths; None where it cannot be taken."""
    pool, scores = replayed.method.pool, replayed.method.values
    rule = asked or replayed.method.vote
    if not replayed.method.top_k:
        return None if asked else (rule, bootstrap(weighted_vote(pool, scores)))
    if rule == "majority" or (rule in ("weighted", "filtered") and (scores < 0).any()):
        return None
    return rule, bootstrap(weighted_vote(pool, vote_weights(pool, replayed.mask, scores, rule)))


def _paired(one: Replayed, other: Replayed) -> tuple[np.ndarray, np.ndarray]:
    """Gains of two methods on the problems that both have judged."""
    mine, theirs = (dict(zip(r.method.pool.problems, r.gain, strict=True)) for r in (one, other))
    common = [p for p in mine if p in theirs]
    return np.array([mine[p] for p in common]), np.array([theirs[p] for p in common])


def _note(method: Method, group: Group, replayed: Replayed | None) -> str:
    total, count = len(group.pool.problems), len(method.pool.problems)
    notes = [f"{method.errors} errors"] * bool(method.errors) + ["stale"] * method.stale
    notes += [f"{count} of {total} problems"] * (0 < count < total)
    if replayed and not method.top_k:
        kept = replayed.mask.sum(1)
        notes.append(f"own rule: {kept.mean():.1f} of {group.pool.n} paths vote")
        notes += [f"no path left on {int((kept == 0).sum())} problems"] * bool((kept == 0).any())
    return ", ".join(notes)


def _leaky(group: Group, keep: int, everything: PerProblem) -> Row:
    """The shortest full lengths, which no prefix shows: how much of a gain mere length could explain."""
    pool = group.pool
    shortness = -pool.lengths.astype(float)
    if group.stages:
        free = Checks(shortness, *[np.zeros_like(shortness)] * 2, *[np.zeros(len(shortness))] * 2)
        result, _ = replay_stages(pool, [free] * len(group.stages), group.stages)
    else:
        result = replay(pool, kept_mask(pool, shortness, keep, group.prefix), group.prefix)
    gain = bootstrap(result.accuracy - pool.correct.mean(1))
    return Row(
        "shortest in full (leaky)",
        "reference",
        "sees the future",
        gain=gain,
        role="oracle",
        **_numbers(result, everything, pool),
    )
