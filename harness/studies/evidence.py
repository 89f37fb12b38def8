"""The claims of STOP's paper on every recorded pool: a row per claim, a column per model and task.

Each cell is a paired difference over the problems of its column. All cells form one family: a claim is confirmed in a column if its
Holm-corrected p-value over the whole table is below 0.05 and the difference has the claimed sign. Selection noise: the best rival of a
type is chosen on held-out problems. Length: a separate claim tests the gain minus what the kept paths' lengths alone would
give. Option position: for multiple choice, another tests the gain minus that of preferring the letters that are right on other problems.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.stats import norm

from harness.replay.pool import length_matched
from harness.replay.stats import Interval, bootstrap, detectable, holm
from harness.report import Group, Method, groups_of
from harness.report.brief import crossfitted
from harness.report.figures.chosen import keep_of
from harness.report.rows import Replayed, chance, judge
from harness.report.tables import line, plain, shown
from harness.store.keys import digest
from harness.store.records import pool_of
from harness.studies import findings
from harness.studies import law as laws

LEVEL = 0.05
METHOD = "stop"
SHARE = 0.25  # fraction of the tokens at which pruning is compared with stopping
TOOL_SIZES = ((24, 8), (16, 8))  # paths launched and kept, as in the paper's runs with tools
FEWEST = 2  # minimum number of problems for an interval
KINDS = {"I": "external-fixed", "II": "external-learned", "III": "internal-fixed"}
LETTERS = frozenset("ABCDEFGHIJ")

GAINS = "STOP's prefixes are better than chance"
VOTES = "... and so are their votes"
LONGER = "... beyond what path lengths explain"
PLACED = "... beyond what the position of options explains"
TRADE = "F1: better than the best of Type "
TOOLS = "F6: STOP's gain survives tools"
LAW = "The retention law beats a constant share"
ABLATED = {
    "tokens": "F2: several [STOP] tokens, not too many",
    "rank": "F3: the LoRA needs rank, up to a point",
    "labels": "F4: Monte-Carlo labels beat outcomes",
    "adapter": "F5: the adapter is needed",
}


@dataclass(frozen=True)
class Cell:
    """One claim in one column; ``measured`` describes the difference ``value``, which the claim says is positive."""

    claim: str
    measured: str
    value: Interval
    adjusted_p: float = float("nan")

    @property
    def verdict(self) -> str:
        """ "confirmed", "not confirmed" (the opposite sign) or "undecided", after the correction."""
        if not self.adjusted_p < LEVEL:
            return "undecided"
        return "confirmed" if self.value.mean > 0 else "not confirmed"


@dataclass(frozen=True)
class Column:
    """A model on a task at one prefix length."""

    title: str
    problems: int
    detects: float | None  # smallest gain of STOP detected with 80 % power at this number of problems
    cells: Mapping[str, Cell] = field(default_factory=dict)


def columns(
    groups: Sequence[Group], ablations: Path | None = None, frontier: Path | None = None, law: Path | None = None
) -> list[Column]:
    """A column per pool in which STOP has scored every problem, with all cells corrected as one family.

    Args:
        groups: tables of a results folder; one of each pool is used (``_widest``).
        ablations, frontier, law: output of ``pathprune ablation``, ``pathprune frontier`` and ``pathprune law fit``.
    """
    made = []
    for group in _widest(groups):
        stop = _judged(group)
        if stop is None:
            continue
        cells = [
            *_gains(group, stop),
            *_rivals(group, stop),
            *_with_tools(group),
            *_against_stopping(group, frontier),
            *_ablated(group, ablations),
            *_law(group, law),
        ]
        made.append((group, stop, {c.claim: c for c in cells}))
    adjusted = iter(holm([_p(cell.value) for *_, cells in made for cell in cells.values()]))
    return [
        Column(
            findings.testbed(group),
            len(group.pool.problems),
            detectable(stop.gain),
            {key: _corrected(cell, next(adjusted)) for key, cell in cells.items()},
        )
        for group, stop, cells in made
    ]


def _widest(groups: Sequence[Group]) -> list[Group]:
    """Of each pool, the prefix length at which most methods were benched, ties to the shortest.

    Benches of the same paths at several n count as one pool, that with most paths, because their comparisons are redundant.
    """
    pools: dict[str, list[Group]] = {}
    for group in groups:
        pools.setdefault(digest({k: v for k, v in group.spec.items() if k != "n"}), []).append(group)
    return [max(same, key=lambda g: (g.pool.n, len(g.judged), -g.prefix)) for same in pools.values()]


def _judged(group: Group, keep: int | None = None) -> Replayed | None:
    """The replay of STOP; None if it has not scored all problems, or they are too few for an interval."""
    if len(group.pool.problems) < FEWEST:
        return None
    every = {m.name: m for m in group.judged if _is_whole(m, group)}
    return judge(every[METHOD], group, keep or keep_of(group.pool.n)) if METHOD in every else None


def _is_whole(method: Method, group: Group) -> bool:
    return method.ranks and not method.stale and method.pool.problems == group.pool.problems


def _gains(group: Group, stop: Replayed) -> Iterator[Cell]:
    """STOP against random survivors: accuracy, votes, and accuracy beyond confounders."""
    keep = keep_of(group.pool.n)
    size = f"{keep}\\|{group.pool.n}"
    yield Cell(GAINS, f"stop - random, avg@{size}", bootstrap(stop.gain))
    drawn = chance(group, keep)
    yield Cell(VOTES, f"stop - random, cons@{size}", bootstrap(stop.result.voted - drawn.voted))
    by_length = stop.result.accuracy - length_matched(group.pool, stop.mask)
    yield Cell(LONGER, f"stop - paths of like lengths, avg@{size}", bootstrap(by_length))
    preferred = _preferred(group, stop.mask)
    if preferred is not None:
        yield Cell(PLACED, f"stop - random, less its letters' gain, avg@{size}", bootstrap(stop.gain - preferred))


def _preferred(group: Group, mask: np.ndarray) -> np.ndarray | None:
    """The gain from the kept paths' answer letters alone; None if answers are not letters."""
    lines = pool_of(group.folder).lines
    answers = [lines[p]["answers"][: group.pool.n] for p in group.pool.problems]
    told = {answer for row in answers for answer in row if answer is not None}
    if not told or not told <= LETTERS:
        return None
    return by_letter(np.array([["" if a is None else a for a in row] for row in answers]), group.pool.correct, mask)


