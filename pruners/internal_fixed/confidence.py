"""Plain token confidence over the prefix. All from the raw distribution P_t (temperature 1, no filter), in nats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path

LOWEST_SHARE = 0.1


class MeanLogprob:
    """s_i = (1/L) sum_t log P_t(y_t)."""

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    origins = Origins()
    pointwise = True

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return prefix_means(prefixes, "logprob")


class Perplexity(MeanLogprob):
    """s_i = -exp(-(1/L) sum_t log P_t(y_t)): ranks as ``logprob`` does, and is a row because papers name it."""

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -np.exp(-prefix_means(prefixes, "logprob"))


class MinLogprob(MeanLogprob):
    """s_i = min_t log P_t(y_t): one surprising token condemns a prefix."""

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return np.array([column(p, "logprob").min() for p in prefixes])


class LowestLogprob(MeanLogprob):
    """s_i = mean of the lowest 10 % of log P_t(y_t), at least one token."""

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return np.array([lowest_mean(column(p, "logprob")) for p in prefixes])


class Entropy(MeanLogprob):
    """s_i = -(1/L) sum_t H(P_t), full vocabulary."""

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -prefix_means(prefixes, "entropy")


class Margin(MeanLogprob):
    """s_i = (1/L) sum_t P_t(first) - P_t(second): probability of the most likely token minus the second's."""

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return prefix_means(prefixes, "margin")


class SelfCertainty(MeanLogprob):
    """s_i = (1/L) sum_t KL(uniform || P_t) (arXiv 2502.18581), full vocabulary.

    Equals -(1/(L V)) sum_t sum_v log(V P_t(v)). The authors' code reads the distribution one token late; here it is the
    one that produced y_t. Native decision: a Borda vote of finished paths (``self-certainty-borda``).
    """

    origins = Origins("paper")
    vote = "borda"

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return prefix_means(prefixes, "self_certainty")


def column(path: Path, name: str) -> np.ndarray:
    """One token statistic of a path, float64 ``[L]``."""
    values: np.ndarray = getattr(path.stats, name).astype(np.float64)
    return values


def prefix_means(prefixes: Sequence[Path], name: str) -> np.ndarray:
    """Mean of one token statistic over each prefix, float64 ``[n]``."""
    return np.array([column(p, name).mean() for p in prefixes])


def lowest_mean(values: np.ndarray, share: float = LOWEST_SHARE) -> float:
    """Mean of the lowest ``int(share * n)`` values, at least one."""
    count = max(1, int(share * len(values)))
    return float(np.partition(values, count - 1)[:count].mean())
