"""The frontier of accuracy, tokens and latency: what each lane reaches within a budget, chosen on other problems.

A budget is a share of the tokens that finishing all paths takes, in the mean over problems: adaptive rules spend it unevenly,
which the table says. Within a lane two settings may be mixed at random, so a lane reaches every budget from its cheapest
setting on. Which settings are mixed is chosen on the other folds of problems and reported on the held-out one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linprog

from harness.replay.stats import Interval, bootstrap, holm
from harness.report import Group
from harness.report.lanes import WHOLE, Lane, Table, lanes, tables_of
from harness.report.tables import line, notes, plain, shown, write_part
from harness.rng import generator
from harness.store.files import writable

SHARES = (0.05, 0.125, 0.25, 0.5)
FOLDS = 5
DIGITS = 9  # beyond which mixtures of equal numbers differ
SHOWN = 0.005  # parts of a mixture that a table names
LEAST = 1e-6  # a setting with a smaller part in a mixture has none
Progress = Callable[[int, str], None]


@dataclass(frozen=True, eq=False)
class Reached:
    """What a lane gives within a budget on held-out problems, float ``[Q]`` each; ``settings`` are those of all problems."""

    voted: np.ndarray
    tokens: np.ndarray
    serial: np.ndarray
    settings: tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class Frontier:
    """Every lane of a pool at some budgets. ``reached``: by share of ``full`` tokens and by lane; a lane that is too dear is absent."""

    group: Group
    full: float
    lanes: tuple[Lane, ...]
    reached: dict[float, dict[str, Reached]]
    pairs: tuple[tuple[str, str], ...] = field(default=())

    def difference(self, share: float, one: str, other: str) -> Interval | None:
        """Paired difference of two lanes in cons; None where one of them is too dear."""
        here = self.reached[share]
        return bootstrap(here[one].voted - here[other].voted) if one in here and other in here else None


def frontiers(
    groups: Sequence[Group], scorers: Sequence[str], rules: Sequence[str], draws: int, shares: Sequence[float] = SHARES,
    progress: Progress = lambda done, note: None,
) -> list[Frontier]:  # fmt: skip
    """One frontier for each pool that the groups are of; a scorer that a pool lacks has no lane there."""
    out = []
    tables = tables_of(groups)
    for number, table in enumerate(tables):
        here = [name for name in scorers if any(s.name == name for s in table.scorers)]
        at = partial(_share_of_pool, progress, number, len(tables))
        out.append(frontier(table, here, rules, draws, shares, at))
    return out


def _share_of_pool(progress: Progress, number: int, count: int, done: int, total: int, name: str) -> None:
    """Tell in thousandths how far all pools are, from how far one of them is."""
    progress(round(1000 * (number + done / total) / count), name)


def frontier(
    table: Table, scorers: Sequence[str], rules: Sequence[str], draws: int, shares: Sequence[float] = SHARES,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> Frontier:  # fmt: skip
    """Play every lane of a table and choose its settings for every budget."""
    played = lanes(table, scorers, rules, draws, progress)
    full = float(table.pool.lengths.sum(1).mean())
    reached: dict[float, dict[str, Reached]] = {}
    for share in shares:
        within = {lane.name: crossfitted(lane, share * full) for lane in played}
        reached[share] = {name: one for name, one in within.items() if one is not None}
    return Frontier(table.group, full, tuple(played), reached, tuple(_pairs(played, scorers, rules)))


def folds_of(problems: int) -> np.ndarray:
    """The fold of each problem, int ``[Q]``; with fewer problems than folds each is its own."""
    return generator("cross-fit", problems).permutation(problems) % min(FOLDS, problems)


def crossfitted(lane: Lane, budget: float, serial: float = np.inf) -> Reached | None:
    """A lane within a budget of tokens, and of serial tokens; None where it is too dear, or there is but one problem."""
    folds, out = folds_of(lane.voted.shape[1]), np.full((3, lane.voted.shape[1]), np.nan)
    for fold in np.unique(folds):
        held = folds == fold
        weights = mixture(lane, ~held, budget, serial)
        if weights is None:
            return None
        out[:, held] = [(weights @ values[:, held]).round(DIGITS) for values in (lane.voted, lane.tokens, lane.serial)]
    weights = mixture(lane, np.ones(len(folds), dtype=bool), budget, serial)
    if weights is None:
        return None
    named = sorted(((w, s) for w, s in zip(weights, lane.settings, strict=True) if w > LEAST), reverse=True)
    voted, tokens, chain = out
    return Reached(voted, tokens, chain, tuple((setting, float(weight)) for weight, setting in named))


def mixture(lane: Lane, problems: np.ndarray, budget: float, serial: float = np.inf) -> np.ndarray | None:
    """How often each setting is used, ``[S]``: the best vote on these problems within the budgets; None where nothing fits."""
    if not problems.any():
        return None
    voted, tokens, chain = (values[:, problems].mean(1) for values in (lane.voted, lane.tokens, lane.serial))
    limits = [(tokens, budget)] + [(chain, serial)] * bool(np.isfinite(serial))
    solved = linprog(
        -voted,
        A_ub=np.stack([row / most for row, most in limits]),
        b_ub=np.ones(len(limits)),
        A_eq=np.ones((1, len(voted))),
        b_eq=[1.0],
        method="highs-ds",
    )
    if solved.status != 0:
        return None
    weights = np.where(solved.x > LEAST, solved.x, 0.0)
    return np.asarray(weights / weights.sum())


def _pairs(played: Sequence[Lane], scorers: Sequence[str], rules: Sequence[str]) -> list[tuple[str, str]]:
    """Lanes that are compared in pairs: what more cuts, a stopping rule, or either alone adds."""
    known = {lane.name for lane in played}
    wanted = [(rule, WHOLE) for rule in rules]
    for scorer in scorers:
        wanted += [(scorer, WHOLE), *((f"{scorer}, {cuts} cuts", scorer) for cuts in ("two", "three"))]
        for rule in rules:
            both = f"{scorer}+{rule}"
            wanted += [(scorer, rule), (both, scorer), (both, rule)]
    return [pair for pair in wanted if known.issuperset(pair)]


def write(found: Sequence[Frontier], file: Path) -> None:
    """All frontiers as Markdown, with the numbers as CSV beside it."""
    write_part(file, "frontier", "# Frontiers\n\n", "\n".join(markdown(one) for one in found))
    with writable(file.with_suffix(".csv")) as part:
        sheet(found).to_csv(part, index=False)


def markdown(one: Frontier) -> str:
    """Lanes by what they reach at a quarter of the tokens, and the paired differences."""
    middle = min(one.reached, key=lambda share: abs(share - 0.25))
    heads = ["lane", "kind", *(f"cons at {100 * share:g}%" for share in one.reached)]
    heads += [f"spent at {100 * middle:g}%, 10 to 90 % of problems", "serial tokens", "settings"]
    order = sorted(
        one.lanes,
        key=lambda lane: -one.reached[middle][lane.name].voted.mean() if lane.name in one.reached[middle] else 1,
    )
    title = one.group.title.partition(", L =")[0]
    lines = [
        f"#### {plain(title)}", "",
        f"cons within a budget of tokens, as a share of the {one.full:,.0f} that finishing all {one.group.pool.n} paths takes per problem; "
        f"settings are chosen on the other {FOLDS - 1} of {FOLDS} folds of problems.", "",
        line(heads), "|" + "---|" * len(heads), *(line(_cells(one, lane, middle)) for lane in order), "",
        *_differences(one), "", *notes(one.group)[1:], "",
    ]  # fmt: skip
    return "\n".join(lines)


def _cells(one: Frontier, lane: Lane, middle: float) -> list[str]:
    values = [within.get(lane.name) for within in one.reached.values()]
    cells = [plain(lane.name), lane.kind, *("-" if v is None else shown(bootstrap(v.voted)) for v in values)]
    here = one.reached[middle].get(lane.name)
    if here is None:
        return [*cells, "-", "-", "-"]
    low, high = np.quantile(here.tokens, [0.1, 0.9]) / one.full
    spent = f"{here.tokens.mean() / one.full:.1%} [{low:.1%}, {high:.1%}]"
    mixed = [(setting, weight) for setting, weight in here.settings if weight >= SHOWN]
    named = "; ".join(setting if len(mixed) == 1 else f"{weight:.0%} {setting}" for setting, weight in mixed)
    return [*cells, spent, f"{here.serial.mean():,.0f}", plain(named)]


def _differences(one: Frontier) -> list[str]:
    """Paired differences in cons, with Holm's p over the pairs of a budget."""
    heads = ["paired difference in cons", *(f"at {100 * share:g}%" for share in one.reached)]
    adjusted = {share: _adjusted(one, share) for share in one.reached}
    rows = []
    for pair in one.pairs:
        cells = []
        for share in one.reached:
            value = one.difference(share, *pair)
            p = adjusted[share].get(pair)
            cells.append("-" if value is None else f"{shown(value, '+.3f')}" + ("" if p is None else f" (p {p:.3f})"))
        rows.append(line([plain(f"{pair[0]} - {pair[1]}"), *cells]))
    return (
        [line(heads), "|" + "---|" * len(heads), *rows, "", "p is Holm's over the pairs of a budget."] if rows else []
    )