def by_letter(letters: np.ndarray, correct: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The gain over random ``[Q]`` from the kept paths' letters alone. A path counts as the fraction of paths with its letter that
    are right on the other problems. All arrays are ``[Q, N]``; a path without an answer counts 0."""
    worth = np.zeros(letters.shape)
    for letter in sorted(set(letters.ravel()) - {""}):
        here = letters == letter
        right, count = (correct & here).sum(1), here.sum(1)
        others = (right.sum() - right) / np.maximum(1, count.sum() - count)
        worth += here * others[:, None]
    return np.asarray((worth * mask).sum(1) / np.maximum(1, mask.sum(1)) - worth.mean(1))


def _rivals(group: Group, stop: Replayed) -> Iterator[Cell]:
    """STOP against the best method of each other type, chosen on held-out folds."""
    keep = keep_of(group.pool.n)
    replayed = [judge(m, group, keep) for m in group.judged if _is_whole(m, group)]
    for kind, quadrant in KINDS.items():
        of_type = [r for r in replayed if r.method.quadrant == quadrant and r.competes and not r.by_votes]
        if of_type:
            name, _, gain = crossfitted(of_type)
            yield Cell(
                TRADE + kind, f"stop - {name} (chosen on other problems), avg@{keep}", bootstrap(stop.gain - gain)
            )


def _with_tools(group: Group) -> Iterator[Cell]:
    """STOP's votes against those of random survivors on paths that run code, at the paper's sizes."""
    if "tools" not in group.spec["engine"]:
        return
    for n, keep in TOOL_SIZES:
        fewer = [g for g in groups_of(group.folder, n) if g.prefix == group.prefix] if n <= group.pool.n else []
        stop = _judged(fewer[0], keep) if fewer else None
        if stop is not None:
            gap = stop.result.voted - chance(fewer[0], keep).voted
            yield Cell(f"{TOOLS}, {n} to {keep}", f"stop - random, cons@{keep}\\|{n}", bootstrap(gap))


def _against_stopping(group: Group, file: Path | None) -> Iterator[Cell]:
    """Pruning against rules that stop sampling, within a fraction of the tokens."""
    for claim in findings.against_stopping(group, file):
        if claim.measured.endswith(f"cons within {100 * SHARE:g}% of the tokens"):
            yield Cell(claim.text, claim.measured, claim.value)


def _ablated(group: Group, root: Path | None) -> Iterator[Cell]:
    """The effect of each ingredient of STOP, if its ablation was run on this task. Intervals include the variance over
    training runs."""
    if root is None:
        return
    for claim, (name, one, other) in findings.ablated(root).items():
        if name in ABLATED and findings.testbed(group) == claim.testbed:
            # Its p-value covers the variance over problems only; the interval also covers that over training runs.
            yield Cell(f"{ABLATED[name]} ({one} - {other})", claim.measured, replace(claim.value, p=float("nan")))


def _law(group: Group, file: Path | None) -> Iterator[Cell]:
    """The fitted law against the best constant fraction, both on held-out problems."""
    if file is None or not file.exists():
        return
    told = laws.read(file)
    mine = f"{group.spec['task']}-{group.spec['engine']['model']}-"
    if any(pool.startswith(mine) for pool in told["pools"]) and "law - constant" in told["held_out"]:
        mean, low, high = told["held_out"]["law - constant"]
        yield Cell(LAW, "law - constant, cons", Interval(mean, low, high, float("nan")))


def _p(value: Interval) -> float:
    """Two-sided p-value; from the interval's width if it covers more than problem variance, or if resamples are unavailable."""
    if value.p == value.p:
        return value.p
    spread = (value.high - value.low) / (2 * norm.ppf(0.975))
    return float(2 * norm.sf(abs(value.mean) / spread)) if spread > 0 else float(value.mean == 0)


def _corrected(cell: Cell, adjusted_p: float) -> Cell:
    return Cell(cell.claim, cell.measured, cell.value, adjusted_p)


def markdown(made: Sequence[Column]) -> str:
    """The table as Markdown, with notes on the method and the verdict on each claim."""
    heads = ["claim", *(f"{column.title} ({column.problems} problems)" for column in made)]
    claims = list(dict.fromkeys(claim for column in made for claim in column.cells))
    order = sorted(claims, key=_place)
    rows = [[claim, *(_text(column.cells.get(claim)) for column in made)] for claim in order]
    detected = [
        "smallest gain found with 80 % power, avg",
        *("-" if c.detects is None else f"{c.detects:.3f}" for c in made),
    ]
    lines = [
        line([plain(head) for head in heads]),
        "|" + "---|" * len(heads),
        *(line([plain(text) for text in row]) for row in [*rows, detected]),
    ]
    count = sum(len(column.cells) for column in made)
    note = (
        f"Differences with 95 % intervals over problems; verdicts after Holm's correction for all {count} comparisons of this table at {LEVEL:.0%}. "
        "Rivals are chosen on other problems than those they are compared on. Each learned method was trained once: the luck of a training "
        "is part of the intervals of F2 to F5 alone. An empty cell was not tried."
    )
    return "\n".join([*lines, "", note, "", *(f"* {text}" for text in verdicts(made)), ""])


def verdicts(made: Sequence[Column]) -> list[str]:
    """For each claim, a line with the columns in which it is confirmed, not confirmed and undecided."""
    claims = sorted({claim for column in made for claim in column.cells}, key=_place)
    told = []
    for claim in claims:
        by_verdict: dict[str, list[str]] = {}
        for column in made:
            if claim in column.cells:
                by_verdict.setdefault(column.cells[claim].verdict, []).append(column.title)
        parts = [f"{word} on {' and '.join(by_verdict[word])}" for word in WORDS if word in by_verdict]
        told.append(plain(f"{claim}: {'; '.join(parts)}."))
    return told


WORDS = ("confirmed", "not confirmed", "undecided")
ORDER = (GAINS, VOTES, LONGER, PLACED, TRADE, *ABLATED.values(), TOOLS, LAW)


def _place(claim: str) -> tuple[int, str]:
    """The sort key of a claim: those of the paper in its order, then those against stopping."""
    return next((i for i, start in enumerate(ORDER) if claim.startswith(start)), len(ORDER)), claim


def _text(cell: Cell | None) -> str:
    return "" if cell is None else f"{shown(cell.value, '+.3f')}, {cell.verdict}"
