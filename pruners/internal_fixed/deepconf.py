"""DeepConf's trace confidence (arXiv 2508.15260; code facebookresearch/deepconf), ranked at the prefix.

Token confidence C_t = -(1/K) sum of the K = 20 largest log P_t(j). The published method filters and weights finished
traces, or aborts them against a threshold from warm-up traces; here the decision is the harness's top-k at L.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Path
from pruners.internal_fixed.confidence import prefix_means


class DeepConf:
    """s_i = mean of C_t over the prefix."""

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    fidelity = "adapted"

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return prefix_means(prefixes, "confidence")


class DeepConfLowest:
    """s_i = lowest group confidence: the smallest mean of C_t over a sliding ``window`` of tokens, stride 1.

    The published window is 2,048 tokens. On a prefix no longer than that there is one window and the score is the
    mean, as in ``DeepConf``; a smaller window is a variant, not DeepConf.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    fidelity = "adapted"

    def __init__(self, window: int = 2048) -> None:
        if window < 1:
            raise ValueError("window is a number of tokens, 1 or more")
        self.window = window

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return np.array([group_confidence(p.stats.confidence, self.window).min() for p in prefixes if p.stats])


def group_confidence(confidence: np.ndarray, window: int) -> np.ndarray:
    """Means over every window of ``window`` tokens, float64; of a shorter trace, its one mean."""
    values = confidence.astype(np.float64)
    if len(values) <= window:
        return np.array([values.mean()])
    return np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=-1)
