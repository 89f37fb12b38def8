"""The frontier of accuracy, tokens and latency: the accuracy of each lane within a budget, with settings chosen on held-out folds.

A budget is a fraction of the tokens for finishing all paths, as a mean over problems. Adaptive rules spend it unevenly, and the
table shows the spread. A lane may mix two settings at random, and so reaches every budget above its cheapest setting.
The mixture is chosen on all folds of problems but one, and evaluated on that one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from harness.plugins.declared import Plugin
from harness.replay.stats import Interval, bootstrap, detectable, holm
from harness.report import Group
from harness.report.lanes import CUTS, PLACED, WHOLE, Kind, Lane, Table, lanes, name_of, without_lane
from harness.report.sheet import in_units
from harness.report.table import DRAWINGS, Drawing, stem_of
from harness.report.tables import BESIDE, detects, line, notes, plain, shown, span, write_part
from harness.rng import generator
from harness.spec import Ended
from harness.store.files import writable

SHARES = (0.05, 0.125, 0.25, 0.5)
FOLDS = 5
DIGITS = 9  # decimals; rounding makes mixtures of equal numbers equal
SHOWN = 0.005  # smallest weight of a setting that a table names
OVER = 0.02  # relative overspending on held-out problems above which a table warns
MORE: tuple[Kind, ...] = (*(kind for cuts, kind in CUTS.items() if cuts > 1), *PLACED.values(), "dynamic cuts")
Progress = Callable[[int, str], None]


@dataclass(frozen=True, eq=False)
class Reached:
    """A lane's results within a budget on held-out problems, float ``[Q]`` each; ``settings`` are chosen on all problems."""

    voted: np.ndarray
    tokens: np.ndarray
    serial: np.ndarray
    settings: tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False, repr=False)
class Frontier:
    """All lanes of a pool at several budgets.

    ``reached``: by fraction of ``full`` tokens, then by lane; lanes over budget are absent. ``pairs``: lanes that are compared.
    ``left_out``: for each recorded method without a lane, the reason.
    """

    group: Group
    full: float
    lanes: tuple[Lane, ...]
    reached: dict[float, dict[str, Reached]]
    pairs: tuple[tuple[str, str], ...] = field(default=())
    left_out: Mapping[str, str] = field(default_factory=dict)
    ended: Ended = "count"

    @property
    def title(self) -> str:
        """Task, model, engine and sampling in one line, and the rule for paths that end inside a prefix if it is not the usual one."""
        return self.group.title.partition(", L =")[0] + f", ended {self.ended}" * (self.ended != "count")

    def difference(self, share: float, one: str, other: str) -> Interval | None:
        """Paired difference of two lanes in majority vote at a budget; None if one of them is over budget."""
        values = self.differences(share, one, other)
        return None if values is None else bootstrap(values)

    def differences(self, share: float, one: str, other: str) -> np.ndarray | None:
        """The same of each problem, float ``[Q]``."""
        here = self.reached[share]
        return here[one].voted - here[other].voted if one in here and other in here else None

    def frame(self) -> pd.DataFrame:
        """One row per budget and lane, and per pair (``kind`` "difference"): cons with its interval, tokens, serial tokens."""
        return sheet([self])

    def plot(self, file: str | Path | None = None, venue: str = "neurips") -> Drawing:
        """Plot cons against tokens and against serial tokens to ``file``.png, .pdf and .csv; by default under results/figures.

        Args:
            file: path of the files without suffix.
            venue: widths and fonts: neurips, icml, acl or slides.
        """
        from harness.report.figures.frontier import frontier_figure

        stem = stem_of(file, DRAWINGS / self.slug)
        return Drawing(stem, frontier_figure(self, stem, venue))

    @property
    def slug(self) -> str:
        """The name of its figure."""
        other = f"-{self.ended}" * (self.ended != "count")
        return f"{self.group.spec['task']}-{self.group.folder.name}-frontier{other}"

    def __repr__(self) -> str:
        return markdown(self)

    def _repr_html_(self) -> str:
        heads, *cells = [_heads(self), *(_cells(self, lane) for lane in ordered(self))]
        shown_cells = pd.DataFrame(cells, columns=heads).to_html(index=False)
        return f"<p>{escape(self.title)}</p>{shown_cells}<p>{escape(power(self))}</p>"


