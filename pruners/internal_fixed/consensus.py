"""Consensus of forced answers, the signal of Parallel-Probe (arXiv 2602.03845)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from harness.api import Check, Path


class Consensus:
    """s_i = share of the other paths whose forced answer is path i's; 0 when it gives none.

    Every path is made to answer at once: ``suffix`` (the task's closing phrase by default, "</think> The final answer
    is" for reasoning models) is put behind the prefix and up to ``max_tokens`` tokens are drawn, all charged. Published:
    a probe every 500 tokens, a branch that disagrees with the majority several times in a row is pruned, and the
    run stops when the majority is stable; probe tokens were not counted. Here one probe at L keeps k.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"text", "forced"})
    fidelity = "adapted"
    cost_class = "probe"

    def __init__(self, suffix: str = "", max_tokens: int = 16) -> None:
        if max_tokens < 1:
            raise ValueError("max_tokens is 1 or more")
        self.suffix, self.max_tokens = str(suffix), max_tokens

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        texts = check.engine.force(prefixes, self.suffix or check.closing, self.max_tokens)
        answers = [check.answer(text) for text in texts]
        votes = Counter(a for a in answers if a is not None)
        others = max(1, len(prefixes) - 1)
        return np.array([0.0 if a is None else (votes[a] - 1) / others for a in answers])
