"""Early-Stopping Self-Consistency (arXiv 2401.10480; code Yiwei98/ESC): stop at the first window of paths that all agree."""

from __future__ import annotations

from types import MappingProxyType

from harness.api import Origins, Tally
from pruners.stopping.rule import Rule


class EarlyStopping(Rule):
    """Paths are generated ``window`` at a time; stop after a window in which all give one answer (entropy 0).

    Windows do not overlap, and all paths so far vote. A window with an unanswered path is not unanimous. The authors' scripts
    take a missing answer for an answer of its own: there, too, it differs from the others, but a window without any answer
    stops (coin flips excepted). Such a window decides nothing, and here sampling goes on. Where N is no multiple of
    ``window``, the authors leave the rest out, and here it is a last, smaller batch.
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
