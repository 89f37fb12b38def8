"""The baseline that the STOP paper calls DeepConf (arXiv 2604.16029, App. C.5): perplexity and entropy of the prefix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path
from pruners.internal_fixed.confidence import prefix_means


class StopConfidence:
    """s_i = -(PPL_i + H_i), with perplexity PPL_i and mean entropy H_i

    PPL_i = exp(-mean_t log P_t(y_t)), and H_i is the mean entropy over the full vocabulary, in nats. The
    paper does not state how the two are combined. DeepConf as its authors published it is the row ``deepconf``.

    Args:
        combine: "sum", "perplexity" or "entropy".

    Raises:
        ValueError: if ``combine`` has none of these values.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"token_stats"})
    origins = Origins("adapted", "paper", by="STOP")
    pointwise = True

    def __init__(self, combine: str = "sum") -> None:
        if combine not in ("sum", "perplexity", "entropy"):
            raise ValueError("combine is sum, perplexity or entropy")
        self.combine = combine

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        perplexity, entropy = np.exp(-prefix_means(prefixes, "logprob")), prefix_means(prefixes, "entropy")
        return -{"sum": perplexity + entropy, "perplexity": perplexity, "entropy": entropy}[self.combine]
