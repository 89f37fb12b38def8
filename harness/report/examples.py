"""Example problems for the page: one where pruning corrects the vote, one where it spoils the vote, one in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np

from harness.api import Quadrant
from harness.replay.pool import no_pruning
from harness.report import Group
from harness.report.problem import USUAL, Shown
from harness.report.rows import Replayed, judge

CHARACTERS = 160  # of a prefix, at its end
QUESTION = 1000
Show = Callable[[str, list[str]], Shown]


def examples(group: Group, keep: int, show: Show) -> list[dict[str, Any]]:
    """The page's example paths of a table, as JSON; empty if nothing was benched or no bank has the texts.

    ``show`` returns the paths of a problem with the choices of some methods. Of each kind, the first problem is taken.
    """
    if group.stages:
        return []
    candidates = [m for m in group.judged if m.ranks and not m.stale and m.pool.problems == group.pool.problems]
    replayed = [r for r in (judge(m, group, keep) for m in candidates) if not r.by_votes]
    if not replayed:
        return []
    first = next((r for r in replayed if r.method.name == USUAL), None) or max(replayed, key=lambda r: r.gain.mean())
    names = [first.method.name, *(r.method.name for r in _best(replayed) if r is not first)]
    chosen = [(why, show(problem, names)) for problem, why in _problems(group, first)]
    return [{"why": why, **_short(found.data())} for why, found in chosen if found.prefixes]


def _best(replayed: list[Replayed]) -> Iterator[Replayed]:
    """The method of each quadrant with the largest gain; variants are ignored."""
    for quadrant in get_args(Quadrant):
        of_type = [r for r in replayed if r.method.quadrant == quadrant and r.method.role == "method"]
        plain = [r for r in of_type if ":" not in r.method.name]
        if plain:
            yield max(plain, key=lambda r: r.gain.mean())


def _problems(group: Group, first: Replayed) -> Iterator[tuple[str, str]]:
    """(problem, why it is shown) for each kind found in the table."""
    everything, kept = no_pruning(group.pool).voted > 0.5, first.result.voted > 0.5
    rate, name = group.pool.correct.mean(1), first.method.name
    kinds = (
        (f"Pruning mends the vote: all paths vote for a wrong answer, those that {name} keeps for the right one.", ~everything & kept),
        (f"Pruning spoils the vote: all paths vote for the right answer, those that {name} keeps for a wrong one.", everything & ~kept),
    )  # fmt: skip
    taken = []
    for why, those in kinds:
        if those.any():
            taken.append(int(np.flatnonzero(those)[0]))
            yield group.pool.problems[taken[-1]], why
    rest = [q for q in range(len(rate)) if q not in taken]
    if rest:
        middle = min(rest, key=lambda q: (abs(rate[q] - 0.5), q))
        yield group.pool.problems[middle], "A problem in the middle: about half of its paths are right."


def _short(data: dict[str, Any]) -> dict[str, Any]:
    """Shorten prefixes to their ends and questions to their beginnings, to keep the page small."""
    prefixes = [" ".join(text.split()) for text in data["prefixes"]]
    short = [text if len(text) <= CHARACTERS else "…" + text[-CHARACTERS:] for text in prefixes]
    question = data["question"]
    return data | {"prefixes": short, "question": question if len(question) <= QUESTION else question[:QUESTION] + "…"}
