"""A one-screen table: no pruning, random, the best method of each type, a stopping rule, and an oracle.

The best method of a type is chosen by cross-fitting: each fold of problems uses the method with the largest gain on the other
folds, which keeps selection from inflating the numbers. The row is named after the method chosen most often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from harness.api import PathpruneError, Quadrant
from harness.replay.pool import PerProblem, no_pruning
from harness.replay.stats import Interval, bootstrap
from harness.report import Group
from harness.report.frontier import folds_of
from harness.report.rows import Replayed, chance, judge, power_of
from harness.report.tables import DETECTABLE, line, plain, power_text, shown, write_part

STOPPING = "asc"  # the stopping rule shown
ALL, RANDOM, ORACLE = "no pruning", "random", "oracle"
ORDER = [ALL, RANDOM, "control", *(q for q in get_args(Quadrant) if q != "control"), STOPPING, ORACLE]
HEADS = [
    "method",
    "type",
    "accuracy of the kept paths",
    "gain over random",
    "majority vote",
]  # and the share of tokens saved


@dataclass(frozen=True)
class Line:
    """One line; ``gain`` is None for rows without a comparison. ``place``: its line in a table of several models, see ``ORDER``."""

    place: str
    name: str
    quadrant: str
    accuracy: Interval
    gain: Interval | None
    voted: Interval
    saved: float

    def cells(self) -> list[str]:
        """The cells as texts, in the order of ``HEADS``."""
        return [plain(self.name), self.quadrant, shown(self.accuracy), *self.numbers()]

    def numbers(self) -> list[str]:
        """Gain over random, majority vote, and share of tokens saved, as texts."""
        return [shown(self.gain, "+.3f"), shown(self.voted), f"{self.saved:.0%}"]


def lines(group: Group, keep: int) -> list[Line]:
    """The table's lines, with ``keep`` paths finished.

    Raises:
        PathpruneError: fewer than two problems, which rules out choosing methods on held-out ones.
    """
    if len(group.pool.problems) < 2:
        raise PathpruneError(
            f"{group.folder} has one problem, and the best of a type is chosen on held-out problems; bench more"
        )
    whole = [m for m in group.judged if m.pool.problems == group.pool.problems and not m.stale]
    replayed = [judge(m, group, keep) for m in whole if m.role != "closed-form"]
    return [*_controls(group, keep), *_best(group, replayed), *_others(group, replayed)]


def _controls(group: Group, keep: int) -> Iterator[Line]:
    everything, drawn = no_pruning(group.pool), chance(group, keep)
    yield _line(ALL, f"no pruning: all {group.pool.n} vote", "control", group, everything, None)
    yield _line(RANDOM, f"random {keep} (expected)", "control", group, drawn, None)


def _best(group: Group, replayed: Sequence[Replayed]) -> Iterator[Line]:
    """The best method of each type, length controls included, by its gain on held-out problems."""
    for quadrant in get_args(Quadrant):
        of_type = [r for r in replayed if r.competes and not r.by_votes and r.method.quadrant == quadrant]
        if of_type:
            name, result, gain = crossfitted(of_type)
            yield _line(quadrant, name, quadrant, group, result, gain)


def crossfitted(candidates: Sequence[Replayed]) -> tuple[str, PerProblem, np.ndarray]:
    """Choose the method of each fold on the other folds.

    Returns:
        (the name chosen most often, results, gains float ``[Q]``); each problem's numbers come from its fold's method.
    """
    gains = np.stack([r.gain for r in candidates])
    folds = folds_of(gains.shape[1])
    best = np.array([gains[:, folds != fold].mean(1).argmax() for fold in range(folds.max() + 1)])[folds]
    problem = np.arange(gains.shape[1])

    def picked(name: str) -> np.ndarray:
        return np.asarray(np.stack([getattr(r.result, name) for r in candidates])[best, problem])

    columns = ("accuracy", "voted", "generated", "tokens", "flops", "kept_length", "truncated")
    result: dict[str, Any] = {column: picked(column) for column in columns}
    name = candidates[Counter(best.tolist()).most_common(1)[0][0]].method.name
    return name, PerProblem(**result), gains[best, problem]


def _others(group: Group, replayed: Sequence[Replayed]) -> Iterator[Line]:
    for one in replayed:
        if one.method.name == STOPPING:
            yield _line(STOPPING, f"{STOPPING}: stop sampling in time", "control", group, one.result, None)
    for one in replayed:
        if one.method.role == "oracle":
            yield _line(ORACLE, "oracle: fresh continuations", "reference", group, one.result, one.gain)


def _line(place: str, name: str, quadrant: str, group: Group, result: PerProblem, gain: np.ndarray | None) -> Line:
    saved = float(1 - result.tokens.mean() / no_pruning(group.pool).tokens.mean())
    accuracy, voted = bootstrap(result.accuracy), bootstrap(result.voted)
    return Line(place, name, quadrant, accuracy, None if gain is None else bootstrap(gain), voted, saved)


def markdown(group: Group, keep: int) -> str:
    """The table as Markdown, with its title and a note on how methods were chosen."""
    heads = [*HEADS, f"{group.unit} saved"]
    body = [line(heads), "|" + "---|" * len(heads), *(line(one.cells()) for one in lines(group, keep))]
    note = f"{_sizes(group, keep)}; {CHOSEN} {_power(group, keep)}"
    return "\n".join([f"**{plain(group.title)}**", "", *body, "", note.rstrip(), ""])


def side_by_side(groups: Sequence[Group], keep: int) -> str:
    """One table of several models as Markdown: a line per kind of method, and of each model the best method of that kind."""
    every = [{one.place: one for one in lines(group, keep)} for group in groups]
    heads = [[f"{group.spec['engine']['model']}: method", *HEADS[-2:], f"{group.unit} saved"] for group in groups]
    told = [line(["", *(cell for head in heads for cell in head)]), "|" + "---|" * (1 + 4 * len(groups))]
    for place in ORDER:
        found = [of_group.get(place) for of_group in every]
        if any(found):
            cells = [[plain(one.name), *one.numbers()] if one else ["", "", "", ""] for one in found]
            told.append(line([place, *(cell for part in cells for cell in part)]))
    titles = [f"* {plain(group.title)}: {_sizes(group, keep)}{_found(group, keep)}" for group in groups]
    return "\n".join([*told, "", *titles, "", BRIEFLY, ""])


CHOSEN = (
    "95 % paired bootstrap intervals. The best method of each type is chosen on other problems than those it is shown on: such a line is named "
    "after the method that was chosen most often, holds another's numbers where that was chosen, and so differs a little from the method's "
    "own row in the full table."
)
BRIEFLY = (
    "95 % paired bootstrap intervals. The best method of a type is chosen on other problems than those it is shown on, so its line differs a "
    "little from its row in the full table."
)


def _sizes(group: Group, keep: int) -> str:
    return f"{group.pool.n} paths sampled, {keep} finished, {len(group.pool.problems)} problems"


def _power(group: Group, keep: int) -> str:
    """A note on the gains that this many problems can detect."""
    return power_text(keep, len(group.pool.problems), *_detectable(group, keep))


def _found(group: Group, keep: int) -> str:
    """The same in a few words; "" if no detectable gain is known."""
    known = [float(np.median([v for v in values if v])) for values in _detectable(group, keep) if any(values)]
    columns = [f"{value:.3f} in {vote}@{keep}" for value, vote in zip(known, ("avg", "cons"), strict=False)]
    return f"; 80 % power for gains of {' and '.join(columns)}" if columns else ""


def _detectable(group: Group, keep: int) -> tuple[list[float | None], list[float | None]]:
    """The detectable gains of the methods in avg and in cons."""
    drawn = chance(group, keep).voted
    told = [power_of(judge(m, group, keep), group, drawn) for m in group.judged if m.ranks and not m.stale]
    gains, voted = ([one.get(name) for one in told] for name in DETECTABLE)
    return gains, voted


def write(groups: Sequence[Group], keep: int, file: Path) -> None:
    """Write a table to a file, or between a README's ``brief`` markers; tables of several models become one, side by side."""
    models = {(group.spec["task"], group.spec["engine"]["model"]) for group in groups}
    apart = len(models) < len(groups) or len(groups) == 1
    text = "\n".join(markdown(group, keep) for group in groups) if apart else side_by_side(groups, keep)
    write_part(file, "brief", "# The best of each type\n\n", text)
