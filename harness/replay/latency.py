"""Latency from records: tokens that must be generated one after another, and how often generation waits for a decision.

Paths that run side by side take as long as the longest of them; what waits for a decision comes behind it. Seconds depend on
a machine and its load, and stand in live records; these numbers depend on the method alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any, NamedTuple

import numpy as np


class Latency(NamedTuple):
    """Per problem, float ``[Q]``: ``serial`` tokens on the longest chain, and ``rounds`` of generation."""

    serial: np.ndarray
    rounds: np.ndarray


class Batches(NamedTuple):
    """In which order a decision rule generates paths: the first ``warmup`` at once, then ``batch`` at a time if it is
    ``sequential``, or all others at once."""

    warmup: int
    sequential: bool
    batch: int

    def latency(self, spent: np.ndarray) -> Latency:
        """Of paths that spend ``spent`` tokens, int ``[Q, N]``, in index order."""
        return of_rule(spent, *self)

    def begins(self, n: int) -> bool:
        """Are the first n paths of a larger launch decided as if no others were launched?"""
        return self.sequential and n >= self.warmup and (n - self.warmup) % self.batch == 0


def of_cut(reached: np.ndarray, rest: np.ndarray) -> Latency:
    """Of one cut: all paths run to ``reached`` tokens, then those that are kept for the ``rest``; ``[Q, N]`` each."""
    longest = rest.max(1, initial=0)
    return Latency(reached.max(1, initial=0) + longest.astype(float), 1.0 + (longest > 0))


def of_rule(spent: np.ndarray, warmup: int, sequential: bool, batch: int) -> Latency:
    """Of a decision rule that generates the first ``warmup`` paths at once, then ``batch`` at a time, or all others at once.

    ``spent`` int ``[Q, N]``, in index order.
    """
    count = spent.shape[1]
    behind = [*range(warmup, count, batch)] if sequential else [warmup] * (warmup < count)
    starts = [0, *behind] if warmup else behind
    if not starts:
        return Latency(np.zeros(len(spent)), np.zeros(len(spent)))
    longest = np.maximum.reduceat(spent, starts, axis=1)
    return Latency(longest.sum(1).astype(float), (longest > 0).sum(1).astype(float))


def expected_longest(values: np.ndarray, count: int) -> np.ndarray:
    """Expectation of the largest of ``count`` of the N values of each row, drawn without replacement: ``[Q]``."""
    n = values.shape[1]
    above = np.array([comb(n - 1 - rank, count - 1) for rank in range(n)], dtype=object)  # the largest has this rank
    share = np.array([float(ways / comb(n, count)) for ways in above])
    return np.asarray(-np.sort(-values, axis=1) @ share)


def expected_some(values: np.ndarray, count: int) -> np.ndarray:
    """Probability that one or more of ``count`` of the N values of each row, drawn without replacement, lie above 0: ``[Q]``."""
    return expected_longest((values > 0).astype(float), count)


def recorded(header: Mapping[str, Any]) -> Batches | None:
    """Of a decision rule's record; None for one from before records said in which order a rule generates."""
    if "warmup" not in header:
        return None
    return Batches(header["warmup"], header["sequential"], header["batch"])
