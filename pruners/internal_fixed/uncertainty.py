"""Entropy signals of methods that do not prune paths. Only their signals are compared here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path
from pruners.internal_fixed.confidence import column, prefix_means


class ThinkJustEnough:
    """s_i = -(1/L) sum_t H20_t, with H20_t the entropy of the 20 largest probabilities

    The signal of Think Just Enough (arXiv 2510.08146). H20_t is the entropy, in bits, of the 20 largest probabilities
    after renormalisation. The paper stops a single chain when the mean over a reasoning step falls below a calibrated
    threshold. Here the mean over the prefix ranks paths.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    origins = Origins("paper")
    pointwise = True

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -prefix_means(prefixes, "top_entropy") / np.log(2)


class AdaDec:
    """s_i = -(share of tokens with entropy H(P_t) >= h)

    The signal of AdaDec (arXiv 2506.08980). H is the entropy over the full vocabulary, in nats, and h is ``threshold``.

    Adapted: the paper looks ahead at tokens whose entropy passes a threshold that is learned per model (0.6 to 1.3).
    Here such tokens are counted.

    Args:
        threshold: entropy in nats.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    origins = Origins("adapted")
    pointwise = True

    def __init__(self, threshold: float = 1.0) -> None:
        self.threshold = threshold

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -np.array([(column(p, "entropy") >= self.threshold).mean() for p in prefixes])
