"""Methods at matched cost: accuracy within a budget, area under accuracy against cost, and the cost of a given accuracy.

A budget is a mean over problems, in tokens or FLOPs per problem. A method can mix two launch sizes n at random, so
linear interpolation of accuracy in cost is achievable. Below its cheapest setting a method has no value; above its most
expensive one it spends no more. gamma = k / n is fixed, or chosen on held-out problems (cross-fitted).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from harness.api import Role
from harness.replay.pool import Pool, ended_inside
from harness.replay.stats import Interval, bootstrap, detectable, holm, interval_of, resampled
from harness.replay.sweep import Setting, Sweep, sweep
from harness.report import Group, Method
from harness.report.parallel import each
from harness.rng import generator
from harness.spec import Ended

GAMMAS = tuple(Fraction(1, 2**i) for i in range(1, 6))  # 1/2 to 1/32, as in STOP's Figs. 5 and 6
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # default budgets, as fractions of the cost of finishing all paths
DRAWS = 100
FOLDS = 5
WHOLE = (Fraction(1),)  # the gammas of no pruning
POINTS = 33  # budgets on a logarithmic scale over which an area is taken

CostUnit = Literal["tokens", "flops"]
Metric = Literal["voted", "accuracy", "matched"]  # cons@k, avg@k|n, or avg@k|n beyond what path lengths explain


def family(n: int, gamma: Fraction) -> list[Setting]:
    """Settings (n', gamma n') with whole k, n' = 1, 2, 3, 4, 6, 8, 12, ... up to n."""
    sizes = sorted({2**i for i in range(n.bit_length())} | {3 * 2**i for i in range(n.bit_length())} | {n})
    return [(size, int(size * gamma)) for size in sizes if size <= n and (size * gamma).denominator == 1]


@dataclass(frozen=True, eq=False)
class Curve:
    """One method at every gamma: a sweep whose settings are the families of all ``gammas``."""

    name: str
    quadrant: str
    pool: Pool
    swept: Sweep
    gammas: tuple[Fraction, ...]
    role: Role = "method"

    def rows(self, gamma: Fraction) -> list[int]:
        """Indices of the settings of a gamma; no pruning has only one gamma."""
        return [self.swept.at(s) for s in family(self.pool.n, WHOLE[0] if self.gammas == WHOLE else gamma)]

    def costs(self, cost: CostUnit) -> np.ndarray:
        """Mean cost of each setting over problems, float ``[S]``."""
        return np.asarray(getattr(self.swept, cost).mean(1))

    def within(self, budgets: np.ndarray, gamma: Fraction, cost: CostUnit, metric: Metric) -> np.ndarray:
        """The metric at each budget, ``[B, Q]``; NaN below the cheapest setting."""
        rows = self.rows(gamma)
        spent, values = self.costs(cost)[rows], getattr(self.swept, metric)[rows]
        order = np.argsort(spent, kind="stable")
        return interpolated(budgets, spent[order], values[order])

    def crossfitted(self, budget: float, cost: CostUnit, metric: Metric) -> np.ndarray:
        """The metric at a budget with gamma chosen on the other folds of problems, ``[Q]``; NaN if none fits."""
        folds = generator("cross-fit", len(self.pool.problems)).permutation(len(self.pool.problems)) % FOLDS
        spent, values = getattr(self.swept, cost), getattr(self.swept, metric)
        out = np.full(len(folds), np.nan)
        for fold in range(FOLDS):
            others = folds != fold
            if not others.any() or others.all():
                continue
            options = []
            for gamma in self.gammas:
                rows = np.array(self.rows(gamma))
                rows = rows[np.argsort(spent[rows][:, others].mean(1), kind="stable")]
                means = spent[rows][:, others].mean(1)
                seen = interpolated(np.array([budget]), means, values[rows][:, others])[0].mean()
                held = interpolated(np.array([budget]), means, values[rows][:, ~others])[0]
                options.append((seen, held))
            if any(np.isfinite(seen) for seen, _ in options):
                out[~others] = max(options, key=lambda o: -np.inf if np.isnan(o[0]) else o[0])[1]
        return out


