"""Confidence votes over finished paths: nothing is pruned, so they show what the vote alone buys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Decision, Origin, Origins, Path
from pruners.internal_fixed.confidence import column, prefix_means
from pruners.internal_fixed.deepconf import STATISTICS, WINDOW, hold_window, origin_of, tokens_of

RELEASED = {("mean", 1.0), ("tail", 1.0), ("bottom", 1.0), ("lowest", 1.0), ("tail", 0.1), ("bottom", 0.1)}  # voters


class DeepConfOffline:
    """Every path finishes; answer a gets V(a) = sum of trace confidences of the paths that give it (arXiv 2508.15260).

    ``statistic`` is mean, tail, bottom (the lowest 10 % of windows) or lowest; with ``top`` < 1 only that share of the paths
    that have an answer votes, by confidence. The authors' code has a vote by each of the four, and the top 10 % of tail
    and of bottom. A ``window`` below 1 is a share of the paths' mean length.
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
    """Every path finishes; ranked by mean self-certainty, rank r = 0..N-1 votes with (N - r)^``power`` (arXiv 2502.18581).

    All N are ranked; those without an answer do not vote. The authors' signal reads the distribution one token late; here
    it is the one that produced y_t.
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
