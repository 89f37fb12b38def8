"""Consensus of forced answers: the signal of Parallel-Probe (arXiv 2602.03845)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path, PathpruneError


class Consensus:
    """s_i = share of the other paths whose forced answer equals that of path i; 0 if path i gives none

    Each path is forced to answer at L: ``suffix`` is appended to the prefix, and up to ``max_tokens`` tokens are
    generated and charged. The answers are compared in canonical form.

    The published decision rule is the row ``parallel-probe``. The paper does not count the tokens of the probes. Here a
    single probe at L ranks paths for top k.

    Args:
        suffix: text that makes the model answer; by default the end of the model's thinking and the task's closing
            words, such as "</think> The final answer is".
        max_tokens: longest forced answer, in tokens.

    Raises:
        ValueError: if ``max_tokens`` is below 1.
        PathpruneError: if no path of a problem gives an answer.
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
