"""The STOP paper's benchmarks and two usual ones, by name. Revisions are the hub's newest; versions follow the content."""

from __future__ import annotations

import re
from typing import Any

from harness.api import PathpruneError
from tasks.benchmarks.base import Benchmark
from tasks.benchmarks.files import Hub, Row


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
    """Grade-school word problems. The only one with a training split, on which learned pruners get their labels."""

    name = "gsm8k"
    hub = Hub("openai/gsm8k", "main")
    max_tokens = 4096
    prefix = 128

    def _published(self, split: str) -> Hub | None:
        return self.hub if split == "test" else Hub("openai/gsm8k", "main", "train") if split == "label" else None


class GPQADiamond(Benchmark):
    """198 graduate questions. Options are shuffled with seed 0 unless told otherwise: published, the first is right."""

    name = "gpqa_diamond"
    hub = Hub("Idavidrein/gpqa", "gpqa_diamond", "train")

    def __init__(self, data: str = "", dev: str = "", label: str = "", train: str = "", shuffle: int | str = 0) -> None:
        super().__init__(data, dev, label, train, shuffle)


class ZebraLogic(Benchmark):
    """Logic grids as multiple choice (mc_mode). ``largest``: keep puzzles of at most so many rows and columns (STOP: 4)."""

    name = "zebralogic"
    hub = Hub("WildEval/ZebraLogic", "mc_mode")

    def __init__(self, largest: int = 0, **files: Any) -> None:
        self.largest = largest
        super().__init__(**files)

    def _rows(self, split: str) -> tuple[list[Row], str]:
        rows, source = super()._rows(split)
        small = [self._whole(row) for row in rows if not self.largest or max(_size(row, source)) <= self.largest]
        if not small:
            raise PathpruneError(f"{source} has no puzzle of at most {self.largest} rows and columns")
        return small, source

    @staticmethod
    def _whole(row: Row) -> Row:
        """A row whose question includes its puzzle."""
        return {**row, "question": f"{row['puzzle']}\n\n{row['question']}"} if "puzzle" in row else row


def _size(row: Row, source: str) -> tuple[int, int]:
    """Rows and columns, which stand in the puzzle's id (lgp-test-5x6-16#mc-3) or in its field "size" (5*6)."""
    size = re.search(r"(\d+)\s*[x*]\s*(\d+)", str(row.get("size") or row.get("id")))
    if not size:
        raise PathpruneError(f"{source}: a puzzle's size is neither in its id {row.get('id')!r} nor in a field 'size'")
    return int(size[1]), int(size[2])
