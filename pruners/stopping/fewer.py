"""A plain smaller N: the control that papers on stopping leave out."""

from __future__ import annotations

from harness.api import Order, Tally
from pruners.stopping.rule import Rule


class Fewer(Rule):
    """Stop after ``n`` paths, whatever they answer. Behind a scorer: finish the ``n`` of the highest scores."""

    order: Order = "sequential"
    on_request = "the same as fewer paths, which --n launches"

    def __init__(self, n: int = 16, batch: int = 1) -> None:
        if n < 1:
            raise ValueError("n is a number of paths, 1 or more")
        super().__init__(batch=batch)
        self.n = n

    def stops(self, tally: Tally) -> bool:
        return len(tally.answers) >= self.n
