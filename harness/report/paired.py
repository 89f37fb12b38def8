"""A scorer with a stopping rule behind it, replayed from the scorer's records: a line of a table that needs no record of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.api import Cost
from harness.plugins.declared import Method as Asked
from harness.replay.latency import Latency, of_rule
from harness.replay.pool import Pool, kept_mask
from harness.replay.stages import check_costs, latency_of, survivors
from harness.report import Group, Method
from harness.spec import RunSpec
from harness.stopping import batch_of, enough, finishing, order_of, spent_of


def paired(asked: Asked, group: Group, spec: RunSpec) -> Method | None:
    """The method of ``stop+asc`` on a group that holds the scorer's; None where the scorer has no scores there.

    What the scorer keeps is finished from the highest score down, ties to the lower index, until the rule says enough. Paths
    that finish have one vote each.
    """
    scorer, rule = asked.plugins
    method = next((m for m in group.judged if m.name == scorer.name and m.top_k and len(m.pool.problems)), None)
    if method is None:
        return None
    pool = method.pool
    masks, checks = _cuts(method, group, spec)
    ends = group.ends(pool) if group.stages else list(spec.prefixes)
    reached = np.minimum(pool.lengths, _cut_at(masks, ends))
    spent, voting, behind = _finished(rule.pruner, pool, method.values, masks[-1], reached)
    return replace(
        method,
        name=asked.name,
        fidelity=" + ".join(dict.fromkeys((method.fidelity, rule.traits.fidelity))),
        vote="majority",
        values=voting.astype(np.float32),
        spent=spent,
        checks=checks,
        role="own-rule",
        shared=None,
        cold=None,
        cuts=(),
        latency=_latency(pool, ends, masks, behind),
    )


def _cuts(method: Method, group: Group, spec: RunSpec) -> tuple[list[np.ndarray], list[Cost]]:
    """(who is left after each cut, bool ``[Q, N]`` each; what scoring cost each problem)."""
    if not group.stages:
        return [kept_mask(method.pool, method.values, spec.keep, group.prefix, spec.ended)], method.checks
    masks = survivors(method.pool, method.cuts, group.stages, spec.ended)
    tokens, flops = check_costs(method.cuts, [np.ones_like(masks[0]), *masks[:-1]])
    return masks, [Cost(probed=int(t), flops=float(f)) for t, f in zip(tokens, flops, strict=True)]


def _cut_at(masks: list[np.ndarray], ends: Sequence[int | np.ndarray]) -> np.ndarray:
    """The last length to which each path was generated for a cut, int ``[Q, N]``."""
    alive_at = [np.ones_like(masks[0]), *masks[:-1]]
    return np.max([here * end for here, end in zip(alive_at, ends, strict=True)], axis=0)


def _finished(
    rule: Any, pool: Pool, scores: np.ndarray, mask: np.ndarray, reached: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Latency]:
    """(tokens of each path, who finishes, the latency behind the cuts) where the rule says when it is enough."""
    spent, voting = reached.copy(), np.zeros_like(mask)
    added = np.zeros_like(reached)  # in the order of finishing, so that batches lie side by side
    for q, kept in enumerate(mask):
        paths = np.flatnonzero(kept)
        paths = paths[np.argsort(-scores[q, paths], kind="stable")]
        rest = pool.lengths[q, paths] - reached[q, paths]
        order, ends = finishing(rule, rest)
        codes = pool.answers[q, paths[order]]
        seen = enough(rule, [None if code < 0 else code for code in codes.tolist()], ends)
        more = spent_of(rule, rest, order, seen)
        spent[q, paths] += more
        added[q, : len(more)] = more
        voting[q, paths[order[:seen]]] = True
    return spent, voting, of_rule(added, 0, order_of(rule) == "sequential", batch_of(rule))


def _latency(pool: Pool, ends: Sequence[int | np.ndarray], masks: list[np.ndarray], behind: Latency) -> Latency:
    """Of the cuts, up to the last of them, and of what the rule has generated behind them."""
    short = replace(pool, lengths=np.minimum(pool.lengths, ends[-1]))
    cuts = latency_of(short, ends, masks)
    return Latency(cuts.serial + behind.serial, cuts.rounds + behind.rounds)
