"""Replay several cuts in a row from the scores at each prefix length: survivors and cost.

This is valid for pointwise methods only, whose score of a survivor does not depend on the paths dropped before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.api import Cost
from harness.ledger import costs_of
from harness.loop import select
from harness.replay.latency import Latency
from harness.replay.pool import PerProblem, Pool, random_latency, random_pruning, vote_correct
from harness.spec import Ended, Stage


@dataclass(frozen=True, eq=False)
class Checks:
    """One method's scores at one prefix length, with the cost per path and the shared cost per problem."""

    scores: np.ndarray  # float32 [Q, N]
    path_tokens: np.ndarray  # [Q, N]
    path_flops: np.ndarray  # [Q, N]
    shared_tokens: np.ndarray  # [Q]
    shared_flops: np.ndarray  # [Q]
    once_tokens: np.ndarray | float = (
        0.0  # [Q], the part of the shared cost that later checks of the problem do not pay again
    )
    once_flops: np.ndarray | float = 0.0  # [Q]
    cold: np.ndarray | None = None  # [Q, N] tokens of each path if nothing were shared; None: not recorded
    places: np.ndarray | None = None  # int [Q, N] where each path is cut; None: all at the stage's prefix length
    reached: np.ndarray | None = None  # int [Q, N] how far each path was generated to find its place

    def end(self, stage: Stage) -> int | np.ndarray:
        """Tokens up to which the stage generates paths: one number, or ``[Q, N]``."""
        return stage.prefix if self.reached is None else self.reached

    def ended(self, pool: Pool, stage: Stage) -> np.ndarray:
        """Which paths have ended where the stage cuts them, bool ``[Q, N]``."""
        return np.asarray((pool.lengths <= (stage.prefix if self.places is None else self.places)) & pool.stopped)


def from_rows(rows: Sequence[Mapping[str, Any]], n: int) -> Checks:
    """The checks of the first n paths of each problem, from rows of a record.

    Raises:
        KeyError: a row does not state the cost per path.
    """
    scores = np.array([row["scores"][:n] for row in rows], dtype=np.float32).reshape(len(rows), n)
    each = [costs_of(row["each"] if any(row["cost"].values()) else {}, len(row["scores"])) for row in rows]
    total = [Cost(**row["cost"]) for row in rows]
    tokens = np.array([[c.tokens for c in costs] for costs in each], dtype=float)
    flops = np.array([[c.flops for c in costs] for costs in each], dtype=float)
    once = [Cost(**row.get("once", {})) for row in rows]
    return Checks(
        scores,
        tokens[:, :n],
        flops[:, :n],
        np.array([c.tokens for c in total]) - tokens.sum(1),
        np.array([c.flops for c in total]) - flops.sum(1),
        np.array([c.tokens for c in once], dtype=float),
        np.array([c.flops for c in once], dtype=float),
        _cold(rows, n),
        _lengths(rows, "places", n),
        _lengths(rows, "reached", n),
    )


def _lengths(rows: Sequence[Mapping[str, Any]], name: str, n: int) -> np.ndarray | None:
    """Lengths of paths stated in the rows of a record, int ``[Q, N]``; None if paths are cut at one length."""
    if not any(name in row for row in rows):
        return None
    return np.array([row[name][:n] for row in rows], dtype=int).reshape(len(rows), n)


def _cold(rows: Sequence[Mapping[str, Any]], n: int) -> np.ndarray | None:
    if not all("cold_each" in row for row in rows):
        return None
    each = [row["cold_each"] for row in rows]
    spread = [v if isinstance(v, list) else [v] * n for v in each]
    return np.array([v[:n] for v in spread], dtype=float).reshape(len(rows), n)


def survivors(
    pool: Pool, checks: Sequence[Checks], stages: Sequence[Stage], ended: Ended = "count"
) -> list[np.ndarray]:
    """The survivors of each stage, bool ``[Q, N]`` each, by the rule of the loop (``harness.loop.select``)."""
    alive = np.ones(pool.correct.shape, dtype=bool)
    masks = []
    for check, stage in zip(checks, stages, strict=True):
        stopped = check.ended(pool, stage)
        on = np.zeros_like(alive)
        for q, here in enumerate(alive):
            paths = np.flatnonzero(here)
            chosen = select(check.scores[q, paths], stopped[q, paths].tolist(), stage.keep, ended)
            on[q, paths[list(chosen)]] = True
        masks.append(on)
        alive = on
    return masks


