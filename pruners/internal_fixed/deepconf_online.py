"""DeepConf online (arXiv 2508.15260; code facebookresearch/deepconf): aborts unconfident paths and stops sampling at a
consensus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from harness.api import Check, Decision, Origin, Origins, Path
from pruners.internal_fixed.confidence import column
from pruners.internal_fixed.deepconf import WINDOW, group_confidence, hold_window, origin_of, tokens_of

CONSENSUS = 0.95  # tau in the paper


class DeepConfOnline:
    """Abort a path when the mean of its last ``window`` token confidences falls below a threshold set by warm-up paths.

    The first ``warmup`` paths always finish. The threshold is the (100 - ``eta``)-th percentile of their lowest group
    confidences. Every later path is aborted at the first token at which its current group confidence is below the
    threshold.

    A finished path votes if it has an answer and its lowest group confidence reaches the threshold. That confidence is
    the weight of its vote. For a path shorter than the window, it is the mean.

    Paths are generated one after another. As soon as the leading answer has the share ``consensus`` of the total
    weight, no further path is started. With ``consensus=0``, all paths start at once, as in the authors' released
    wrapper. The cost includes warm-up, aborted and finished paths.

    Args:
        eta: percentage of warm-up paths that reach the threshold: 10 is DeepConf-low, 90 DeepConf-high. This follows
            the paper, since the two branches of the official code disagree.
        window: length of a group in tokens; below 1, a share of the warm-up paths' mean length.
        warmup: number of warm-up paths.
        consensus: share of the weight at which sampling stops; 0 to disable.

    Raises:
        ValueError: if an option is outside its range.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats", "text"})
    vote = "weighted"

    def __init__(self, eta: float = 10, window: float = WINDOW, warmup: int = 16, consensus: float = CONSENSUS) -> None:
        hold_window(window)
        if not (0 <= eta <= 100 and 0 <= consensus <= 1) or warmup < 1:
            raise ValueError("eta is a percentage, consensus a share (0: none), warmup 1 or more")
        self.eta, self.window, self.warmup, self.consensus = eta, window, warmup, consensus
        self.sequential = consensus > 0
        self.origins = Origins(origin_of(window), self._decision())

    def _decision(self) -> Origin:
        if self.eta not in (10, 90) or self.warmup != 16 or self.consensus not in (0, CONSENSUS):
            return "adapted"
        return "paper" if self.consensus else "code"

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        order = sorted(range(len(paths)), key=lambda i: paths[i].index)
        warm, rest = order[: self.warmup], order[self.warmup :]
        window = tokens_of(self.window, [len(paths[i].tokens) for i in warm])
        groups = [group_confidence(column(p, "confidence"), window) for p in paths]
        lowest = np.array([g.min() for g in groups])
        bar = float(np.percentile(lowest[warm], 100 - self.eta))
        spent, weights = np.zeros(len(paths), dtype=int), np.zeros(len(paths))
        ballots: dict[str, float] = defaultdict(float)
        for place, i in enumerate((*warm, *rest)):
            if place >= len(warm) and self._agreed(ballots):
                break
            spent[i] = len(paths[i].tokens)
            if place >= len(warm):
                spent[i] = aborted_at(groups[i], bar, window, spent[i])
            answer = check.final(paths[i]) if lowest[i] >= bar else None
            if answer is not None:
                weights[i] = lowest[i]
                ballots[answer] += float(lowest[i])
        return Decision(spent, weights)

    def _agreed(self, ballots: dict[str, float]) -> bool:
        total = sum(ballots.values())
        return self.consensus > 0 and total > 0 and max(ballots.values()) >= self.consensus * total


def aborted_at(groups: np.ndarray, bar: float, window: int, length: int) -> int:
    """Number of tokens at which a path of ``length`` tokens is aborted; ``length`` if it is not. Group g ends at token
    g + ``window``."""
    below = np.flatnonzero(groups < bar)
    return int(below[0]) + window if len(below) and length >= window else length
