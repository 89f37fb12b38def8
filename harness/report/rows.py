"""The rows of a table: every method of a group against the exact controls, with confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.api import PathpruneError, Role
from harness.replay.pool import (
    PerProblem,
    Pool,
    ended_inside,
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
from harness.replay.stats import FEW, Interval, auroc, bootstrap, bootstraps, detectable, holm, ratio, within_auroc
from harness.report import Group, Method
from harness.report.parallel import each
from harness.spec import Ended

NAN = float("nan")
NOTHING = Interval(NAN, NAN, NAN, NAN)


@dataclass(frozen=True)
class Row:
    """One row of a table. Intervals are 95 % bootstrap over problems; gains are paired differences to random's expectation.

    A number that does not apply to a row (a failed score, a meaningless comparison) is None or NaN.
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
    cold_tokens: Interval | None = None  # without shared reading of prompts; None: it reads no text, or not recorded
    saved: float = NAN
    saved_generated: float = NAN
    flops: float = NAN
    within: Interval | None = None
    pooled: float | None = None
    kept_length: Interval = NOTHING
    truncated: float = NAN
    label_tokens: int | None = None
    note: str = ""
    bypassed: Interval | None = None  # gain where paths that end before L vote on top of the k; None where none does
    role: Role = "method"
    serial: Interval | None = None  # generated tokens that must come one after another; None: not recorded
    rounds: float = NAN  # of generation
    detectable: float | None = None  # the smallest gain that so many problems find with 80 % power; None: not compared
    detectable_voted: float | None = None  # the same of cons@k


@dataclass(frozen=True, eq=False)
class Replayed:
    """A method's result on its problems."""

    method: Method
    mask: np.ndarray  # [Q, N] paths that are finished and vote
    result: PerProblem
    chance: np.ndarray  # [Q] votes that are right on random survivors

    @property
    def by_votes(self) -> bool:
        """Is it ranked by its votes, as methods that prune redundant paths are?"""
        return self.method.ranked_by == "votes"

    @property
    def has_gain(self) -> bool:
        """Is it compared with random survivors? Votes of a rule with its own budget are not."""
        return self.method.top_k or not self.by_votes

    @property
    def gain(self) -> np.ndarray:
        """Gain over random's expectation, float ``[Q]``: in avg@k, or in cons@k for methods ranked by votes."""
        if self.by_votes:
            return self.result.voted - self.chance
        return self.result.accuracy - self.method.pool.correct.mean(1)

    @property
    def competes(self) -> bool:
        """Does it compete with the methods that keep the same number of paths at L, judging by prefixes?"""
        return self.method.ranks


def rows(group: Group, keep: int, ended: Ended = "count", vote: str | None = None) -> list[Row]:
    """The rows of a group: both exact controls first, then methods by gain, references last.

    Args:
        group: the records.
        keep: number k of paths kept.
        ended: "count" if paths that end before L use places among the k, "bypass" if they vote in addition.
        vote: the vote of the second vote column; None: each method's own.

    Raises:
        PathpruneError: ``keep`` is not between 1 and n.
    """
    if not 1 <= keep <= group.pool.n:
        raise PathpruneError(f"keep must be from 1 to n = {group.pool.n}, not {keep}")
    everything, drawn = no_pruning(group.pool), chance(group, keep)
    few = "" if len(group.pool.problems) >= FEW else "few problems"
    exact = [
        Row(
            "all (no pruning)",
            "control",
            "definition",
            note=few,
            role="closed-form",
            **_numbers(everything, everything, group.pool),
        ),
        Row(
            "random (expected)",
            "control",
            "definition",
            role="closed-form",
            **_numbers(drawn, everything, group.pool),
        ),
    ]
    shown = [m for m in group.judged if m.role != "closed-form"]
    replayed = each(lambda m: judge(m, group, keep, ended), [m for m in shown if len(m.pool.problems)])
    competing = [r for r in replayed if r.competes]
    adjusted = _adjusted(competing)
    best = max((r for r in competing if not r.by_votes), key=lambda r: r.gain.mean(), default=None)
    oracle = next((r for r in replayed if r.method.role == "oracle"), None)
    once = [*_grouped(competing, _shown_once), *([r] for r in replayed if not r.competes)]
    ranked = each(
        lambda same: _named(
            _row(same[0], group, keep, ended, adjusted.get(same[0]), best, oracle, vote, drawn.voted), same
        ),
        once,
    )
    ranked.sort(key=lambda row: (row.role == "oracle", -(row.gain.mean if row.gain else -9.0)))
    failed = [
        Row(m.name, m.quadrant, m.fidelity, note=_note(m, group, None), role=m.role)
        for m in shown
        if not len(m.pool.problems)
    ]
    return exact + ranked + failed + [_leaky(group, keep, everything)]


