"""Adaptive-Consistency (arXiv 2305.11860; code Pranjal2041/AdaptiveConsistency): stop once the leading answer is probably ahead."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType

import numpy as np
from scipy.special import betainc, entr, gammainc, gammaincinv

from harness.api import Origin, Origins, Tally
from pruners.stopping.rule import Rule

DEFAULTS = {"beta": 0.95, "dirichlet": 0.95, "entropy": 0.75, "majority": 0.8}  # of the authors' criteria
MOST_ANSWERS = 5  # that their Dirichlet criterion looks at


class AdaptiveConsistency(Rule):
    """Stop when ``criterion`` reaches ``threshold`` (by default the authors': 0.95, entropy 0.75, majority 0.8).

    With v1 >= v2 >= ... votes for the answers, v of them in all (equations 1 and 2):

    * ``beta``, the paper's: P(p > 1/2) >= threshold for p ~ Beta(v1 + 1, v2 + 1), the leader's share of the two that lead. One
      answer alone has v2 = 0 and 0.75.
    * ``dirichlet``: P(the leader has the largest share) >= threshold under Dirichlet(v_i + 1) of the five most frequent answers;
      of fewer than three answers it is ``beta``. The authors draw random numbers; here the integral is worked out.
    * ``entropy``: entropy of the shares over its largest value <= threshold. Where all agree, an unseen answer has one vote.
    * ``majority``: v1 / v >= threshold. Neither of the last two stops at a single answer.

    Paths without an answer are left out, as the authors' evaluation does; without any answer nothing stops. ``batch`` is their
    ``step_size``. ``order=parallel`` is ours.
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

    The shares are independent Gamma(count + 1) over their sum, so this is the mean, over the first, of P(all others are smaller).
    """
    leader, *others = counts
    return float(WEIGHTS @ np.prod([smaller(other, leader) for other in others], axis=0))


@lru_cache(maxsize=1 << 14)
def smaller(other: int, leader: int) -> np.ndarray:
    """P(a share is smaller than the leader's) where that is at each of its quantiles ``NODES``."""
    return np.asarray(gammainc(other + 1, quantiles(leader)))


@lru_cache(maxsize=1 << 10)
def quantiles(leader: int) -> np.ndarray:
    """Of Gamma(leader + 1), at ``NODES``."""
    return np.asarray(gammaincinv(leader + 1, NODES))


@lru_cache(maxsize=1 << 16)
def disorder(counts: tuple[int, ...]) -> float:
    """Entropy of the shares of ``counts`` over the largest that so many can have; one alone stands beside one vote."""
    votes = np.array(counts if len(counts) > 1 else (*counts, 1))
    return float(entr(votes / votes.sum()).sum() / np.log(2) / np.log2(len(votes)))  # as scipy's entropy rounds


_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(256)
NODES, WEIGHTS = (_POINTS + 1) / 2, _WEIGHTS / 2  # of the mean over (0, 1)
