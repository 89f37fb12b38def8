"""short-m@k (arXiv 2505.17813): generate all paths at once, stop when the first m have finished, and let those vote."""

from __future__ import annotations

from types import MappingProxyType

from harness.api import Origins, Tally
from pruners.stopping.rule import Rule


class ShortM(Rule):
    """Stop after the first ``m`` paths to finish; the others are aborted at that token.

    A path has finished whether or not it gives an answer. Those that finish at the same token as the m-th vote, too. The paper
    breaks a tie of votes by the shortest path among the tied; here a tie goes to the lower index, as in every row. So m = 1
    is as published and m > 1 adapted.
    """

    grid = MappingProxyType({"m": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)})

    def __init__(self, m: int = 3) -> None:
        super().__init__(order="parallel")
        if m < 1:
            raise ValueError("m is a number of paths, 1 or more")
        self.m = m
        self.origins = Origins("paper", "paper" if m == 1 else "adapted")

    def stops(self, tally: Tally) -> bool:
        return len(tally.answers) >= self.m
