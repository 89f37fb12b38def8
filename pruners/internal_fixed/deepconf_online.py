"""DeepConf online (arXiv 2508.15260; code facebookresearch/deepconf): warm up, set a threshold, abort, vote by confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Decision, Path
from pruners.internal_fixed.confidence import column
from pruners.internal_fixed.deepconf import PUBLISHED, WINDOW, group_confidence


class DeepConfOnline:
    """The first ``warmup`` paths finish; s = percentile 100 - ``eta`` of their lowest group confidences; every other
    path is aborted at the first token at which the mean of its last ``window`` confidences is below s.

    Warm-up paths whose lowest group confidence reaches s and paths that were not aborted vote, weighted by it.
    ``eta`` = 10 is DeepConf-low, 90 DeepConf-high (the paper's meaning: the two branches of the official code disagree).
    The paper's early stop of sampling at consensus is not in the released wrapper and not here. Tokens: warm-up,
    aborted and finished ones.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    vote = "weighted"

    def __init__(self, eta: float = 10, window: int = WINDOW, warmup: int = 16) -> None:
        if not 0 <= eta <= 100 or window < 1 or warmup < 1:
            raise ValueError("eta is a percentage, window and warmup are 1 or more")
        self.eta, self.window, self.warmup = eta, window, warmup
        self.fidelity = "exact" if window in PUBLISHED else "adapted"

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        groups = [group_confidence(column(p, "confidence"), self.window) for p in paths]
        lowest = np.array([g.min() for g in groups])
        rank = np.argsort(np.argsort([p.index for p in paths]))
        threshold = np.percentile(lowest[rank < self.warmup], 100 - self.eta)
        spent = np.array([len(p.tokens) for p in paths])
        votes = (lowest >= threshold) | (rank >= self.warmup)
        for i in np.flatnonzero(rank >= self.warmup):
            below = np.flatnonzero(groups[i] < threshold)
            if len(below) and spent[i] >= self.window:
                # Group g ends at token g + window: that is when the path is stopped.
                spent[i], votes[i] = below[0] + self.window, False
        return Decision(spent, np.where(votes, lowest, 0.0))
