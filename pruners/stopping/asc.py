"""Adaptive-Consistency (arXiv 2305.11860; code Pranjal2041/AdaptiveConsistency): stops once the leading answer is
probably the majority."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType

import numpy as np
from scipy.special import betainc, entr, gammainc, gammaincinv

from harness.api import Origin, Origins, Tally
from pruners.stopping.rule import Rule

DEFAULTS = {"beta": 0.95, "dirichlet": 0.95, "entropy": 0.75, "majority": 0.8}  # thresholds in the authors' code
MOST_ANSWERS = 5  # answers in the authors' Dirichlet criterion


class AdaptiveConsistency(Rule):
    """Stop when the leading answer satisfies ``criterion`` at ``threshold``, by default P(majority) >= 0.95.

    v1 >= v2 >= ... are the votes of the answers, and v is their sum (equations 1 and 2 of the paper):

    * "beta", the paper's criterion: P(p > 1/2) >= threshold for p ~ Beta(v1 + 1, v2 + 1), where p is the leader's share
      of the votes for the two leading answers. If there is only one answer, v2 is 0. A single vote then gives 0.75.
    * "dirichlet": P(the leader has the largest share) >= threshold under Dirichlet(v_i + 1) of the five most frequent
      answers. With fewer than three answers, it equals "beta". The authors estimate the probability by sampling. Here
      it is integrated numerically.
    * "entropy": the entropy of the shares, divided by its maximum, is <= threshold. If all paths agree, an unseen
      answer is given one vote.
    * "majority": v1 / v >= threshold. Neither this criterion nor "entropy" stops after a single vote.

    Paths without an answer are ignored, as in the authors' evaluation. ``order=parallel`` is a variant of this
    benchmark.

    Args:
        threshold: by default the authors' value: 0.95, for "entropy" 0.75, for "majority" 0.8.
        criterion: "beta", "dirichlet", "entropy" or "majority".
        order: "sequential" or "parallel" generation.
        batch: paths generated at a time (``step_size`` in the authors' code).

    Raises:
        ValueError: if an option is outside its range.
    """

    grid = MappingProxyType({"threshold": (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99), "order": ("sequential", "parallel")})

    def __init__(
        self,
        threshold: float | None = None,
        criterion: str = "beta",
        order: str = "sequential",
        batch: int = 1,
    ) -> None:
        super().__init__(order, batch)
        if criterion not in DEFAULTS:
            raise ValueError(f"criterion is one of {', '.join(DEFAULTS)}")
        self.threshold = DEFAULTS[criterion] if threshold is None else threshold
        if not 0 < self.threshold < 1:
            raise ValueError("threshold is between 0 and 1")
        self.criterion = criterion
        signal: Origin = "paper" if criterion == "dirichlet" else "code"
        self.origins = Origins(signal, signal if order == "sequential" else "adapted")

    def stops(self, tally: Tally) -> bool:
        if not tally.answered:
            return False
        if self.criterion == "beta" or (self.criterion == "dirichlet" and len(tally.counts) < 3):
            return ahead(tally.first, tally.second) >= self.threshold
        if self.criterion == "dirichlet":
            return largest(tuple(sorted(tally.counts.values(), reverse=True)[:MOST_ANSWERS])) >= self.threshold
        if tally.answered == 1:
            return False
        if self.criterion == "majority":
            return tally.first / tally.answered >= self.threshold
        return disorder(tuple(sorted(tally.counts.values(), reverse=True))) <= self.threshold


@lru_cache(maxsize=1 << 16)
def ahead(first: int, second: int) -> float:
    """P(p > 1/2) for p ~ Beta(first + 1, second + 1)."""
    return float(1 - betainc(first + 1, second + 1, 0.5))


@lru_cache(maxsize=1 << 16)
def largest(counts: tuple[int, ...]) -> float:
    """P(the first share is the largest) for shares ~ Dirichlet(counts + 1).

    The shares are independent Gamma(count + 1) variables divided by their sum. The probability is therefore the mean,
    over the first variable, of P(all other variables are smaller).
    """
    leader, *others = counts
    return float(WEIGHTS @ np.prod([smaller(other, leader) for other in others], axis=0))


@lru_cache(maxsize=1 << 14)
def smaller(other: int, leader: int) -> np.ndarray:
    """P(a variable is smaller than the leader's) at each quantile ``NODES`` of the leader's, ``[nodes]``."""
    return np.asarray(gammainc(other + 1, quantiles(leader)))


@lru_cache(maxsize=1 << 10)
def quantiles(leader: int) -> np.ndarray:
    """Quantiles of Gamma(leader + 1) at ``NODES``, ``[nodes]``."""
    return np.asarray(gammaincinv(leader + 1, NODES))


@lru_cache(maxsize=1 << 16)
def disorder(counts: tuple[int, ...]) -> float:
    """Entropy of the shares of ``counts``, divided by its maximum. A single answer is compared with one vote for an
    unseen answer."""
    votes = np.array(counts if len(counts) > 1 else (*counts, 1))
    return float(entr(votes / votes.sum()).sum() / np.log(2) / np.log2(len(votes)))  # rounds like scipy's entropy


_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(256)
NODES, WEIGHTS = (_POINTS + 1) / 2, _WEIGHTS / 2  # Gauss-Legendre quadrature on (0, 1)
