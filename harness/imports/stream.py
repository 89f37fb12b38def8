"""The rows of all files as one re-iterable sequence, and the handling of invalid rows."""

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
    """Reports the bytes read over all files to a watch."""

    def __init__(self, watch: Watch, before: int, total: int) -> None:
        super().__init__(before)
        self.watch, self.total = watch, total

    def add(self, count: int) -> None:
        """Advance by ``count`` bytes."""
        super().add(count)
        self.watch.at(self.bytes, self.total)


class Rows:
    """Rows in the order of files and lines, without refused ones.

    Args:
        sources: the files.
        skip_bad: skip and note an invalid row instead of raising.
        is_row: whether an object that contains a list of objects is itself a row.
        watch: receives the reading progress.
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
        """The rows with at least these fields; files that are read by column yield only these."""
        self.bytes_read = before = 0
        for source in self.sources:
            self.source, count, reached = source, 0, Reached()
            for given in source.rows(self.is_row, columns, reached):
                count += 1
                self._at(before + reached.bytes)
                if self._is_whole(given):
                    yield given
            if not count:
                raise PathpruneError(f"{source.name} has no rows; leave it out")
            self.counts[source.name] = count
            before += source.size
            self._at(before)

    def _at(self, position: int) -> None:
        self.bytes_read = min(self.bytes, position)
        self.watch.at(self.bytes_read, self.bytes)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file; hashing takes a pass over their bytes."""
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
        """Skip a row and note the reason.

        Raises:
            PathpruneError: invalid rows are not to be skipped.
        """
        reason = str(flaw) if str(flaw).startswith(where) else f"{where}: {flaw}"
        if not self.skip_bad:
            raise PathpruneError(
                f"{shorten(reason, 700)}; fix it, or skip it with {advice.option(skip_bad=True)}"
            ) from flaw
        self.refused[where] = shorten(reason)