def _adjusted(competing: Sequence[Replayed]) -> dict[Replayed, float]:
    """Holm's p-values; methods that keep the same paths of the same problems are one hypothesis."""
    hypotheses = _grouped(competing, _kept_alike)
    values = holm([bootstrap(same[0].gain).p for same in hypotheses])
    return {r: p for same, p in zip(hypotheses, values, strict=True) for r in same}


def _kept_alike(one: Replayed) -> Hashable:
    return one.method.pool.problems, one.mask.tobytes(), one.by_votes


def _shown_once(one: Replayed) -> Hashable:
    """A key that is equal for methods that keep the same paths at the same cost, which share one row."""
    cost = one.result.tokens.tobytes(), one.result.flops.tobytes()
    return _kept_alike(one), cost, one.method.quadrant, one.method.errors, one.method.stale


def _grouped(replayed: Sequence[Replayed], key: Callable[[Replayed], Hashable]) -> list[list[Replayed]]:
    """Methods grouped by key, each group sorted by length of name."""
    groups: dict[Hashable, list[Replayed]] = {}
    for one in replayed:
        groups.setdefault(key(one), []).append(one)
    return [sorted(same, key=lambda r: (len(r.method.name), r.method.name)) for same in groups.values()]


def _named(row: Row, same: Sequence[Replayed]) -> Row:
    """The row of the first of these methods, with the names of all."""
    if len(same) == 1:
        return row
    names = " = ".join(r.method.name for r in same)
    labels = " / ".join(dict.fromkeys(r.method.fidelity for r in same))
    note = ", ".join(filter(None, [row.note, f"{len(same)} methods that keep the same paths"]))
    return replace(row, name=names, fidelity=labels, note=note)


def chance(group: Group, keep: int, pool: Pool | None = None) -> PerProblem:
    """The expectation over random survivors, on the group's problems or on those of ``pool``."""
    pool = pool or group.pool
    if group.stages:
        return random_stages(pool, group.stages, group.ends(pool))
    return random_pruning(pool, keep, group.prefix)


def judge(method: Method, group: Group, keep: int, ended: Ended = "count") -> Replayed:
    """Replay a method on its problems; parameters as in ``rows``."""
    mask, result = _replayed(method, group, keep, ended)
    by_votes = method.ranked_by == "votes"
    drawn = chance(group, keep, method.pool).voted if by_votes else np.zeros(len(method.pool.problems))
    return Replayed(method, mask, result, drawn)


def _replayed(method: Method, group: Group, keep: int, ended: Ended) -> tuple[np.ndarray, PerProblem]:
    """(paths that are finished and vote, bool ``[Q, N]``; the results)."""
    if method.spent is not None:
        rule = own_rule(method.pool, method.spent, method.values, method.checks, method.cold, method.latency)
        return method.values > 0, rule
    if group.stages:
        staged, survivors = replay_stages(method.pool, method.cuts, group.stages, ended)
        return survivors, staged
    mask = kept_mask(method.pool, method.values, keep, group.prefix, ended)
    return mask, replay(method.pool, mask, group.prefix, method.checks, method.cold)


def _row(
    replayed: Replayed, group: Group, keep: int, ended: Ended, adjusted: float | None, best: Replayed | None,
    oracle: Replayed | None, vote: str | None, drawn: np.ndarray,
) -> Row:  # fmt: skip
    method, pool = replayed.method, replayed.method.pool
    behind = _paired(replayed, best) if best and replayed.competes and replayed is not best else None
    share = _paired(replayed, oracle) if oracle and method.top_k and not replayed.by_votes else None
    scores = method.values if method.top_k else None
    gain, matched = (
        bootstraps([replayed.gain, replayed.result.accuracy - length_matched(pool, replayed.mask)])
        if replayed.has_gain
        else (None, None)
    )
    return Row(
        method.name,
        method.quadrant,
        method.fidelity,
        gain=gain,
        adjusted_p=adjusted,
        matched=matched,
        behind=bootstrap(behind[0] - behind[1]) if behind and len(behind[0]) else None,
        oracle_share=ratio(*share) if share and share[1].sum() > 0 else None,
        own_vote=_own_vote(replayed, vote),
        within=None if scores is None else bootstrap(within_auroc(scores, pool.correct)),
        pooled=None if scores is None else auroc(scores, pool.correct),
        label_tokens=method.label_tokens,
        note=_note(method, group, replayed),
        bypassed=_bypassed(replayed, group, keep, ended),
        role=method.role,
        **power_of(replayed, group, drawn),
        **_numbers(replayed.result, no_pruning(pool), pool),
    )