def interpolated(budgets: np.ndarray, spent: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Interpolate ``values`` ``[S, Q]`` at ascending mean costs ``spent`` ``[S]`` linearly at ``budgets`` ``[B]``: ``[B, Q]``."""
    right = np.clip(np.searchsorted(spent, budgets, side="left"), 1, max(1, len(spent) - 1))
    left = right - 1
    right = np.minimum(right, len(spent) - 1)
    gap = np.maximum(spent[right] - spent[left], 1e-12)
    share = np.clip((budgets - spent[left]) / gap, 0.0, 1.0)[:, None]
    out = (1 - share) * values[left] + share * values[right]
    return np.where((budgets < spent[0] * (1 - 1e-9))[:, None], np.nan, out)


def curves(group: Group, draws: int = DRAWS, ended: Ended = "count") -> list[Curve]:
    """Curves of no pruning, of random, and of every top-k method of a group that has scored all problems.

    ``ended``: as in ``harness.spec.RunSpec``; with "bypass", random also finishes the paths that ended inside the prefix.
    """
    free = ended_inside(group.pool, group.prefix) if ended == "bypass" else None
    whole = family(group.pool.n, WHOLE[0])
    pruned = [s for gamma in GAMMAS for s in family(group.pool.n, gamma)]
    everything = sweep(group.pool, None, int(group.pool.lengths.max()), whole, draws=draws)
    chance = sweep(group.pool, None, group.prefix, pruned, draws=draws, free=free)
    out = [
        Curve("no pruning", "control", group.pool, everything, WHOLE, "closed-form"),
        Curve("random", "control", group.pool, chance, _possible(group.pool.n), "closed-form"),
    ]

    def curve(method: Method) -> Curve:
        swept = sweep(
            method.pool, method.values, group.prefix, pruned, method.checks, draws, shared=method.shared, free=free
        )
        return Curve(method.name, method.quadrant, method.pool, swept, _possible(group.pool.n), method.role)

    return out + each(curve, [m for m in group.judged if comparable(m, group)])


def _possible(n: int) -> tuple[Fraction, ...]:
    return tuple(g for g in GAMMAS if family(n, g))


def comparable(method: Method, group: Group) -> bool:
    """Has the method ranked paths on all of the group's problems, as paired comparisons need?"""
    return method.ranks and method.pool.problems == group.pool.problems


@dataclass(frozen=True)
class Within:
    """A method at one budget. ``gain`` (over random) and ``behind`` (the best rival) are paired differences; p is Holm-corrected.

    ``detectable``: the smallest gain that so many problems detect with 80 % power; None for controls and where it is unknown.
    """

    name: str
    quadrant: str
    budget: float
    value: Interval
    gain: Interval | None
    adjusted_p: float | None
    behind: Interval | None
    role: Role = "method"
    detectable: float | None = None


def at_budget(
    compared: Sequence[Curve],
    budget: float,
    cost: CostUnit = "tokens",
    metric: Metric = "voted",
    gamma: Fraction | None = None,
) -> list[Within]:
    """All methods at one budget, the best first; ``gamma`` None: cross-fitted. A method over budget has NaN."""
    values = {}
    for curve in compared:
        if gamma is None and curve.gammas != WHOLE:
            values[curve.name] = curve.crossfitted(budget, cost, metric)
        else:
            values[curve.name] = curve.within(np.array([budget]), gamma or WHOLE[0], cost, metric)[0]
    chance = values["random"]
    pruners = [c.name for c in compared if c.role == "method" and np.isfinite(values[c.name]).all()]
    adjusted = dict(zip(pruners, holm([bootstrap(values[p] - chance).p for p in pruners]), strict=True))
    best = max(pruners, key=lambda p: values[p].mean(), default=None)
    table = []
    for curve in compared:
        value = values[curve.name]
        paired = np.isfinite(value).all() and np.isfinite(chance).all() and curve.name != "random"
        rival = best is not None and curve.name in pruners and curve.name != best
        table.append(
            Within(
                curve.name,
                curve.quadrant,
                budget,
                bootstrap(value) if np.isfinite(value).all() else Interval(*[float("nan")] * 4),
                bootstrap(value - chance) if paired else None,
                adjusted.get(curve.name),
                bootstrap(value - values[best]) if rival and best else None,
                curve.role,
                detectable(value - chance) if paired and curve.role == "method" else None,
            )
        )
    return sorted(table, key=lambda w: -w.value.mean if w.value.mean == w.value.mean else np.inf)


def common_range(compared: Sequence[Curve], gamma: Fraction, cost: CostUnit) -> tuple[float, float] | None:
    """The range of costs that all curves at this gamma cover; None if it is empty."""
    ends = []
    for curve in compared:
        spent = curve.costs(cost)[curve.rows(gamma)]
        if len(spent) < 2:
            return None
        ends.append((spent.min(), spent.max()))
    low, high = max(a for a, _ in ends), min(b for _, b in ends)
    return (float(low), float(high)) if low < high else None


def area(
    curve: Curve, span: tuple[float, float], gamma: Fraction, cost: CostUnit = "tokens", metric: Metric = "voted"
) -> np.ndarray:
    """Mean of the metric over budgets evenly spaced in log cost, ``[Q]``: the normalised area under the curve."""
    budgets = np.geomspace(*span, POINTS)
    values = curve.within(budgets, gamma, cost, metric)
    return np.asarray(np.trapezoid(values, np.log(budgets), axis=0) / np.log(span[1] / span[0]))


@dataclass(frozen=True)
class Equivalent:
    """Cost at which a method matches the accuracy of no pruning, as a fraction of that one's cost; ``missed``: resamples that never do."""

    share: float  # NaN: not reached
    low: float
    high: float
    missed: float


def equivalent_cost(
    curve: Curve, everything: Curve, gamma: Fraction, cost: CostUnit = "tokens", metric: Metric = "voted"
) -> Equivalent:
    """A method's cost to match cons@N (or avg@N) of no pruning, as a fraction of that one's cost; bootstrap over problems.

    A resample that never reaches it counts as needing more than was tried; an interval end among such resamples is
    infinite.
    """
    rows = curve.rows(gamma)
    last = everything.swept.at((everything.pool.n, everything.pool.n))
    stacked = np.stack([getattr(curve.swept, metric)[r] for r in rows] + [getattr(everything.swept, metric)[last]])
    spent = np.stack([getattr(curve.swept, cost)[r] for r in rows] + [getattr(everything.swept, cost)[last]])
    point = _crossing(stacked.mean(1)[None], spent.mean(1)[None])[0]
    q = stacked.shape[1]
    if q < 2:
        return Equivalent(float(point) if np.isfinite(point) else float("nan"), *[float("nan")] * 3)
    shares = _crossing(resampled(stacked.T), resampled(spent.T))
    # Ranks instead of values, because infinities have an order but no mean.
    order = np.sort(shares)
    ranks = interval_of(0.0, np.arange(len(order), dtype=float), q)
    low, high = order[int(ranks.low)], order[min(len(order) - 1, int(np.ceil(ranks.high)))]
    return Equivalent(
        float(point) if np.isfinite(point) else float("nan"), float(low), float(high), float(np.isinf(shares).mean())
    )


def _crossing(values: np.ndarray, spent: np.ndarray) -> np.ndarray:
    """First cost at which a curve reaches the target in the last column, ``[R]``; infinite if it does not."""
    target, full = values[:, -1:], spent[:, -1:]
    values, spent = np.maximum.accumulate(values[:, :-1], 1), spent[:, :-1] / full
    reached = values >= target - 1e-12
    first = reached.argmax(1)
    row = np.arange(len(values))
    before = np.maximum(first - 1, 0)
    gap = values[row, first] - values[row, before]
    part = np.where(gap > 0, (target[:, 0] - values[row, before]) / np.where(gap > 0, gap, 1.0), 1.0)
    at = spent[row, before] + np.clip(part, 0, 1) * (spent[row, first] - spent[row, before])
    return np.where(reached.any(1), np.where(first == 0, spent[:, 0], at), np.inf)
