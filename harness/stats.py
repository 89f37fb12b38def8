"""Statistics of the comparison. The unit of uncertainty is the problem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from harness.rng import generator

RESAMPLES = 10_000
FEW = 50  # below this many problems a report warns


@dataclass(frozen=True)
class Interval:
    """A mean over problems with its bootstrap percentile interval; ``p`` is two-sided, against zero."""

    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: np.ndarray, level: float = 0.95, resamples: int = RESAMPLES) -> Interval:
    """Percentile bootstrap over problems. ``values`` ``[Q]``; for a paired comparison pass the differences.

    The resamples depend on Q alone, so every method is resampled alike.
    """
    q = len(values)
    if q < 2:
        mean = float(np.mean(values)) if q else float("nan")
        return Interval(mean, float("nan"), float("nan"), float("nan"))
    rng = generator("bootstrap", q)
    means = np.concatenate([values[rng.integers(0, q, (1000, q))].mean(1) for _ in range(-(-resamples // 1000))])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    tail = min((means <= 0).mean(), (means >= 0).mean())
    p = min(1.0, 2 * (tail * len(means) + 1) / (len(means) + 1))
    return Interval(float(values.mean()), float(low), float(high), float(p))


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[int(i)] = running
    return adjusted


def auroc(scores: np.ndarray, correct: np.ndarray) -> float:
    """P(score of a right path > score of a wrong one), ties one half; NaN when only one kind is present."""
    right = int(correct.sum())
    wrong = correct.size - right
    if not right or not wrong:
        return float("nan")
    ranks = rankdata(scores.ravel())
    return float((ranks[correct.ravel()].sum() - right * (right + 1) / 2) / (right * wrong))


def within_auroc(scores: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """AUROC of every problem with right and wrong paths, ``scores`` and ``correct`` ``[Q, N]``: skill without difficulty."""
    values = np.array([auroc(s, c) for s, c in zip(scores, correct, strict=True)])
    return values[~np.isnan(values)]
