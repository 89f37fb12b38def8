"""Repeated scoring: a scorer re-scores every running path at regular lengths, and paths with low scores are aborted.

The scorer is any pruner that scores each path separately. Two published methods have this shape, with other predictors.
Re-FORC (arXiv 2511.02130) forecasts the reward of further thinking, and continues while the gain exceeds the cost of
its tokens. VGS (arXiv 2505.17373) ranks blocks of tokens by a value model and keeps the best ones, each of which then
branches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Decision, Origins, Path, Quadrant, Signal

DROP = 0.2  # distance below the median, for scores that are probabilities


class Watch:
    """Every ``step`` tokens, score all running paths with ``scorer``, and abort those with a score below the threshold.

    The threshold is one of three:

    * ``drop``: the median score of the running paths minus ``drop``.
    * ``bar``: the constant ``bar``.
    * ``cost``: the expected number of remaining tokens times ``cost``, for scores that are probabilities of a correct
      answer. The expectation is the mean over the warm-up paths that are still running at this length, or ``step`` if
      there are none.

    If all scores are below the threshold and no path has finished, the path with the highest score continues. Every
    finished path has one vote. The first ``warmup`` paths always finish and are not scored.

    The threshold ``cost`` is Re-FORC's trade-off of expected reward against tokens, adapted: a pointwise scorer
    forecasts no curve, an aborted path has no value, and the reward is that of a path and not that of the vote.

    Args:
        scorer: the pruner that scores paths.
        step: tokens between scores.
        drop: distance below the median; 0.2 if no threshold is given.
        bar: constant threshold.
        cost: threshold per expected token.
        warmup: number of paths that always finish.

    Raises:
        ValueError: if several thresholds are given, or an option is outside its range.
    """

    quadrant: Quadrant = "internal-learned"  # that of its usual scorer; a rule has the quadrant of its scorer
    needs: frozenset[Signal] = frozenset()
    on_request = "it scores every path many times over; name it with its scorer and its bar"

    def __init__(
        self,
        scorer: str = "stop",
        step: int = 16,
        drop: float | None = None,
        bar: float | None = None,
        cost: float | None = None,
        warmup: int = 0,
    ) -> None:
        given = [value for value in (drop, bar, cost) if value is not None]
        if len(given) > 1 or not all(isinstance(value, int | float) for value in given):
            raise ValueError("give one number: drop, bar or cost")
        if (drop is not None and drop < 0) or (cost is not None and cost <= 0):
            raise ValueError("drop is 0 or more, and cost above 0")
        if step < 1 or warmup < 0:
            raise ValueError("step is in tokens, 1 or more, and warmup a number of paths, 0 or more")
        self.scorer, self.step, self.bar, self.cost, self.warmup = scorer, step, bar, cost, warmup
        self.drop = DROP if drop is None else drop
        self.origins = Origins("ours", "ours" if cost is None else "adapted")

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        order = sorted(paths, key=lambda p: p.index)
        warm, running = order[: self.warmup], order[self.warmup :]
        spent = {p.index: len(p.tokens) for p in paths}
        has_finished = bool(warm)
        for now in range(self.step, max(spent.values()) + 1, self.step):
            has_finished |= any(len(p.tokens) <= now for p in running)
            running = [p for p in running if len(p.tokens) > now]
            if not running:
                break
            scores = check.score(running, now)
            stays = scores >= self._bar(scores, [spent[p.index] - now for p in warm])
            if not (stays.any() or has_finished):
                stays[np.argmax(scores)] = True
            spent |= {p.index: now for p, on in zip(running, stays, strict=True) if not on}
            running = [p for p, on in zip(running, stays, strict=True) if on]
        tokens = np.array([spent[p.index] for p in paths])
        return Decision(tokens, (tokens == [len(p.tokens) for p in paths]).astype(float))

    def _bar(self, scores: np.ndarray, left: Sequence[int]) -> float:
        """The lowest score that continues. ``left`` are the remaining tokens of the warm-up paths at this length."""
        if self.cost is not None:
            longer = [rest for rest in left if rest > 0]
            return self.cost * (float(np.mean(longer)) if longer else self.step)
        return float(np.median(scores)) - self.drop if self.bar is None else self.bar
