"""Results on the terminal as they are measured: a table whose rows appear one by one, and Ctrl-C without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from harness.signals import INTERRUPTED

GAP = "  "


class Lines:
    """A table that prints each row when it is added. A column is as wide as its head, or as told."""

    def __init__(self, *heads: str, widths: tuple[int, ...] = ()) -> None:
        """``widths`` are least widths of the first columns."""
        self.widths = [max(len(head), width) for head, width in zip(heads, (*widths, *[0] * len(heads)), strict=False)]
        self.add(*heads)

    def add(self, *cells: str) -> None:
        """Print one row at once."""
        print(GAP.join(c.ljust(w) for c, w in zip(cells, self.widths, strict=True)).rstrip(), flush=True)


def begun(what: str) -> None:
    """Say on standard error what is being measured now."""
    noted(f"measuring {what}")


def noted(line: str) -> None:
    """Print a part of a result on standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def interruptible(main: Callable[[], None]) -> None:
    """Run a benchmark; Ctrl-C ends it in one line, with exit code 130."""
    try:
        main()
    except KeyboardInterrupt:
        print("\ninterrupted: every line above is a complete result", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