def _adjusted(one: Frontier, share: float) -> dict[tuple[str, str], float]:
    known = {pair: value for pair in one.pairs if (value := one.difference(share, *pair)) is not None}
    return dict(zip(known, holm([value.p for value in known.values()]), strict=True))


def sheet(found: Sequence[Frontier]) -> pd.DataFrame:
    """Every number, one line per pool, budget and lane or pair."""
    lines: list[dict[str, Any]] = []
    for one in found:
        for share, within in one.reached.items():
            about = {"pool": one.group.folder.name, "task": one.group.spec["task"], "share": share}
            kinds = {lane.name: lane.kind for lane in one.lanes}
            for name, value in within.items():
                setting = "; ".join(f"{weight:.3f} {setting}" for setting, weight in value.settings)
                numbers = {"lane": name, "kind": kinds[name], "settings": setting, **_spread("cons", value.voted)}
                numbers |= {"spent": value.tokens.mean() / one.full, "serial": value.serial.mean()}
                lines.append(about | numbers)
            for first, second in one.pairs:
                value_of = one.difference(share, first, second)
                if value_of is not None:
                    lines.append(
                        about | {"lane": f"{first} - {second}", "kind": "difference"} | _interval("cons", value_of)
                    )
    return pd.DataFrame(lines).round(5)


def _spread(name: str, values: np.ndarray) -> dict[str, float]:
    return _interval(name, bootstrap(values))


def _interval(name: str, value: Interval) -> dict[str, float]:
    return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
