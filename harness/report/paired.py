"""A scorer combined with a stopping rule, replayed from the scorer's records, without a record of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from harness.api import Cost
from harness.plugins.declared import Method as Asked
from harness.plugins.guard import PluginError, contained
from harness.public import public
from harness.replay.latency import Latency, of_rule
from harness.replay.pool import Pool, kept_mask
from harness.replay.stages import check_costs, latency_of, survivors
from harness.report import Group, Method
from harness.spec import RunSpec
from harness.stopping import batch_of, enough, finishing, order_of, spent_of


@dataclass(frozen=True, eq=False)
class Paired:
    """The combination of a scorer and a rule as a method. ``failures``: reason by problem on which the rule failed."""

    method: Method
    failures: Mapping[str, str]


def paired(asked: Asked, group: Group, spec: RunSpec, time_limit: float | None = None) -> Paired | None:
    """Replay a combination such as ``stop+asc`` on a group with the scorer's scores; None if the group has none.

    Kept paths finish in descending order of score, ties to the lower index, until the rule stops. Each finished
    path has one vote.

    Args:
        asked: the requested scorer and rule.
        group: the records.
        spec: the run's spec, with numbers of paths and cuts.
        time_limit: time limit of the rule in seconds per problem.
    """
    scorer, rule = asked.plugins
    method = next((m for m in group.judged if m.name == scorer.name and m.top_k and len(m.pool.problems)), None)
    if method is None:
        return None
    spec = spec.keeping_all() if scorer.traits.keeps_all else spec
    masks, checks = _cuts(method, group, spec)
    ends = group.ends(method.pool) if group.stages else list(spec.prefixes)
    reached = np.minimum(method.pool.lengths, _cut_at(masks, ends))
    seen, failures = _seen(rule.pruner, method, masks[-1], reached, time_limit)
    spent, voting, behind = _finished(rule.pruner, method, masks[-1], reached, seen)
    together = replace(
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
        latency=_latency(method.pool, ends, masks, behind),
    )
    return Paired(_without(together, failures), failures)


def _without(method: Method, failures: Mapping[str, str]) -> Method:
    """The method, restricted to problems on which its rule did not fail."""
    if not failures:
        return method
    rows = [q for q, problem in enumerate(method.pool.problems) if problem not in failures]
    assert method.spent is not None and method.latency is not None
    return replace(
        method,
        pool=method.pool.subset([method.pool.problems[q] for q in rows]),
        values=method.values[rows],
        spent=method.spent[rows],
        checks=[method.checks[q] for q in rows],
        latency=Latency(*(of_problems[rows] for of_problems in method.latency)),
        errors=method.errors + len(failures),
    )


def _cuts(method: Method, group: Group, spec: RunSpec) -> tuple[list[np.ndarray], list[Cost]]:
    """(paths left after each cut, bool ``[Q, N]`` each; cost of scoring per problem)."""
    if not group.stages:
        return [kept_mask(method.pool, method.values, spec.keep, group.prefix, spec.ended)], method.checks
    masks = survivors(method.pool, method.cuts, spec.stages, spec.ended)
    tokens, flops = check_costs(method.cuts, [np.ones_like(masks[0]), *masks[:-1]])
    return masks, [Cost(probed=int(t), flops=float(f)) for t, f in zip(tokens, flops, strict=True)]


def _cut_at(masks: list[np.ndarray], ends: Sequence[int | np.ndarray]) -> np.ndarray:
    """The length in tokens to which each path was generated for its last cut, int ``[Q, N]``."""
    alive_at = [np.ones_like(masks[0]), *masks[:-1]]
    return np.max([here * end for here, end in zip(alive_at, ends, strict=True)], axis=0)


def _ranked(scores: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Indices of the kept paths of one problem in descending order of score, ties to the lower index."""
    paths = np.flatnonzero(kept)
    return np.asarray(paths[np.argsort(-scores[paths], kind="stable")])


def _seen(
    rule: Any, method: Method, mask: np.ndarray, reached: np.ndarray, time_limit: float | None
) -> tuple[list[int], dict[str, str]]:
    """(number of each problem's kept paths that finish before the rule stops, reason by problem on which it failed)."""
    pool, counts, failures = method.pool, list[int](), dict[str, str]()
    for q, problem in enumerate(pool.problems):
        paths = _ranked(method.values[q], mask[q])
        order, ends = finishing(rule, pool.lengths[q, paths] - reached[q, paths])
        answers = [None if code < 0 else code for code in pool.answers[q, paths[order]].tolist()]
        try:
            counts.append(contained(partial(enough, rule, answers, ends), time_limit))
        except PluginError as error:
            counts.append(len(paths))
            failures[problem] = public(str(error))
    return counts, failures


def _finished(
    rule: Any, method: Method, mask: np.ndarray, reached: np.ndarray, seen: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, Latency]:
    """(tokens of each path, who finishes, the latency behind the cuts) where so many paths finish."""
    lengths, spent, voting = method.pool.lengths, reached.copy(), np.zeros_like(mask)
    added = np.zeros_like(reached)  # in the order of finishing, which makes batches contiguous
    for q, count in enumerate(seen):
        paths = _ranked(method.values[q], mask[q])
        rest = lengths[q, paths] - reached[q, paths]
        order, _ = finishing(rule, rest)
        more = spent_of(rule, rest, order, count)
        spent[q, paths] += more
        added[q, : len(more)] = more
        voting[q, paths[order[:count]]] = True
    return spent, voting, of_rule(added, 0, order_of(rule) == "sequential", batch_of(rule))


def _latency(pool: Pool, ends: Sequence[int | np.ndarray], masks: list[np.ndarray], behind: Latency) -> Latency:
    """The latency of all cuts plus that of the rule's generation after them."""
    short = replace(pool, lengths=np.minimum(pool.lengths, ends[-1]))
    cuts = latency_of(short, ends, masks)
    return Latency(cuts.serial + behind.serial, cuts.rounds + behind.rounds)
