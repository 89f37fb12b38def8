"""The retention law's plans within a budget, and their accuracy on the problems of a pool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.api import PathpruneError
from harness.replay.policy import Policy, play
from harness.replay.stats import bootstrap
from harness.report.lanes import Table
from harness.spec import Ended, Stage
from harness.studies import law as laws


def law_plans(file: Path, table: Table, budget: float, draws: int, ended: Ended = "count") -> list[str]:
    """Lines with the law's plan, and its warnings, at each prefix length at which its method was benched.

    Empty without a law, or without scores of its method.

    Raises:
        PathpruneError: the file is not a law.
    """
    if not file.exists():
        return []
    fitted = laws.read(file)
    return [
        line
        for prefix in _prefixes(table, fitted["pruner"])
        for line in _planned(fitted, table, prefix, budget, draws, ended)
    ]


def _prefixes(table: Table, pruner: str) -> list[int]:
    return sorted(prefix for scorer in table.scorers if scorer.name == pruner for prefix in scorer.cuts)


def _planned(
    fitted: dict[str, Any], table: Table, prefix: int, budget: float, draws: int, ended: Ended
) -> Iterator[str]:
    scorer = next(scorer for scorer in table.scorers if scorer.name == fitted["pruner"])
    try:
        plan = laws.recommend(fitted, budget, prefix, float(table.pool.lengths.mean()))
    except PathpruneError as error:  # such as a prefix beyond the paths' mean length
        yield f"the retention law has no plan at L = {prefix}: {error}"
        return
    told = f"the retention law at L = {prefix}: launch {plan.n}, finish {plan.k}"
    if plan.n <= table.pool.n:
        policy = Policy(plan.n, (Stage(prefix, plan.k),), ended=ended)
        gave = play(table.pool, policy, [scorer.cuts[prefix]], draws)
        told += f": {scorer.name}'s cons {bootstrap(gave.voted)} for {gave.tokens.mean():,.0f} tokens"
    yield told
    yield from (f"  warning: {warning}" for warning in (*_elsewhere(fitted, table), *plan.warnings))


def _elsewhere(fitted: dict[str, Any], table: Table) -> Iterator[str]:
    """A warning if the law was fitted on other pools: it holds for one task and one model."""
    spec = table.group.spec
    if not any(pool.startswith(f"{spec['task']}-{spec['engine']['model']}-") for pool in fitted["pools"]):
        yield f"the law was fitted on {', '.join(fitted['pools'])}"
