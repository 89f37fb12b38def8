"""The STOP paper's benchmarks and two common ones, by name. Revisions are the Hub's latest; versions are content digests."""

from __future__ import annotations

import re

from harness.api import PathpruneError
from harness.text import shown
from tasks.benchmarks.base import Benchmark
from tasks.benchmarks.files import Hub, Place, Row


class AIME24(Benchmark):
    """The American Invitational Mathematics Examination of 2024: 30 problems, each answer an integer from 0 to 999."""

    name = "aime24"
    hub = Hub("HuggingFaceH4/aime_2024", split="train")


class AIME25(Benchmark):
    """The examination of 2025."""

    name = "aime25"
    hub = Hub("MathArena/aime_2025", split="train")


class BRUMO25(Benchmark):
    """The Brown University Math Olympiad of 2025."""

    name = "brumo25"
    hub = Hub("MathArena/brumo_2025", split="train")


class HMMT25(Benchmark):
    """The Harvard-MIT Mathematics Tournament of February 2025."""

    name = "hmmt25"
    hub = Hub("MathArena/hmmt_feb_2025", split="train")


class MATH500(Benchmark):
    """500 problems of the MATH test set."""

    name = "math500"
    hub = Hub("HuggingFaceH4/MATH-500")
    max_tokens = 16384


class GSM8K(Benchmark):
    """Grade-school word problems; the only benchmark with a training split, from which learned pruners get labels."""

    name = "gsm8k"
    hub = Hub("openai/gsm8k", "main")
    max_tokens = 4096
    prefix = 128

    def _published(self, split: str) -> Hub | None:
        return self.hub if split == "test" else Hub("openai/gsm8k", "main", "train") if split == "label" else None


class GPQADiamond(Benchmark):
    """198 graduate-level questions. Options are shuffled, by default with seed 0, because the first published option is the right one."""

    name = "gpqa_diamond"
    hub = Hub("Idavidrein/gpqa", "gpqa_diamond", "train")

    def __init__(
        self,
        data: str = "",
        dev: str = "",
        label: str = "",
        train: str = "",
        shuffle: int | str = 0,
        skip: bool = False,
    ) -> None:
        super().__init__(data, dev, label, train, shuffle, skip)


class ZebraLogic(Benchmark):
    """Logic grids as multiple choice (mc_mode). ``largest``: maximum number of rows and columns of a puzzle (STOP: 4)."""

    name = "zebralogic"
    hub = Hub("WildEval/ZebraLogic", "mc_mode")

    def __init__(
        self,
        largest: int = 0,
        data: str = "",
        dev: str = "",
        label: str = "",
        train: str = "",
        shuffle: int | str = "none",
        skip: bool = False,
    ) -> None:
        if not isinstance(largest, int) or isinstance(largest, bool) or largest < 0:
            raise PathpruneError(f"{self.name}: largest is a number of rows and columns, not {largest!r}")
        self.largest = largest
        super().__init__(data, dev, label, train, shuffle, skip)

    def _rows(self, split: str) -> list[Place]:
        rows = super()._rows(split)
        small = [
            Place(where, self._whole(row))
            for where, row in rows
            if not self.largest or max(_size(row, where)) <= self.largest
        ]
        if not small:
            source = rows[0].where.rpartition(", ")[0]
            raise PathpruneError(f"{source} has no puzzle of at most {self.largest} rows and columns")
        return small

    @staticmethod
    def _whole(row: Row) -> Row:
        """A row whose question includes its puzzle."""
        puzzle, question = row.get("puzzle"), row.get("question")
        whole = isinstance(puzzle, str) and isinstance(question, str)
        return {**row, "question": f"{puzzle}\n\n{question}"} if whole else row


def _size(row: Row, where: str) -> tuple[int, int]:
    """Rows and columns of a puzzle, from its id (lgp-test-5x6-16#mc-3) or its field "size" (5*6)."""
    size = re.search(r"(\d{1,4})\s*[x*]\s*(\d{1,4})", str(row.get("size") or row.get("id")))
    if not size:
        raise PathpruneError(
            f"{where}: a puzzle's size is neither in its id {shown(row.get('id'))} nor in a field 'size'"
        )
    return int(size[1]), int(size[2])
