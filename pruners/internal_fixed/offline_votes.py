"""Confidence-weighted votes of finished paths. No path is pruned, so these rows show the effect of the vote alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Decision, Origin, Origins, Path
from pruners.internal_fixed.confidence import column, prefix_means
from pruners.internal_fixed.deepconf import STATISTICS, WINDOW, hold_window, origin_of, tokens_of

RELEASED = {("mean", 1.0), ("tail", 1.0), ("bottom", 1.0), ("lowest", 1.0), ("tail", 0.1), ("bottom", 0.1)}  # by them


class DeepConfOffline:
    """V(a) = sum of the trace confidences of the paths with answer a; every path finishes

    Offline DeepConf (arXiv 2508.15260; code facebookresearch/deepconf). The authors' code votes with each of the four
    statistics, and with the top 10 % of paths by tail and by bottom confidence.

    Args:
        statistic: trace confidence of a path: "mean", "tail", "bottom" (mean of the lowest 10 % of groups) or "lowest"
            (see ``deepconf``).
        top: share of the paths with an answer that vote, those of the highest confidence.
        window: length of a group in tokens; below 1, a share of the paths' mean length.

    Raises:
        ValueError: if an option is outside its range.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats", "text"})
    vote = "weighted"
    warmup = 0

    def __init__(self, statistic: str = "mean", top: float = 1.0, window: float = WINDOW) -> None:
        hold_window(window)
        if statistic not in STATISTICS or not 0 < top <= 1:
            raise ValueError(f"statistic is one of {', '.join(STATISTICS)}, top in (0, 1]")
        self.statistic, self.top, self.window = statistic, top, window
        decision: Origin = "code" if (statistic, top) in RELEASED else "paper" if top in (0.1, 0.9) else "adapted"
        self.origins = Origins(origin_of(window, statistic), decision)

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        lengths = np.array([len(p.tokens) for p in paths])
        window = tokens_of(self.window, lengths.tolist())
        trace = np.array([STATISTICS[self.statistic](column(p, "confidence"), window) for p in paths])
        votes = answered(paths, check)
        if votes.any():
            votes &= trace >= np.percentile(trace[votes], (1 - self.top) * 100)
        return Decision(lengths, np.where(votes, trace, 0.0))


class SelfCertaintyBorda:
    """weight of the path at rank r = (N - r)^p, for ranks r = 0, ..., N - 1 by mean self-certainty; every path finishes

    Borda voting with self-certainty (arXiv 2502.18581). All N paths are ranked, and paths without an answer do not
    vote. p is ``power``.

    The authors' code reads the distribution one token late. Here it is the distribution from which y_t was sampled.

    Args:
        power: exponent of the weight; 0 is a majority vote.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats", "text"})
    vote = "borda"
    warmup = 0

    def __init__(self, power: float = 0.5) -> None:
        self.power = float(power)
        self.origins = Origins("paper", "code")

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        certainty = prefix_means(paths, "self_certainty")
        order = np.lexsort((np.array([p.index for p in paths]), -certainty))
        weights = np.empty(len(paths))
        weights[order] = (len(paths) - np.arange(len(paths))) ** self.power
        return Decision(np.array([len(p.tokens) for p in paths]), np.where(answered(paths, check), weights, 0.0))


def answered(paths: Sequence[Path], check: Check) -> np.ndarray:
    """Which finished paths have an answer, bool ``[n]``."""
    return np.array([check.final(p) is not None for p in paths], dtype=bool)
