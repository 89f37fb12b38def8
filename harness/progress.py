"""Progress bars for terminals, logs and notebooks: done, total and a note."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.streams import unfailing

Steps = Callable[[int, int, str], None]


@contextmanager
def steps(label: str, in_bytes: bool = False) -> Iterator[Steps]:
    """A bar with an ETA whose total may change: call it with ``(done, total, note)``.

    The bar restarts when ``done`` decreases. ``in_bytes``: the counts are bytes.
    """
    console = Console(file=unfailing(sys.stderr), markup=False, emoji=False)
    with _notebook(label, in_bytes) if console.is_jupyter else _terminal(label, console, in_bytes) as step:
        yield step


@contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A bar with an ETA whose total is fixed: call it with ``(done, note)``."""
    with steps(label) as step:
        step(0, total, "")
        yield lambda done, note: step(done, total, note)


@contextmanager
def _terminal(label: str, console: Console, in_bytes: bool) -> Iterator[Steps]:
    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), count, TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False), console=console
    ) as progress:
        row = progress.add_task(label, total=None, note="")

        def step(done: int, total: int, note: str) -> None:
            if done < progress.tasks[0].completed:  # a new pass needs a new ETA
                progress.reset(row, total=total, completed=done)
            progress.update(row, completed=done, total=total, note=note)

        try:
            yield step
        except Exception:
            progress.live.transient = True  # clear the bar, so that the error message stands alone
            raise


@contextmanager
def _notebook(label: str, in_bytes: bool) -> Iterator[Steps]:
    """A plain-text bar, which works in every notebook; rich's live display would need widgets."""
    from tqdm import tqdm

    unit = {"unit": "B", "unit_scale": True} if in_bytes else {}
    with tqdm(desc=label, leave=False, file=unfailing(sys.stderr), **unit) as line:

        def step(done: int, total: int, note: str) -> None:
            if done < line.n:
                line.reset(total)
            line.total, line.n = total, done
            line.set_postfix_str(note)

        yield step