def power_of(replayed: Replayed, group: Group, drawn: np.ndarray) -> dict[str, Any]:
    """The detectable gains of a competing method; ``drawn``: votes of random survivors on the group's problems."""
    if not replayed.competes or replayed.method.pool.problems != group.pool.problems:
        return {}
    voted = detectable(replayed.result.voted - drawn)
    return {"detectable": None if replayed.by_votes else detectable(replayed.gain), "detectable_voted": voted}


def _bypassed(replayed: Replayed, group: Group, keep: int, ended: Ended) -> Interval | None:
    """The gain under the official code's rule for paths that end before L; None without such paths, or if the table uses it already."""
    method = replayed.method
    if ended == "bypass" or not replayed.competes or group.stages or not ended_inside(method.pool, group.prefix).any():
        return None
    return bootstrap(judge(method, group, keep, "bypass").gain)


def _numbers(result: PerProblem, everything: PerProblem, pool: Pool) -> dict[str, Any]:
    """The columns of every row; FLOPs are missing if the generator's cost per token is unknown."""
    columns = {
        "accuracy": result.accuracy,
        "voted": result.voted,
        "tokens": result.tokens,
        "cold_tokens": result.cold,
        "kept_length": result.kept_length,
        "serial": result.latency.serial if result.latency else None,
    }
    there = {name: column for name, column in columns.items() if column is not None}
    intervals = dict(zip(there, bootstraps([*there.values()]), strict=True))
    return {
        "problems": len(result.accuracy),
        **{name: intervals.get(name) for name in columns},
        "saved": float(1 - result.tokens.mean() / everything.tokens.mean()),
        "saved_generated": float(1 - result.generated.mean() / everything.generated.mean()),
        "flops": float(result.flops.mean()) if pool.flops.per_token else NAN,
        "truncated": float(result.truncated.mean()),
        "rounds": float(result.latency.rounds.mean()) if result.latency else NAN,
    }


def _own_vote(replayed: Replayed, asked: str | None) -> tuple[str, Interval] | None:
    """The method's native vote, or the requested one, on its kept paths; None if it cannot be computed."""
    pool, scores = replayed.method.pool, replayed.method.values
    rule = asked or replayed.method.vote
    if not replayed.method.top_k:
        return None if asked else (rule, bootstrap(weighted_vote(pool, scores)))
    if rule == "majority" or (rule in ("weighted", "filtered") and (scores < 0).any()):
        return None
    return rule, bootstrap(weighted_vote(pool, vote_weights(pool, replayed.mask, scores, rule)))


def _paired(one: Replayed, other: Replayed) -> tuple[np.ndarray, np.ndarray]:
    """avg@k of two methods on the problems that both have scored, or their votes if the first is ranked by votes. Random's
    expectation cancels out."""

    def reached(of: Replayed) -> np.ndarray:
        return of.result.voted if one.by_votes else of.gain

    mine, theirs = (dict(zip(r.method.pool.problems, reached(r), strict=True)) for r in (one, other))
    common = [p for p in mine if p in theirs]
    return np.array([mine[p] for p in common]), np.array([theirs[p] for p in common])


def _note(method: Method, group: Group, replayed: Replayed | None) -> str:
    total, count = len(group.pool.problems), len(method.pool.problems)
    notes = [f"{method.errors} errors"] * bool(method.errors) + ["stale"] * method.stale
    notes += [f"{count} of {total} problems"] * (0 < count < total)
    notes += ["gain of votes"] * (method.ranked_by == "votes" and method.top_k)
    if replayed and not method.top_k:
        kept = replayed.mask.sum(1)
        notes.append(f"own rule: {kept.mean():.1f} of {group.pool.n} paths vote")
        notes += [f"no path left on {int((kept == 0).sum())} problems"] * bool((kept == 0).any())
    return ", ".join(notes)


def _leaky(group: Group, keep: int, everything: PerProblem) -> Row:
    """Keep the paths with the shortest full lengths, unknown at the prefix: an upper reference for gains by length alone."""
    pool = group.pool
    shortness = -pool.lengths.astype(float)
    if group.stages:
        free = Checks(shortness, *[np.zeros_like(shortness)] * 2, *[np.zeros(len(shortness))] * 2)
        lengths = [None if isinstance(end, int) else end for end in group.ends(pool)]
        result, _ = replay_stages(pool, [replace(free, places=at, reached=at) for at in lengths], group.stages)
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
