"""Plain token confidence over the prefix: mean log-probability and entropy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Path


class MeanLogprob:
    """s_i = (1/L) sum_t log P_t(y_t), nats, raw distribution; perplexity = exp(-s_i) ranks the same."""

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    fidelity = "exact"

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return prefix_means(prefixes, "logprob")


class Entropy:
    """s_i = -(1/L) sum_t H(P_t), full vocabulary, nats."""

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    fidelity = "exact"

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -prefix_means(prefixes, "entropy")


def prefix_means(prefixes: Sequence[Path], column: str) -> np.ndarray:
    """Mean of one token statistic over each prefix, float64 ``[n]``."""
    return np.array([np.mean(getattr(p.stats, column), dtype=np.float64) for p in prefixes])
