"""DeepConf's trace confidences (arXiv 2508.15260; code facebookresearch/deepconf), ranked at the prefix.

Token confidence C_t = -(1/K) sum of the K = 20 largest log P_t(j), higher = more peaked; group confidence = mean of C_t
over a sliding ``window`` of tokens, stride 1. The published window is 2,048 tokens: on a prefix no longer than that
there is one window and all four statistics are the mean. A smaller window is a variant, not DeepConf. The published
decisions are in ``deepconf_online`` and ``offline_votes``; here it is the harness's top-k at L.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.api import Check, Path
from pruners.internal_fixed.confidence import column, lowest_mean

WINDOW = 2048
PUBLISHED = (1024, 2048)  # windows that the paper uses


def group_confidence(confidence: np.ndarray, window: int) -> np.ndarray:
    """Means over every window of ``window`` tokens, float64; of a shorter trace, its one mean."""
    values = confidence.astype(np.float64)
    if len(values) <= window:
        return np.array([values.mean()])
    return np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=-1)


STATISTICS: dict[str, Callable[[np.ndarray, int], float]] = {
    "mean": lambda c, window: float(c.mean()),
    "lowest": lambda c, window: float(group_confidence(c, window).min()),
    "bottom": lambda c, window: lowest_mean(group_confidence(c, window)),
    "tail": lambda c, window: float(c[-window:].mean()),
}


class DeepConf:
    """s_i = mean of C_t over the prefix."""

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    fidelity = "adapted"
    pointwise = True
    vote = "weighted"
    statistic = "mean"

    def __init__(self, window: int = WINDOW) -> None:
        if window < 1:
            raise ValueError("window is a number of tokens, 1 or more")
        self.window = window

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return np.array([STATISTICS[self.statistic](column(p, "confidence"), self.window) for p in prefixes])


class DeepConfLowest(DeepConf):
    """s_i = lowest group confidence."""

    statistic = "lowest"


class DeepConfBottom(DeepConf):
    """s_i = mean of the lowest 10 % of group confidences, at least one."""

    statistic = "bottom"


class DeepConfTail(DeepConf):
    """s_i = mean of C_t over the last ``window`` tokens."""

    statistic = "tail"
