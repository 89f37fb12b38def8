"""Stopping rules at work: which of a problem's paths finish before the rule says that it is enough, and what each spends."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from harness.api import Order, PathpruneError, Stopping, Tally
from harness.text import shown


def walk(rule: Stopping, answers: Sequence[Hashable], lengths: Sequence[int]) -> np.ndarray:
    """Tokens that each of a problem's paths spends, int ``[n]``: its length for one that finishes, 0 for one never begun.

    Args:
        rule: asked after every batch that finishes.
        answers: of the whole paths, None where a path has none; in the order in which paths are generated.
        lengths: in tokens, as ``answers``.

    Raises:
        PathpruneError: a rule that answers with what is neither true nor false.
    """
    sizes = np.asarray(lengths, dtype=int)
    tally = Tally()
    for finished in _batches(rule, sizes):
        for path in finished:
            tally.add(answers[path])
        if asked(rule, tally) and finished:
            return _spent(rule, sizes, finished)
    return sizes


def order_of(rule: Any) -> Order:
    """In which order a rule has paths generated; a class that does not inherit may leave it out."""
    return getattr(rule, "order", Stopping.order)


def batch_of(rule: Any) -> int:
    """How many paths a sequential rule has generated at a time."""
    return int(getattr(rule, "batch", Stopping.batch))


def is_rule(pruner: Any) -> bool:
    """Is a pruner plugin a stopping rule?"""
    return callable(getattr(pruner, "stops", None))


def asked(rule: Stopping, tally: Tally) -> bool:
    """What a rule says of the paths that have finished.

    Raises:
        PathpruneError: what is neither true nor false.
    """
    said: Any = rule.stops(tally)
    if not isinstance(said, bool | np.bool_):
        raise PathpruneError(f"{type(rule).__name__}.stops() gave {shown(said)}, not True or False")
    return bool(said)


def _batches(rule: Stopping, lengths: np.ndarray) -> Iterator[Sequence[int]]:
    """Paths that finish together, one group after another."""
    if order_of(rule) == "sequential":
        batch = batch_of(rule)
        yield from (range(start, min(start + batch, len(lengths))) for start in range(0, len(lengths), batch))
        return
    order = np.argsort(lengths, kind="stable")
    starts = np.flatnonzero(np.diff(lengths[order], prepend=-1))
    yield from (group.tolist() for group in np.split(order, starts[1:]))


def _spent(rule: Stopping, lengths: np.ndarray, last: Sequence[int]) -> np.ndarray:
    """Tokens of each path where ``last`` are those that finished last."""
    if order_of(rule) == "parallel":
        return np.minimum(lengths, lengths[last[0]])
    return np.where(np.arange(len(lengths)) <= last[-1], lengths, 0)
