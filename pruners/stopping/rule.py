"""The options common to stopping rules: the order in which paths are generated, and how many at a time."""

from __future__ import annotations

from typing import get_args

from harness.api import Order, Origins, Quadrant


class Rule:
    """Base class of stopping rules; see ``harness.api.Stopping``.

    Args:
        order: "sequential" or "parallel" generation.
        batch: paths generated at a time.

    Raises:
        ValueError: if an option is outside its range, or a parallel rule has a batch.
    """

    quadrant: Quadrant = "control"
    origins = Origins("ours", "ours")

    def __init__(self, order: str = "sequential", batch: int = 1) -> None:
        if order not in get_args(Order) or batch < 1:
            raise ValueError("order is sequential or parallel, batch 1 or more")
        if order == "parallel" and batch > 1:
            raise ValueError("a parallel rule generates all paths at once; leave out batch")
        self.order, self.batch = order, batch
