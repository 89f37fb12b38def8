"""The consensus stop of DeepConf online (arXiv 2508.15260) with unweighted votes, so that no signal of the model is
needed."""

from __future__ import annotations

from types import MappingProxyType

from harness.api import Origins, Tally
from pruners.stopping.rule import Rule

CONSENSUS = 0.95  # tau in DeepConf


class Agreement(Rule):
    """After ``warmup`` finished paths, stop when the leading answer has the share ``consensus`` of all votes.

    DeepConf weights a vote by the path's confidence and aborts unconfident paths, as in ``deepconf-online``. The
    unweighted vote is a choice of this benchmark. Paths without an answer count towards the warm-up and not towards the
    votes.

    Args:
        consensus: share of the votes, above 0 and at most 1.
        warmup: finished paths before the rule can stop.
        order: "sequential" or "parallel" generation.
        batch: paths generated at a time.

    Raises:
        ValueError: if an option is outside its range.
    """

    grid = MappingProxyType({"consensus": (0.6, 0.7, 0.8, 0.9, 0.95), "warmup": (4, 8, 16)})

    def __init__(
        self, consensus: float = CONSENSUS, warmup: int = 16, order: str = "sequential", batch: int = 1
    ) -> None:
        super().__init__(order, batch)
        if not 0 < consensus <= 1 or warmup < 1:
            raise ValueError("consensus is a share above 0 and at most 1, warmup a number of paths, 1 or more")
        self.consensus, self.least = consensus, warmup  # not named ``warmup``, which other contracts use
        self.origins = Origins("ours", "paper" if order == "sequential" else "adapted")

    def stops(self, tally: Tally) -> bool:
        if len(tally.answers) < self.least or not tally.answered:
            return False
        return tally.first >= self.consensus * tally.answered