def generation(
    pool: Pool, ends: Sequence[int | np.ndarray], masks: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sampled tokens, given tokens and FLOPs of every path as far as it is generated, ``[Q]`` each.

    ``ends``: tokens up to which each stage generates its paths, one number or ``[Q, N]``. ``masks`` may be probabilities:
    the cost is linear in them, so expectations are exact. The prompt is computed once, however many paths there are.
    """
    start = pool.prompts[:, None]
    reached = np.minimum(pool.lengths, ends[0])
    tokens = reached.sum(1).astype(float)
    given = pool.read(reached).sum(1).astype(float)
    flops = pool.flops(0, pool.prompts) + pool.flops(start, start + reached + pool.read(reached)).sum(1)
    for mask, end in zip(masks, [*ends[1:], pool.lengths], strict=True):
        further = np.maximum(np.minimum(pool.lengths, end), reached)
        tokens = tokens + ((further - reached) * mask).sum(1)
        before, after = (length + pool.read(length) for length in (reached, further))
        given = given + ((pool.read(further) - pool.read(reached)) * mask).sum(1)
        flops = flops + (pool.flops(start + before, start + after) * mask).sum(1)
        reached = further
    return tokens, given, flops


def check_costs(checks: Sequence[Checks], scored: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and FLOPs of scoring the paths that each stage scores, ``[Q]`` each; ``scored`` bool ``[Q, N]`` each."""
    tokens, flops = np.zeros(len(scored[0])), np.zeros(len(scored[0]))
    for number, (check, here) in enumerate(zip(checks, scored, strict=True)):
        tokens = tokens + check.shared_tokens + (check.path_tokens * here).sum(1)
        flops = flops + check.shared_flops + (check.path_flops * here).sum(1)
        if number:  # paid by the first check
            tokens, flops = tokens - check.once_tokens, flops - check.once_flops
    return tokens, flops


def latency_of(pool: Pool, ends: Sequence[int | np.ndarray], masks: Sequence[np.ndarray]) -> Latency:
    """The latency, given the survivors of each stage, ``masks`` bool ``[Q, N]``; ``ends`` as in ``generation``."""
    lengths = [np.minimum(pool.lengths, end) for end in ends] + [pool.lengths]
    grown = [(after - before) * mask for before, after, mask in zip(lengths[:-1], lengths[1:], masks, strict=True)]
    longest = np.array([lengths[0].max(1), *(part.max(1) for part in grown)], dtype=float)
    return Latency(longest.sum(0), (longest > 0).sum(0).astype(float))


def replay_stages(
    pool: Pool, checks: Sequence[Checks], stages: Sequence[Stage], ended: Ended = "count"
) -> tuple[PerProblem, np.ndarray]:
    """Accuracy and cost of a schedule per problem, and the finished paths, bool ``[Q, N]``."""
    masks = survivors(pool, checks, stages, ended)
    ends = [check.end(stage) for check, stage in zip(checks, stages, strict=True)]
    generated, given, flops = generation(pool, ends, masks)
    cold, scored = generated + given, [np.ones_like(masks[0]), *masks[:-1]]
    spent = check_costs(checks, scored)
    tokens, flops = generated + given + spent[0], flops + spent[1]
    for check, here in zip(checks, scored, strict=True):
        cold = cold + (np.nan if check.cold is None else (check.cold * here).sum(1))
    mask = masks[-1]
    kept = mask.sum(1)
    result = PerProblem(
        accuracy=(pool.correct * mask).sum(1) / kept,
        voted=vote_correct(pool, mask[:, None, :])[:, 0],
        generated=generated,
        tokens=tokens,
        flops=flops,
        kept_length=(pool.lengths * mask).sum(1) / kept,
        truncated=(~pool.stopped * mask).sum(1) / kept,
        cold=None if np.isnan(cold).any() else cold,
        latency=latency_of(pool, ends, masks),
    )
    return result, mask


def random_stages(pool: Pool, stages: Sequence[Stage], ends: Sequence[int | np.ndarray] = ()) -> PerProblem:
    """Expectation over uniformly random survivors at every stage; exact, except for the vote (see ``random_pruning``).

    ``ends``: tokens up to which each stage generates its paths, if not its prefix length.
    """
    ends = ends or [stage.prefix for stage in stages]
    masks = [np.full(pool.correct.shape, stage.keep / pool.n) for stage in stages]
    tokens, given, flops = generation(pool, ends, masks)
    last = vars(random_pruning(pool, stages[-1].keep, stages[-1].prefix))
    latency = random_latency(pool, ends, [s.keep for s in stages])
    return PerProblem(**(last | {"generated": tokens, "tokens": tokens + given, "flops": flops, "latency": latency}))
