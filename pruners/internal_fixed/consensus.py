"""Consensus of forced answers, the signal of Parallel-Probe (arXiv 2602.03845)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path, PathpruneError


class Consensus:
    """s_i = share of the other paths whose forced answer is path i's; 0 when it gives none.

    Every path is made to answer at once: ``suffix`` (by default what ends the model's thinking and the task's words, such as
    "</think> The final answer is") is put behind the prefix and up to ``max_tokens`` tokens are drawn, all charged. Where
    no path answers there is nothing to compare, which is an error. The published rule is ``parallel-probe``, whose probe
    tokens were not counted; here one probe at L keeps k.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"text", "forced"})
    origins = Origins("paper")
    cost_class = "probe"

    def __init__(self, suffix: str = "", max_tokens: int = 16) -> None:
        if max_tokens < 1:
            raise ValueError("max_tokens is 1 or more")
        self.suffix, self.max_tokens = str(suffix), max_tokens

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        suffix = self.suffix or check.closing
        answers = [check.answer(text) for text in check.engine.force(prefixes, suffix, self.max_tokens)]
        votes = Counter(a for a in answers if a is not None)
        if not votes:
            raise PathpruneError(
                f"none of {len(prefixes)} paths gives an answer behind {suffix!r}: give suffix= as this model ends its thinking, or "
                f"more than max_tokens={self.max_tokens}"
            )
        others = max(1, len(prefixes) - 1)
        return np.array([0.0 if a is None else (votes[a] - 1) / others for a in answers])
