"""A policy for a budget, from a results folder: method, numbers of paths, cuts and stopping rule, with its expected accuracy.

The recommended policy is the best single setting of all lanes within the budgets. Its expected accuracy is cross-fitted: each
fold of problems uses the setting that is best on the other folds, which avoids selection bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.api import PathpruneError
from harness.replay.stats import Interval, bootstrap
from harness.report.frontier import folds_of
from harness.report.lanes import WHOLE, Kind, Lane


@dataclass(frozen=True)
class Plan:
    """A setting of a lane. ``expected``: cons on held-out problems; ``tokens`` and ``serial`` are means per problem."""

    lane: str
    kind: Kind
    setting: str
    expected: Interval
    tokens: float
    serial: float

    def __str__(self) -> str:
        return f"{self.lane}: {self.setting}"


@dataclass(frozen=True, eq=False)
class Recommendation:
    """``best``: the best plan overall; ``by_kind``: the best of each kind of lane, including ``best`` and no pruning.

    ``full``: tokens per problem for finishing all paths; ``title``: the records used. ``notes``: lines on methods that were
    left out, and on the retention law's plans.
    """

    best: Plan
    by_kind: tuple[Plan, ...]
    full: float = np.nan
    title: str = ""
    unit: str = "tokens"
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """One row per kind of lane, the best first, no pruning last."""
        rows = [
            {"recommended": plan is self.best, "kind": plan.kind, "lane": plan.lane, "setting": plan.setting}
            | {"cons": plan.expected.mean, "cons_low": plan.expected.low, "cons_high": plan.expected.high}
            | {"tokens": plan.tokens, "share": plan.tokens / self.full, "serial": plan.serial}
            for plan in self.by_kind
        ]
        return pd.DataFrame(rows)

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        shown = Table()
        for head in ("", "kind", "policy", "cons, held out", self.unit, "of all", f"serial {self.unit}"):
            shown.add_column(head)
        for plan in self.by_kind:
            mark = "recommended" if plan is self.best else ""
            spent = f"{plan.tokens:,.0f}", f"{plan.tokens / self.full:.1%}", f"{plan.serial:,.0f}"
            shown.add_row(*map(Text, (mark, plan.kind, str(plan), str(plan.expected), *spent)))
        return Group(Text(self.title, "table.title"), shown, *map(Text, self.notes))


def recommend(lanes: Sequence[Lane], budget: float, serial: float = np.inf, unit: str = "tokens") -> Recommendation:
    """The plan with the most right votes within the budgets.

    Args:
        lanes: the replayed lanes of a table.
        budget: maximum mean tokens per problem.
        serial: maximum mean serial tokens per problem.
        unit: what the lanes count; words where a pool is counted in words.

    Raises:
        PathpruneError: no setting stays within the budgets.
    """
    best = _best(lanes, budget, serial)
    if best is None:
        cheapest = min(float(lane.tokens.mean(1).min()) for lane in lanes)
        fastest = min(float(lane.serial.mean(1).min()) for lane in lanes)
        within = f"{budget:,.10g} {unit}" + f" and {serial:,.10g} serial {unit}" * bool(np.isfinite(serial))
        raise PathpruneError(
            f"no policy in these records stays within {within} per problem on every fold of problems; the cheapest takes "
            f"{cheapest:,.0f} {unit}, the fastest {fastest:,.0f} serial {unit}; raise the budget"
        )
    kinds: dict[Kind, list[Lane]] = {}
    for lane in lanes:
        kinds.setdefault(lane.kind, []).append(lane)
    plans = [plan for same in kinds.values() if (plan := _best(same, budget, serial)) is not None]
    # The expected accuracy of the best plan accounts for choosing among all kinds, not only within its own.
    plans = [best if plan.kind == best.kind else plan for plan in plans]
    shown = sorted(plans, key=lambda p: (p is not best, p.kind == WHOLE, -p.expected.mean))
    return Recommendation(best, tuple(shown), unit=unit)


def _best(lanes: Sequence[Lane], budget: float, serial: float) -> Plan | None:
    """The best setting of some lanes; None if none stays within the budgets on every fold."""
    columns = (np.concatenate([getattr(lane, name) for lane in lanes]) for name in ("voted", "tokens", "serial"))
    voted, tokens, chain = columns
    every = np.ones(voted.shape[1], dtype=bool)
    if (chosen := _argmax(voted, tokens, chain, every, budget, serial)) is None:
        return None
    folds, expected = folds_of(len(every)), np.full(len(every), np.nan)
    for fold in np.unique(folds):
        held = folds == fold
        if held.all() or (other := _argmax(voted, tokens, chain, ~held, budget, serial)) is None:
            return None
        expected[held] = voted[other, held]
    owner, setting = _owner(lanes, chosen)
    value = bootstrap(expected)
    return Plan(owner.name, owner.kind, setting, value, float(tokens[chosen].mean()), float(chain[chosen].mean()))


def _argmax(
    voted: np.ndarray, tokens: np.ndarray, chain: np.ndarray, problems: np.ndarray, budget: float, serial: float
) -> int | None:
    """The setting with the most right votes on these problems, ties to the cheapest; None if none is within the budgets."""
    means = [values[:, problems].mean(1) for values in (voted, tokens, chain)]
    within = np.flatnonzero((means[1] <= budget) & (means[2] <= serial))
    if not len(within):
        return None
    order = np.lexsort((means[1][within], -means[0][within].round(9)))
    return int(within[order[0]])


def _owner(lanes: Sequence[Lane], row: int) -> tuple[Lane, str]:
    for lane in lanes:
        if row < len(lane.settings):
            return lane, lane.settings[row]
        row -= len(lane.settings)
    raise AssertionError("a setting of no lane")
