"""A smaller N: a control that papers on stopping rules often omit."""

from __future__ import annotations

from harness.api import Order, Tally
from pruners.stopping.rule import Rule


class Fewer(Rule):
    """Stop after ``n`` paths, whatever their answers.

    After a scorer, the rule finishes the ``n`` paths with the highest scores.

    Args:
        n: number of paths.
        batch: paths generated at a time.

    Raises:
        ValueError: if ``n`` is below 1.
    """

    order: Order = "sequential"
    on_request = "the same as fewer paths, which --n launches"

    def __init__(self, n: int = 16, batch: int = 1) -> None:
        if n < 1:
            raise ValueError("n is a number of paths, 1 or more")
        super().__init__(batch=batch)
        self.n = n

    def stops(self, tally: Tally) -> bool:
        return len(tally.answers) >= self.n
