"""DeepConf online (arXiv 2508.15260; code facebookresearch/deepconf): warm up, set a bar, abort, stop at consensus, vote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from harness.api import Check, Decision, Origin, Origins, Path
from pruners.internal_fixed.confidence import column
from pruners.internal_fixed.deepconf import WINDOW, group_confidence, hold_window, origin_of, tokens_of

CONSENSUS = 0.95  # the paper's tau


class DeepConfOnline:
    """The first ``warmup`` paths finish; the bar is the percentile 100 - ``eta`` of their lowest group confidences; every
    other path is aborted at the first token at which the mean of its last ``window`` confidences is below the bar.

    A finished path votes if it has an answer and its lowest group confidence, of a path shorter than the window its mean, is
    not below the bar; it weighs that confidence. Paths are generated one after another: once the leading answer has
    ``consensus`` of all weight, no more are launched. ``consensus=0`` is the released wrapper, which launches all at once.
    ``eta`` = 10 is DeepConf-low, 90 DeepConf-high (the paper's meaning: the two branches of the official code disagree).
    A ``window`` below 1 is a share of the warm-up paths' mean length. Tokens: warm-up, aborted and finished ones.
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
    """Tokens that a path of ``length`` has when it is stopped: group g ends at token g + ``window``; ``length`` if it is not."""
    below = np.flatnonzero(groups < bar)
    return int(below[0]) + window if len(below) and length >= window else length
