"""Apply stopping rules: which paths of a problem finish before the rule stops, and how many tokens each path spends."""

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
    """Whether a pruner plugin is a stopping rule."""
    return callable(getattr(pruner, "stops", None))


def order_of(rule: Any) -> Order:
    """The order in which a rule's paths are generated; the default if the class does not define it."""
    return getattr(rule, "order", Stopping.order)


def batch_of(rule: Any) -> int:
    """The number of paths that are generated at a time for a sequential rule."""
    return int(getattr(rule, "batch", Stopping.batch))


def fresh(rule: Any) -> Any:
    """A copy of a rule for one problem, so that no state reaches the next one. Our own rules are stateless and not copied.

    Raises:
        PathpruneError: the rule cannot be copied.
    """
    if _keeps_nothing(rule.__class__):
        return rule
    try:
        return deepcopy(rule)
    except Exception as error:
        raise PathpruneError(
            f"{type(rule).__name__} cannot be copied for each problem ({reason(error)}); store only plain values in it"
        ) from error


@cache
def _keeps_nothing(kind: type) -> bool:
    return is_ours(kind)


def walk(rule: Any, answers: Sequence[Hashable], lengths: Sequence[int]) -> np.ndarray:
    """Tokens that each path of a problem spends, int ``[n]``: its length if it finishes, 0 if it is never started.

    Args:
        rule: a stopping rule.
        answers: of the finished paths, None without an answer, in the order of generation.
        lengths: tokens of the same paths.

    Raises:
        PathpruneError: the rule returns neither True nor False.
    """
    sizes = np.asarray(lengths, dtype=int)
    order, ends = finishing(rule, sizes)
    finished = enough(rule, [answers[i] for i in order], ends)
    return spent_of(rule, sizes, order, finished)


def finishing(rule: Any, lengths: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """(indices of the paths in the order in which they finish, int ``[n]``; numbers of finished paths at each evaluation)."""
    if order_of(rule) == "sequential":
        count, batch = len(lengths), batch_of(rule)
        return np.arange(count), [*range(batch, count, batch), count] if count else []
    order = np.argsort(lengths, kind="stable")
    ends: list[int] = (np.flatnonzero(is_last(lengths[order])) + 1).tolist()
    return order, ends


def is_last(lengths: np.ndarray) -> np.ndarray:
    """Which of the ascending ``lengths`` ``[..., n]`` are the last of equal values; the rule is evaluated there."""
    return np.diff(lengths, axis=-1, append=-1) != 0


def enough(rule: Any, answers: Sequence[Hashable], ends: Iterable[int]) -> int:
    """The number of finished paths when the rule stops; all of them if it never stops.

    Args:
        rule: a stopping rule; it is copied first, so that problems and draws are independent.
        answers: in the order in which the paths finish.
        ends: numbers of finished paths at which the rule is evaluated, ascending.
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
    """Whether a rule stops, given the paths that have finished.

    Raises:
        PathpruneError: the rule returns neither True nor False.
    """
    said = rule.stops(tally)
    if said is True or said is False:  # the common case, three times as fast
        return said
    if not isinstance(said, bool | np.bool_):
        raise PathpruneError(f"{type(rule).__name__}.stops() returned {shown(said)}, not True or False")
    return bool(said)


def spent_of(rule: Any, lengths: np.ndarray, order: np.ndarray, finished: int) -> np.ndarray:
    """Tokens spent by each path, int ``[n]``, if the first ``finished`` of ``order`` finish."""
    if order_of(rule) == "parallel" and finished:
        return np.minimum(lengths, lengths[order[finished - 1]])
    spent = np.zeros_like(lengths)
    spent[order[:finished]] = lengths[order[:finished]]
    return spent
