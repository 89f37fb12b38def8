"""Stopping rules at work: which of a problem's paths finish before the rule says that it is enough, and what each spends."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np

from harness.api import Order, PathpruneError, Stopping, Tally
from harness.plugins.guard import is_ours
from harness.text import reason, shown


def is_rule(pruner: Any) -> bool:
    """Is a pruner plugin a stopping rule?"""
    return callable(getattr(pruner, "stops", None))


def order_of(rule: Any) -> Order:
    """In which order a rule has paths generated; a class that does not inherit may leave it out."""
    return getattr(rule, "order", Stopping.order)


def batch_of(rule: Any) -> int:
    """How many paths a sequential rule has generated at a time."""
    return int(getattr(rule, "batch", Stopping.batch))


def fresh(rule: Any) -> Any:
    """A rule for one problem: what others' rules keep in themselves does not reach the next problem; ours keep nothing.

    Raises:
        PathpruneError: a rule that cannot be copied.
    """
    if _keeps_nothing(rule.__class__):
        return rule
    try:
        return deepcopy(rule)
    except Exception as error:
        raise PathpruneError(
            f"{type(rule).__name__} cannot be copied for each problem ({reason(error)}); let it hold plain values only"
        ) from error


@cache
def _keeps_nothing(kind: type) -> bool:
    return is_ours(kind)


def walk(rule: Any, answers: Sequence[Hashable], lengths: Sequence[int]) -> np.ndarray:
    """Tokens that each of a problem's paths spends, int ``[n]``: its length for one that finishes, 0 for one never begun.

    Args:
        rule: a stopping rule, asked after every batch that finishes.
        answers: of the whole paths, None where a path has none; in the order in which paths are generated.
        lengths: in tokens, as ``answers``.

    Raises:
        PathpruneError: a rule that answers with what is neither true nor false.
    """
    sizes = np.asarray(lengths, dtype=int)
    order, ends = finishing(rule, sizes)
    finished = enough(rule, [answers[i] for i in order], ends)
    return spent_of(rule, sizes, order, finished)


def finishing(rule: Any, lengths: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """(paths in the order in which they finish, int ``[n]``; how many have finished whenever the rule is asked)."""
    if order_of(rule) == "sequential":
        count, batch = len(lengths), batch_of(rule)
        return np.arange(count), [*range(batch, count, batch), count] if count else []
    order = np.argsort(lengths, kind="stable")
    ends: list[int] = (np.flatnonzero(is_last(lengths[order])) + 1).tolist()
    return order, ends


def is_last(lengths: np.ndarray) -> np.ndarray:
    """Of ascending ``lengths`` ``[..., n]``, which are the last of their value: there the rule is asked."""
    return np.diff(lengths, axis=-1, append=-1) != 0


def enough(rule: Any, answers: Sequence[Hashable], ends: Iterable[int]) -> int:
    """How many paths have finished when the rule stops; all of them where it never does.

    Args:
        rule: is copied first, so that problems and draws do not depend on each other.
        answers: in the order in which the paths finish.
        ends: numbers of finished paths at which the rule is asked, ascending.
    """
    rule, tally, begin = fresh(rule), Tally(), 0
    for end in ends:
        for answer in answers[begin:end]:
            tally.add(answer)
        if asked(rule, tally):
            return end
        begin = end
    return len(answers)


def asked(rule: Any, tally: Tally) -> bool:
    """What a rule says of the paths that have finished.

    Raises:
        PathpruneError: what is neither true nor false.
    """
    said = rule.stops(tally)
    if said is True or said is False:  # which takes a third of the time
        return said
    if not isinstance(said, bool | np.bool_):
        raise PathpruneError(f"{type(rule).__name__}.stops() gave {shown(said)}, not True or False")
    return bool(said)


def spent_of(rule: Any, lengths: np.ndarray, order: np.ndarray, finished: int) -> np.ndarray:
    """Tokens of each path where the first ``finished`` of ``order`` finish."""
    if order_of(rule) == "parallel" and finished:
        return np.minimum(lengths, lengths[order[finished - 1]])
    spent = np.zeros_like(lengths)
    spent[order[:finished]] = lengths[order[:finished]]
    return spent