@dataclass(frozen=True, eq=False)
class Frontiers(Sequence[Frontier]):
    """The frontiers of a results folder, one per pool."""

    frontiers: tuple[Frontier, ...]

    def frame(self) -> pd.DataFrame:
        """All numbers in one frame; the column ``pool`` names the pool."""
        return sheet(self.frontiers)

    def write(self, file: str | Path) -> None:
        """Write all tables as Markdown, or between a README's ``frontier`` markers, with the numbers in a CSV file next to it."""
        write(self.frontiers, Path(file))

    @overload
    def __getitem__(self, which: int) -> Frontier: ...
    @overload
    def __getitem__(self, which: slice) -> Frontiers: ...
    def __getitem__(self, which: int | slice) -> Frontier | Frontiers:
        return Frontiers(self.frontiers[which]) if isinstance(which, slice) else self.frontiers[which]

    def __len__(self) -> int:
        return len(self.frontiers)

    def __iter__(self) -> Iterator[Frontier]:
        return iter(self.frontiers)

    def _repr_html_(self) -> str:
        return "".join(one._repr_html_() for one in self.frontiers)


def frontiers(
    tables: Sequence[Table], scorers: Sequence[Sequence[str]], rules: Sequence[Plugin], draws: int,
    shares: Sequence[float] = SHARES, progress: Progress = lambda done, note: None, ended: Ended = "count",
) -> Frontiers:  # fmt: skip
    """One frontier per table; ``scorers``: per table, the scorers with lanes of several cuts and of stopping rules."""
    out = list[Frontier]()
    for number, (table, here) in enumerate(zip(tables, scorers, strict=True)):
        at = partial(_share_of_pool, progress, number, len(tables))
        out.append(frontier(table, here, rules, draws, shares, at, ended))
    return Frontiers(tuple(out))


def _share_of_pool(progress: Progress, number: int, count: int, done: int, total: int, name: str) -> None:
    """Report overall progress in thousandths, from the progress of one pool."""
    progress(round(1000 * (number + done / total) / count), name)


def frontier(
    table: Table, scorers: Sequence[str], rules: Sequence[Plugin], draws: int, shares: Sequence[float] = SHARES,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None, ended: Ended = "count",
) -> Frontier:  # fmt: skip
    """Replay every lane of a table, and choose its settings for every budget."""
    played = lanes(table, scorers, rules, draws, progress, ended)
    full = float(table.pool.lengths.sum(1).mean())
    reached: dict[float, dict[str, Reached]] = {}
    for share in shares:
        within = {lane.name: crossfitted(lane, share * full) for lane in played}
        reached[share] = {name: one for name, one in within.items() if one is not None}
    pairs = tuple(_pairs(played, scorers, [rule.name for rule in rules]))
    return Frontier(table.group, full, tuple(played), reached, pairs, table.left_out, ended)


def folds_of(problems: int) -> np.ndarray:
    """The fold of each problem, int ``[Q]``; with fewer problems than folds, each problem is a fold."""
    return generator("cross-fit", problems).permutation(problems) % min(FOLDS, problems)


def crossfitted(lane: Lane, budget: float) -> Reached | None:
    """A lane's cross-fitted results within a budget of tokens; None if it is over budget or there is only one problem."""
    folds, out = folds_of(lane.voted.shape[1]), np.full((3, lane.voted.shape[1]), np.nan)
    for fold in np.unique(folds):
        held = folds == fold
        weights = mixture(lane, ~held, budget)
        if weights is None:
            return None
        out[:, held] = [(weights @ values[:, held]).round(DIGITS) for values in (lane.voted, lane.tokens, lane.serial)]
    weights = mixture(lane, np.ones(len(folds), dtype=bool), budget)
    if weights is None:
        return None
    named = sorted(((w, s) for w, s in zip(weights, lane.settings, strict=True) if w > 0), reverse=True)
    voted, tokens, chain = out
    return Reached(voted, tokens, chain, tuple((setting, float(weight)) for weight, setting in named))


