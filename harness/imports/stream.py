"""The rows of all files as one sequence that can be gone through again, and what to do with a row that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness import advice
from harness.api import PathpruneError
from harness.imports.files import Given, Reached, Source
from harness.imports.values import Flaw
from harness.imports.watch import Watch
from harness.text import shorten, shown


class _Telling(Reached):
    """Tells a watch how much of all files was gone through."""

    def __init__(self, watch: Watch, before: int, total: int) -> None:
        super().__init__(before)
        self.watch, self.total = watch, total

    def add(self, count: int) -> None:
        """Go on by so many."""
        super().add(count)
        self.watch.at(self.bytes, self.total)


class Rows:
    """Rows in the order of files and lines, without those that were refused.

    Args:
        sources: the files.
        skip_bad: whether a wrong row is left out and noted, or is an error.
        is_row: whether an object that holds a list of objects is a row all the same.
        watch: is told how much of the files was gone through.
    """

    def __init__(
        self, sources: Sequence[Source], skip_bad: bool, is_row: Callable[[Any], bool], watch: Watch | None = None
    ) -> None:
        self.sources, self.skip_bad, self.is_row, self.watch = sources, skip_bad, is_row, watch or Watch()
        self.counts: dict[str, int] = {}
        self.refused: dict[str, str] = {}  # what is wrong, by the row's place
        self.source = sources[0]  # of the row that came last
        self.bytes = sum(source.size for source in sources)
        self.bytes_read = 0  # in the last pass over them

    def __iter__(self) -> Iterator[Given]:
        return self.only(None)

    def only(self, columns: Sequence[str] | None) -> Iterator[Given]:
        """The rows with at least these fields; of a file that is read by columns, with these alone."""
        self.bytes_read = before = 0
        for source in self.sources:
            self.source, count, reached = source, 0, Reached()
            for given in source.rows(self.is_row, columns, reached):
                count += 1
                self._at(before + reached.bytes)
                if self._is_whole(given):
                    yield given
            if not count:
                raise PathpruneError(f"{source.name} holds no rows; leave it out")
            self.counts[source.name] = count
            before += source.size
            self._at(before)

    def _at(self, position: int) -> None:
        self.bytes_read = min(self.bytes, position)
        self.watch.at(self.bytes_read, self.bytes)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the files, which takes a pass over their bytes."""
        hashes, before = {}, 0
        self.watch.say("hashing the files")
        for source in self.sources:
            hashes[source.name] = source.sha256(_Telling(self.watch, before, self.bytes))
            before += source.size
        return hashes

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
