"""Matched-cost tables: the accuracy of each method within a budget, and its cost to match the accuracy of no pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from harness.api import PathpruneError
from harness.replay.stats import Interval, bootstrap
from harness.report import Group, matched
from harness.report.matched import Curve, Equivalent, Within
from harness.report.sheet import in_units
from harness.report.tables import BESIDE, detects, line, marked, notes, plain, shown, span, write_part
from harness.spec import Ended
from harness.store.files import writable

BEST = 8  # methods in a README's table
FIXED = (Fraction(1, 2), Fraction(1, 8))


@dataclass(frozen=True)
class Budgets:
    """One group's numbers. ``within``: by fraction of the full cost, gamma cross-fitted. The others: by gamma and method name."""

    group: Group
    cost: matched.CostUnit
    full: float  # mean cost of finishing every path
    within: dict[float, list[Within]]
    areas: dict[Fraction, dict[str, tuple[Interval, Interval | None]]]  # area and its gain over random
    spans: dict[Fraction, tuple[float, float] | None]
    equivalents: dict[Fraction, dict[str, Equivalent]]
    ended: Ended = "count"

    @property
    def title(self) -> str:
        """The group's title, with the rule for paths that end inside the prefix if it is not the usual one."""
        return self.group.title + f", ended {self.ended}" * (self.ended != "count")


def budgets(
    group: Group,
    cost: matched.CostUnit = "tokens",
    metric: matched.Metric = "voted",
    draws: int = matched.DRAWS,
    ended: Ended = "count",
) -> Budgets:
    """One group's numbers at matched cost.

    Args:
        group: the records.
        cost: "tokens" or "flops".
        metric: "voted" (majority vote), "accuracy" of the kept paths, or "matched" (beyond what path lengths explain).
        draws: random launches per setting, for votes.
        ended: "count" if paths that end inside the prefix use places among those kept, "bypass" if they vote in addition.

    Raises:
        PathpruneError: FLOPs of imported paths whose model has no stated number of parameters.
    """
    if cost == "flops" and not group.pool.flops.per_token:
        raise PathpruneError(
            f"{group.slug}: FLOPs are unknown; give the number of parameters on import, or compare in tokens"
        )
    compared = matched.curves(group, draws, ended)
    everything = compared[0]
    full = float(everything.costs(cost).max())
    within = {share: matched.at_budget(compared, share * full, cost, metric) for share in matched.SHARES}
    gammas = [g for g in FIXED if len(matched.family(group.pool.n, g)) > 1]
    spans = {g: matched.common_range(compared, g, cost) for g in gammas}
    return Budgets(
        group, cost, full, within,
        {g: _areas(compared, span, g, cost, metric) for g, span in spans.items() if span},
        spans,
        {g: {c.name: matched.equivalent_cost(c, everything, g, cost, metric) for c in compared[1:]} for g in gammas},
        ended,
    )  # fmt: skip


def _areas(
    compared: Sequence[Curve],
    span: tuple[float, float],
    gamma: Fraction,
    cost: matched.CostUnit,
    metric: matched.Metric,
) -> dict[str, tuple[Interval, Interval | None]]:
    values = {c.name: matched.area(c, span, gamma, cost, metric) for c in compared}
    chance = values["random"]
    return {n: (bootstrap(v), None if n == "random" else bootstrap(v - chance)) for n, v in values.items()}


def write(tables: Sequence[Budgets], file: Path) -> None:
    """Write all tables as Markdown, with the numbers in a CSV file next to it; between a README's markers, the best methods only."""
    brief = marked(file, "budgets")
    write_part(
        file,
        "budgets",
        "# Matched budgets\n\n",
        "\n".join(markdown(table, BEST if brief else None) for table in tables),
    )
    if not brief:
        with writable(file.with_suffix(".csv")) as part:
            sheet(tables).to_csv(part, index=False)