def mixture(lane: Lane, problems: np.ndarray, budget: float) -> np.ndarray | None:
    """Weights of the settings, float ``[S]``, with the best vote on these problems within the budget; None if nothing fits.

    The mixture is one setting, or the two around the budget on the concave hull of votes against tokens.
    """
    if not problems.any():
        return None
    voted, tokens = lane.voted[:, problems].mean(1), lane.tokens[:, problems].mean(1)
    corners = hull(tokens, voted)
    behind = int(np.searchsorted(tokens[corners], budget, side="right"))
    if not behind:
        return None
    weights = np.zeros(len(voted))
    below, above = corners[behind - 1], corners[min(behind, len(corners) - 1)]
    gap = tokens[above] - tokens[below]
    part = (budget - tokens[below]) / gap if gap > 0 else 0.0
    weights[below], weights[above] = 1 - part, part if gap > 0 else 1.0
    return weights


def hull(tokens: np.ndarray, voted: np.ndarray) -> np.ndarray:
    """Settings on the rising part of the concave hull of votes against tokens, the cheapest first; of equals the first."""
    voted = voted.round(DIGITS)
    corners: list[int] = []
    for setting in np.lexsort((-voted, tokens)):
        if corners and voted[setting] <= voted[corners[-1]]:
            continue  # more expensive and no better
        while len(corners) > 1 and _bends_up(tokens, voted, corners[-2], corners[-1], setting):
            corners.pop()
        corners.append(setting)
    return np.array(corners)


def _bends_up(tokens: np.ndarray, voted: np.ndarray, first: int, middle: int, last: int) -> bool:
    """Is the middle one of three settings no better than a mixture of the others?"""
    before, after = tokens[middle] - tokens[first], tokens[last] - tokens[middle]
    return bool((voted[middle] - voted[first]) * after <= (voted[last] - voted[middle]) * before)


