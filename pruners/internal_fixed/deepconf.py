"""DeepConf's trace confidences (arXiv 2508.15260; code facebookresearch/deepconf), ranked at the prefix.

Token confidence C_t = -(1/K) sum of the K = 20 largest log P_t(j), higher = more peaked; group confidence = mean of C_t
over a sliding ``window``, stride 1. The published window is 2,048 tokens: on a prefix no longer than that there is one
window and all four statistics are the mean. ``window`` is a number of tokens, or, below 1, a share of the path: 2,048
tokens are about 0.15 of the published paths. The published decisions are in ``deepconf_online`` and ``offline_votes``; here
it is the harness's top-k at L.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.api import Check, Origin, Origins, Path
from pruners.internal_fixed.confidence import column, lowest_mean

WINDOW = 2048
PUBLISHED = (1024, 2048)  # windows that the paper uses


def hold_window(window: float) -> None:
    """Refuse a window that is neither a number of tokens nor a share."""
    if window <= 0 or (window >= 1 and window != int(window)):
        raise ValueError("window is a number of tokens, 1 or more, or a share of the path's length, below 1")


def tokens_of(window: float, lengths: Sequence[int]) -> int:
    """A window in tokens; a share is one of the mean of ``lengths``, rounded, and at least one token."""
    return int(window) if window >= 1 else max(1, round(window * float(np.mean(lengths))))


def origin_of(window: float, statistic: str = "") -> Origin:
    """Whose a signal with this window is; no window is part of a mean over the whole path."""
    return "code" if window in PUBLISHED or statistic == "mean" else "adapted"


def group_confidence(confidence: np.ndarray, window: int) -> np.ndarray:
    """Means over every window of ``window`` tokens, float64; of a shorter trace, its one mean."""
    values = confidence.astype(np.float64)
    if len(values) <= window:
        return np.array([values.mean()])
    sums = np.concatenate([[0.0], np.cumsum(values)])  # work in T, not in T times the window
    return (sums[window:] - sums[:-window]) / window


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
    pointwise = True
    vote = "weighted"
    statistic = "mean"

    def __init__(self, window: float = WINDOW) -> None:
        hold_window(window)
        self.window = window
        self.origins = Origins(origin_of(window, self.statistic))

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return np.array([self.confidence(column(p, "confidence")) for p in prefixes])

    def confidence(self, values: np.ndarray) -> float:
        """The statistic of one prefix; a window that is a share is one of this prefix."""
        return STATISTICS[self.statistic](values, tokens_of(self.window, [len(values)]))


class DeepConfLowest(DeepConf):
    """s_i = lowest group confidence."""

    statistic = "lowest"


class DeepConfBottom(DeepConf):
    """s_i = mean of the lowest 10 % of group confidences, at least one."""

    statistic = "bottom"


class DeepConfTail(DeepConf):
    """s_i = mean of C_t over the last ``window`` tokens."""

    statistic = "tail"