def markdown(table: Budgets, most: int | None = None) -> str:
    """The table as Markdown, sorted by accuracy at a quarter of the full cost; a method that cannot run within a budget has no entry.

    ``most``: maximum number of methods besides the controls."""
    heads = ["pruner", "type", *(f"{s:.0%} of full" for s in table.within), "p (Holm) at 25%", "behind the best at 25%"]
    heads += [f"area, gamma 1/{g.denominator}" for g in table.areas]
    heads += [f"reaches cons@{table.group.pool.n} at, gamma 1/{g.denominator}" for g in table.equivalents]
    lines = [
        f"#### {plain(table.title)}", "",
        f"cons within a budget of {_unit(table)}, as a share of the {table.full:,.0f} that finishing all {table.group.pool.n} paths takes "
        f"per problem; gamma cross-fitted over {matched.FOLDS} folds of problems.{BESIDE[table.ended]}", "",
        line(heads), "|" + "---|" * len(heads),
    ]  # fmt: skip
    rows = table.within[_middle(table)]
    best = [w.name for w in rows if w.role == "method" or most is None][:most]
    lines += [line(_cells(table, w.name)) for w in rows if w.name in (*best, "no pruning", "random")]
    spans = [
        f"gamma 1/{g.denominator}: {s[0]:,.0f} to {s[1]:,.0f}" if s else f"gamma 1/{g.denominator}: n/a"
        for g, s in table.spans.items()
    ]
    lines += [
        "",
        f"Areas are means over log {_unit(table)} of the range that every method reaches ({'; '.join(spans)}).",
        *filter(None, [power(table)]),
        *notes(table.group)[1:],
        "",
    ]
    return "\n".join(lines)


def _unit(table: Budgets) -> str:
    """What the budget counts: FLOPs, or the unit of the pool."""
    return table.group.unit if table.cost == "tokens" else table.cost


def power(table: Budgets) -> str:
    """A note on the smallest detectable gain over random at each budget; "" if none is known."""
    told = [span(f"at {share:.0%}", [w.detectable for w in rows]) for share, rows in table.within.items()]
    return detects(len(table.group.pool.problems), "gain in cons over random", told)


def _middle(table: Budgets) -> float:
    return 1 / 4 if 1 / 4 in table.within else max(table.within)


def _cells(table: Budgets, name: str) -> list[str]:
    rows = [next(w for w in ws if w.name == name) for ws in table.within.values()]
    middle = next(w for w in table.within[_middle(table)] if w.name == name)
    p = "-" if middle.adjusted_p is None or middle.adjusted_p != middle.adjusted_p else f"{middle.adjusted_p:.3f}"
    return [
        plain(name),
        plain(middle.quadrant),
        *(shown(w.value) for w in rows),
        p,
        shown(middle.behind, "+.3f"),
        *(shown(a[name][0]) for a in table.areas.values()),
        *(reach(e.get(name)) for e in table.equivalents.values()),
    ]


def reach(value: Equivalent | None) -> str:
    """``27% [21, 35]``, a fraction of the cost of no pruning; an interval end beyond the tried costs is "not reached"."""
    if value is None:
        return "-"
    if value.low != value.low:
        return f"{value.share:.0%} [n/a]" if value.share == value.share else "not reached"
    ends = [f"{100 * end:.0f}" if end < float("inf") else "not reached" for end in (value.low, value.high)]
    if value.share != value.share:
        return "not reached" if ends[0] == "not reached" else f"not reached [{ends[0]}, {ends[1]}]"
    return f"{value.share:.0%} [{ends[0]}, {ends[1]}]"


def sheet(tables: Sequence[Budgets]) -> pd.DataFrame:
    """Every number of the tables, one line per table, method and quantity."""
    lines: list[dict[str, Any]] = []
    groups: list[Group] = []
    for table in tables:
        about = {"table": table.group.slug, "cost": table.cost}
        about |= {} if table.ended == "count" else {"ended": table.ended}
        for share, rows in table.within.items():
            for w in rows:
                lines.append(about | {"quantity": "within", "share": share, "pruner": w.name} | _spread(w.value))
                if w.gain is not None:
                    compared = {"quantity": "gain over random", "share": share, "pruner": w.name}
                    lines.append(about | compared | {"detectable": w.detectable} | _spread(w.gain))
        for gamma, areas in table.areas.items():
            for name, (value, gain) in areas.items():
                lines.append(about | {"quantity": "area", "gamma": str(gamma), "pruner": name} | _spread(value))
                if gain is not None:
                    lines.append(
                        about | {"quantity": "area over random", "gamma": str(gamma), "pruner": name} | _spread(gain)
                    )
        for gamma, reached in table.equivalents.items():
            for name, e in reached.items():
                numbers = {"mean": e.share, "low": e.low, "high": e.high}
                lines.append(
                    about | {"quantity": "cost of no pruning's accuracy", "gamma": str(gamma), "pruner": name} | numbers
                )
        groups += [table.group] * (len(lines) - len(groups))
    return in_units(pd.DataFrame(lines).round(5), groups)


def _spread(value: Interval) -> dict[str, float]:
    return {"mean": value.mean, "low": value.low, "high": value.high}