def _pairs(played: Sequence[Lane], scorers: Sequence[str], rules: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of lanes to compare: what a further cut, a stopping rule, or either alone adds."""
    known = {lane.name for lane in played}
    wanted = [(rule, WHOLE) for rule in rules]
    for scorer in scorers:
        wanted += [(scorer, WHOLE), *((name_of(scorer, kind), scorer) for kind in MORE)]
        for rule in rules:
            both = f"{scorer}+{rule}"
            wanted += [(scorer, rule), (both, scorer), (both, rule)]
    return [pair for pair in wanted if known.issuperset(pair)]


def write(found: Sequence[Frontier], file: Path) -> None:
    """Write all frontiers as Markdown, with the numbers in a CSV file next to it."""
    write_part(file, "frontier", "# Frontiers\n\n", "\n".join(markdown(one) for one in found))
    with writable(file.with_suffix(".csv")) as part:
        sheet(found).to_csv(part, index=False)


def markdown(one: Frontier) -> str:
    """The table as Markdown, sorted by accuracy at a quarter of the tokens, and the paired differences."""
    lines = [
        f"#### {plain(one.title)}", "",
        f"cons within a budget of {one.group.unit}, as a share of the {one.full:,.0f} that finishing all {one.group.pool.n} paths takes per problem; "
        f"settings are chosen on the other {FOLDS - 1} of {FOLDS} folds of problems.{BESIDE[one.ended]}", "",
        line(_heads(one)), "|" + "---|" * len(_heads(one)), *(line(_escaped(_cells(one, lane))) for lane in ordered(one)), "",
        *_warnings(one), *_differences(one), "", *notes(one.group)[1:], "",
    ]  # fmt: skip
    return "\n".join(lines)


def _middle(one: Frontier) -> float:
    """The budget by which lanes are sorted, and for which details are shown."""
    return min(one.reached, key=lambda share: abs(share - 0.25))


def ordered(one: Frontier) -> list[Lane]:
    """The lanes by accuracy at the middle budget, the best first."""
    within = one.reached[_middle(one)]
    return sorted(one.lanes, key=lambda lane: -within[lane.name].voted.mean() if lane.name in within else 1)


def _heads(one: Frontier) -> list[str]:
    told = f"spent at {100 * _middle(one):g}%, 10 to 90 % of problems"
    budgets = (f"cons at {100 * share:g}%" for share in one.reached)
    return ["lane", "kind", "settings tried", *budgets, told, f"serial {one.group.unit}", "settings"]


def _cells(one: Frontier, lane: Lane) -> list[str]:
    values = [_cell(one, share, lane.name) for share in one.reached]
    cells, middle = [lane.name, lane.kind, str(len(lane.settings)), *values], _middle(one)
    here = one.reached[middle].get(lane.name)
    if here is None:
        return [*cells, "-", "-", "-"]
    low, high = np.quantile(here.tokens, [0.1, 0.9]) / one.full
    spent = f"{here.tokens.mean() / one.full:.1%} [{low:.1%}, {high:.1%}]"
    mixed = [(setting, weight) for setting, weight in here.settings if weight >= SHOWN]
    named = "; ".join(setting if len(mixed) == 1 else f"{weight:.0%} {setting}" for setting, weight in mixed)
    return [*cells, spent, f"{here.serial.mean():,.0f}", named]


def _cell(one: Frontier, share: float, name: str) -> str:
    """cons of a lane within a budget, marked if held-out problems overspend."""
    value = one.reached[share].get(name)
    return "-" if value is None else shown(bootstrap(value.voted)) + " (over)" * _overspends(one, share, value)


def _escaped(cells: Sequence[str]) -> list[str]:
    """Cells of a Markdown table, with the first and the last, which contain foreign names, escaped."""
    return [plain(cells[0]), *cells[1:-1], plain(cells[-1])]


def _overspends(one: Frontier, share: float, value: Reached) -> bool:
    return bool(value.tokens.mean() > (1 + OVER) * share * one.full)


def _warnings(one: Frontier) -> list[str]:
    """Notes on lanes that overspend, and on methods without a lane."""
    marked = any(_overspends(one, share, v) for share, within in one.reached.items() for v in within.values())
    lines = [f"(over): spends over {OVER:.0%} more than the budget on the held-out problems.", ""] if marked else []
    return lines + [part for told in without_lane(one.left_out) for part in (plain(told), "")]


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
    told = ["p is Holm's over the pairs of a budget.", *filter(None, [power(one)])]
    return [line(heads), "|" + "---|" * len(heads), *rows, "", *told] if rows else []


def power(one: Frontier) -> str:
    """A note on the smallest detectable difference of a pair at each budget; "" if none is known."""
    told = [span(f"at {100 * share:g}%", list(_detectable(one, share).values())) for share in one.reached]
    return detects(len(one.group.pool.problems), "difference in cons", told, "pair")


def _detectable(one: Frontier, share: float) -> dict[tuple[str, str], float | None]:
    """The smallest detectable difference of each pair within a budget."""
    known = {pair: one.differences(share, *pair) for pair in one.pairs}
    return {pair: detectable(values) for pair, values in known.items() if values is not None}


def _adjusted(one: Frontier, share: float) -> dict[tuple[str, str], float]:
    known = {pair: value for pair in one.pairs if (value := one.difference(share, *pair)) is not None}
    return dict(zip(known, holm([value.p for value in known.values()]), strict=True))


def sheet(found: Sequence[Frontier]) -> pd.DataFrame:
    """Every number, one line per pool, budget and lane or pair."""
    lines: list[dict[str, Any]] = []
    groups: list[Group] = []
    for one in found:
        for share, within in one.reached.items():
            about = {"pool": one.group.folder.name, "task": one.group.spec["task"], "share": share}
            about |= {} if one.ended == "count" else {"ended": one.ended}
            known = {lane.name: lane for lane in one.lanes}
            for name, value in within.items():
                setting = "; ".join(f"{weight:.3f} {setting}" for setting, weight in value.settings)
                numbers = {
                    "lane": name,
                    "kind": known[name].kind,
                    "tried": len(known[name].settings),
                    "settings": setting,
                }
                numbers |= {
                    **_spread("cons", value.voted),
                    "spent": value.tokens.mean() / one.full,
                    "serial": value.serial.mean(),
                }
                lines.append(about | numbers)
            for (first, second), least in _detectable(one, share).items():
                value_of = one.difference(share, first, second)
                assert value_of is not None
                pair = {"lane": f"{first} - {second}", "kind": "difference", "detectable": least}
                lines.append(about | pair | _interval("cons", value_of))
        groups += [one.group] * (len(lines) - len(groups))
    return in_units(pd.DataFrame(lines).round(5), groups)


def _spread(name: str, values: np.ndarray) -> dict[str, float]:
    return _interval(name, bootstrap(values))


def _interval(name: str, value: Interval) -> dict[str, float]:
    return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
