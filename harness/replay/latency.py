"""Latency from records: serial tokens (the critical path of generation), and rounds of generation between decisions.

Paths in parallel take as long as the longest one; paths that wait for a decision are generated after it. Seconds depend on
the machine and its load and are in live records; these numbers depend only on the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any, NamedTuple

import numpy as np


class Latency(NamedTuple):
    """Per problem, float ``[Q]``: ``serial`` tokens on the critical path, and ``rounds`` of generation."""

    serial: np.ndarray
    rounds: np.ndarray


class Batches(NamedTuple):
    """The order in which a decision rule generates paths.

    The first ``warmup`` paths are generated at once, then ``batch`` at a time if it is ``sequential``, else all others at once.
    """

    warmup: int
    sequential: bool
    batch: int

    def latency(self, spent: np.ndarray) -> Latency:
        """The latency of paths that spend ``spent`` tokens, int ``[Q, N]``, in index order."""
        return of_rule(spent, *self)

    def begins(self, n: int) -> bool:
        """Whether the first n paths of a larger launch have the same decisions as a launch of n paths."""
        return self.sequential and n >= self.warmup and (n - self.warmup) % self.batch == 0


def of_cut(reached: np.ndarray, rest: np.ndarray) -> Latency:
    """The latency of one cut: all paths run to ``reached`` tokens, then the kept ones for the ``rest``; ``[Q, N]`` each."""
    longest = rest.max(1, initial=0)
    return Latency(reached.max(1, initial=0) + longest.astype(float), 1.0 + (longest > 0))


def of_rule(spent: np.ndarray, warmup: int, sequential: bool, batch: int) -> Latency:
    """The latency of a decision rule; for the order of generation see ``Batches``.

    ``spent``: tokens of each path, int ``[Q, N]``, in index order.
    """
    count = spent.shape[1]
    behind = [*range(warmup, count, batch)] if sequential else [warmup] * (warmup < count)
    starts = [0, *behind] if warmup else behind
    if not starts:
        return Latency(np.zeros(len(spent)), np.zeros(len(spent)))
    longest = np.maximum.reduceat(spent, starts, axis=1)
    return Latency(longest.sum(1).astype(float), (longest > 0).sum(1).astype(float))


def expected_longest(values: np.ndarray, count: int) -> np.ndarray:
    """Expected maximum of ``count`` of the N values of each row, drawn without replacement, ``[Q]``."""
    n = values.shape[1]
    above = np.array([comb(n - 1 - rank, count - 1) for rank in range(n)], dtype=object)  # the largest has this rank
    share = np.array([float(ways / comb(n, count)) for ways in above])
    return np.asarray(-np.sort(-values, axis=1) @ share)


def expected_some(values: np.ndarray, count: int) -> np.ndarray:
    """Probability that at least one of ``count`` of the N values of each row, drawn without replacement, is positive, ``[Q]``."""
    return expected_longest((values > 0).astype(float), count)


def recorded(header: Mapping[str, Any]) -> Batches | None:
    """The order of generation in a decision rule's record; None for an old record without it."""
    if "warmup" not in header:
        return None
    return Batches(header["warmup"], header["sequential"], header["batch"])
