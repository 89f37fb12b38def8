"""short-m@k (arXiv 2505.17813): generates all paths at once and stops when the first m have finished."""

from __future__ import annotations

from types import MappingProxyType

from harness.api import Origins, Tally
from pruners.stopping.rule import Rule


class ShortM(Rule):
    """Stop when ``m`` paths have finished, and abort the others at that token.

    A path counts as finished whether or not it gives an answer. Paths that finish at the same token as the m-th also
    vote.

    The paper breaks a tie of votes by the shortest of the tied paths. Here a tie goes to the lower index, as in every
    row. The rule is therefore as published for m = 1 and adapted for m > 1.

    Args:
        m: number of finished paths.

    Raises:
        ValueError: if ``m`` is below 1.
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
