"""Trace confidences of DeepConf (arXiv 2508.15260; code facebookresearch/deepconf), as scores of prefixes.

The token confidence is C_t = -(1/K) times the sum of the K = 20 largest log P_t(j), in nats. A higher value means a
more peaked distribution. A group confidence is the mean of C_t over a sliding window with stride 1.

The published window is 2,048 tokens. A prefix of at most 2,048 tokens has a single such window, so all four statistics
equal its mean. The published decision rules are the rows ``deepconf-online`` and ``deepconf-offline``. Here the scores
rank paths for top k at L.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.api import Check, Origin, Origins, Path
from pruners.internal_fixed.confidence import column, lowest_mean

WINDOW = 2048
PUBLISHED = (1024, 2048)  # windows in the paper, in tokens


def hold_window(window: float) -> None:
    """Check an option ``window``.

    Raises:
        ValueError: if the window is neither a number of tokens nor a share of the path's length.
    """
    if window <= 0 or (window >= 1 and window != int(window)):
        raise ValueError("window is a number of tokens, 1 or more, or a share of the path's length, below 1")


def tokens_of(window: float, lengths: Sequence[int]) -> int:
    """A window in tokens. A share is taken of the mean of ``lengths`` and rounded, to at least one token."""
    return int(window) if window >= 1 else max(1, round(window * float(np.mean(lengths))))


def origin_of(window: float, statistic: str = "") -> Origin:
    """The origin of a signal with this window. A mean over the whole path uses no window."""
    return "code" if window in PUBLISHED or statistic == "mean" else "adapted"


def group_confidence(confidence: np.ndarray, window: int) -> np.ndarray:
    """Means over all windows of ``window`` tokens, float64 ``[T - window + 1]``. A path of at most one window has one
    mean."""
    values = confidence.astype(np.float64)
    if len(values) <= window:
        return np.array([values.mean()])
    sums = np.concatenate([[0.0], np.cumsum(values)])  # time linear in T, whatever the window
    return (sums[window:] - sums[:-window]) / window


STATISTICS: dict[str, Callable[[np.ndarray, int], float]] = {
    "mean": lambda c, window: float(c.mean()),
    "lowest": lambda c, window: float(group_confidence(c, window).min()),
    "bottom": lambda c, window: lowest_mean(group_confidence(c, window)),
    "tail": lambda c, window: float(c[-window:].mean()),
}


class DeepConf:
    """s_i = (1/L) sum_t C_t, with C_t the confidence of token t

    The mean token confidence of the prefix, in nats.

    Args:
        window: length of a group in tokens; below 1, a share of the prefix. 2,048 tokens are about 0.15 of the paper's
            paths.

    Raises:
        ValueError: if ``window`` is neither a number of tokens nor a share.
    """

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
        """The statistic of one prefix. A window given as a share is a share of this prefix."""
        return STATISTICS[self.statistic](values, tokens_of(self.window, [len(values)]))


class DeepConfLowest(DeepConf):
    """s_i = lowest group confidence"""

    statistic = "lowest"


class DeepConfBottom(DeepConf):
    """s_i = mean of the lowest 10 % of group confidences, at least one"""

    statistic = "bottom"


class DeepConfTail(DeepConf):
    """s_i = mean token confidence C_t of the last ``window`` tokens"""

    statistic = "tail"
