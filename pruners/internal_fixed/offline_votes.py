"""Confidence votes over finished paths: nothing is pruned, so they show what the vote alone buys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Decision, Path
from pruners.internal_fixed.confidence import column, prefix_means
from pruners.internal_fixed.deepconf import PUBLISHED, STATISTICS, WINDOW


class DeepConfOffline:
    """Every path finishes; answer a gets V(a) = sum of trace confidences of the paths that give it (arXiv 2508.15260).

    ``statistic`` is mean, tail, bottom or lowest; with ``top`` < 1 only that share of the paths, by confidence, votes.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    vote = "weighted"
    warmup = 0

    def __init__(self, statistic: str = "mean", top: float = 1.0, window: int = WINDOW) -> None:
        if statistic not in STATISTICS or not 0 < top <= 1 or window < 1:
            raise ValueError(f"statistic is one of {', '.join(STATISTICS)}, top in (0, 1], window 1 or more")
        self.statistic, self.top, self.window = statistic, top, window
        self.fidelity = "exact" if window in PUBLISHED else "adapted"

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        trace = np.array([STATISTICS[self.statistic](column(p, "confidence"), self.window) for p in paths])
        bar = np.quantile(trace, 1 - self.top)
        return Decision(np.array([len(p.tokens) for p in paths]), np.where(trace >= bar, trace, 0.0))


class SelfCertaintyBorda:
    """Every path finishes; ranked by mean self-certainty, rank r = 0..N-1 votes with (N - r)^``power`` (arXiv 2502.18581)."""

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    fidelity = "exact"
    vote = "borda"
    warmup = 0

    def __init__(self, power: float = 0.5) -> None:
        self.power = float(power)

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        certainty = prefix_means(paths, "self_certainty")
        order = np.lexsort((np.array([p.index for p in paths]), -certainty))
        weights = np.empty(len(paths))
        weights[order] = (len(paths) - np.arange(len(paths))) ** self.power
        return Decision(np.array([len(p.tokens) for p in paths]), weights)
