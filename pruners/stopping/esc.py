"""Early-Stopping Self-Consistency (arXiv 2401.10480; code Yiwei98/ESC): stops at the first window of paths that all
agree."""

from __future__ import annotations

from types import MappingProxyType

from harness.api import Origins, Tally
from pruners.stopping.rule import Rule


class EarlyStopping(Rule):
    """Generate ``window`` paths at a time, and stop after a window in which all paths give the same answer.

    Windows do not overlap, and all paths generated so far vote. A window with an unanswered path is not unanimous.

    The authors' scripts treat a missing answer as an answer. Except in coin flips, a window without any answer
    therefore stops sampling there. Here sampling continues. If N is not a multiple of ``window``, the authors omit the
    rest. Here the rest is a last, smaller batch.

    Args:
        window: paths per window, at least 2.

    Raises:
        ValueError: if ``window`` is below 2.
    """

    origins = Origins("code", "code")
    grid = MappingProxyType({"window": (2, 3, 4, 5, 8, 10, 16)})

    def __init__(self, window: int = 5) -> None:
        if window < 2:
            raise ValueError("window is 2 paths or more: one path always agrees with itself")
        super().__init__(batch=window)
        self.window = window

    def stops(self, tally: Tally) -> bool:
        count = len(tally.answers)
        if not count or count % self.window:
            return False
        last = tally.answers[-self.window :]
        return last[0] is not None and all(answer == last[0] for answer in last)
