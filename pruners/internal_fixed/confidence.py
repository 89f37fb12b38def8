"""Token confidence over the prefix.

All statistics are those of the raw distribution P_t (temperature 1, no filter), in nats. y_t is the t-th generated
token, and L the number of tokens of the prefix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path

LOWEST_SHARE = 0.1


class MeanLogprob:
    """s_i = (1/L) sum_t log P_t(y_t)

    The mean log-probability of the sampled tokens, in nats per token.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    origins = Origins()
    pointwise = True

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return prefix_means(prefixes, "logprob")


class Perplexity(MeanLogprob):
    """s_i = -exp(-(1/L) sum_t log P_t(y_t))

    The negative perplexity. It ranks paths exactly as ``logprob`` does, and has a row because papers report it.
    """

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -np.exp(-prefix_means(prefixes, "logprob"))


class MinLogprob(MeanLogprob):
    """s_i = min_t log P_t(y_t)

    The log-probability of the most surprising token, in nats.
    """

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return np.array([column(p, "logprob").min() for p in prefixes])


class LowestLogprob(MeanLogprob):
    """s_i = mean of the lowest 10 % of log P_t(y_t), at least one token"""

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return np.array([lowest_mean(column(p, "logprob")) for p in prefixes])


class Entropy(MeanLogprob):
    """s_i = -(1/L) sum_t H(P_t)

    The negative mean entropy over the full vocabulary, in nats.
    """

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -prefix_means(prefixes, "entropy")


class Margin(MeanLogprob):
    """s_i = (1/L) sum_t [P_t(first) - P_t(second)]

    The mean difference between the probabilities of the most likely token and the second most likely.
    """

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return prefix_means(prefixes, "margin")


class SelfCertainty(MeanLogprob):
    """s_i = (1/L) sum_t KL(uniform || P_t)

    Self-certainty (arXiv 2502.18581) over the full vocabulary of size V, in nats: -(1/(L V)) sum_t sum_v log(V P_t(v)).
    The published decision is a Borda vote of finished paths, which is the row ``self-certainty-borda``.

    The authors' code reads the distribution one token late. Here it is the distribution from which y_t was sampled.
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
    """Mean of the lowest ``int(share * n)`` of n values, at least one."""
    count = max(1, int(share * len(values)))
    return float(np.partition(values, count - 1)[:count].mean())
