"""Adaptive-Consistency (arXiv 2305.11860; code Pranjal2041/AdaptiveConsistency): stop once the leading answer is probably ahead."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType

from scipy.special import betainc

from harness.api import Origins, Tally
from pruners.stopping.rule import Rule


class AdaptiveConsistency(Rule):
    """Stop when P(the leading answer beats the second) >= ``threshold`` under a uniform Beta posterior of their counts.

    The two leading answers have v1 and v2 votes, p ~ Beta(v1 + 1, v2 + 1) is the leader's share of the two, and the
    probability is P(p > 1/2), which the authors' BetaStoppingCriteria integrates.
    """

    origins = Origins("code", "code")
    grid = MappingProxyType({"threshold": (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99), "order": ("sequential", "parallel")})

    def __init__(self, threshold: float = 0.95, order: str = "sequential", batch: int = 1) -> None:
        super().__init__(order, batch)
        if not 0 < threshold < 1:
            raise ValueError("threshold is a probability between 0 and 1")
        self.threshold = threshold

    def stops(self, tally: Tally) -> bool:
        return ahead(tally.first, tally.second) >= self.threshold


@lru_cache(maxsize=1 << 16)
def ahead(first: int, second: int) -> float:
    """P(p > 1/2) for p ~ Beta(first + 1, second + 1)."""
    return float(1 - betainc(first + 1, second + 1, 0.5))
