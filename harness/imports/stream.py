"""The rows of all files as one sequence that can be gone through again, and what to do with a row that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness import advice
from harness.api import PathpruneError
from harness.imports.files import Given, Source
from harness.imports.values import Flaw
from harness.text import shorten, shown


class Rows:
    """Rows in the order of files and lines, without those that were refused.

    Args:
        sources: the files.
        skip_bad: whether a wrong row is left out and noted, or is an error.
        is_row: whether an object that holds a list of objects is a row all the same.
    """

    def __init__(self, sources: Sequence[Source], skip_bad: bool, is_row: Callable[[Any], bool]) -> None:
        self.sources, self.skip_bad, self.is_row = sources, skip_bad, is_row
        self.counts: dict[str, int] = {}
        self.refused: dict[str, str] = {}  # what is wrong, by the row's place
        self.source = sources[0]  # of the row that came last
        self.bytes = sum(source.path.stat().st_size for source in sources)
        self.bytes_read = 0

    def __iter__(self) -> Iterator[Given]:
        return self.only(None)

    def only(self, columns: Sequence[str] | None) -> Iterator[Given]:
        """The rows with at least these fields; of a file that is read by columns, with these alone."""
        self.bytes_read = before = 0
        for source in self.sources:
            self.source, count, size = source, 0, source.path.stat().st_size
            known = self.counts.get(source.name, 0)  # from an earlier pass
            for given in source.rows(self.is_row, columns):
                count += 1
                self.bytes_read = before + (size * count // known if known else 0)
                if self._is_whole(given):
                    yield given
            if not count:
                raise PathpruneError(f"{source.name} holds no rows; leave it out")
            self.counts[source.name] = count
            self.bytes_read = before = before + size

    def _is_whole(self, given: Given) -> bool:
        where, row = given
        if where in self.refused:
            return False
        if isinstance(row, PathpruneError):
            self.refuse(where, row)
            return False
        if not isinstance(row, dict):
            self.refuse(where, Flaw(f"is {shown(row)}, not an object with fields"))
            return False
        return True

    def refuse(self, where: str, flaw: PathpruneError) -> None:
        """Leave a row out and note why.

        Raises:
            PathpruneError: wrong rows are errors here.
        """
        reason = str(flaw) if str(flaw).startswith(where) else f"{where}: {flaw}"
        if not self.skip_bad:
            raise PathpruneError(
                f"{shorten(reason, 700)}; mend it, or {advice.option(skip_bad=True)} goes on without it"
            ) from flaw
        self.refused[where] = shorten(reason)
