"""Entropies of methods that are no path pruners themselves: only their signal is compared here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path
from pruners.internal_fixed.confidence import column, prefix_means


class ThinkJustEnough:
    """s_i = -(1/L) sum_t H20_t, H20 the entropy in bits of the 20 largest probabilities renormalised (arXiv 2510.08146).

    The paper stops one chain when the mean over a reasoning step falls below a calibrated threshold; here the mean is
    over the prefix and ranks paths.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    origins = Origins("paper")
    pointwise = True

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -prefix_means(prefixes, "top_entropy") / np.log(2)


class AdaDec:
    """s_i = -share of tokens with H(P_t) >= ``threshold`` nats, full vocabulary (arXiv 2506.08980).

    The paper looks ahead where the entropy passes a threshold that it learns per model (0.6 to 1.3); here those
    hesitations are counted.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    origins = Origins("adapted")
    pointwise = True

    def __init__(self, threshold: float = 1.0) -> None:
        self.threshold = threshold

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -np.array([(column(p, "entropy") >= self.threshold).mean() for p in prefixes])
