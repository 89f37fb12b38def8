"""The STOP paper's benchmarks and two usual ones, by name. Revisions are the hub's newest; versions follow the content."""

from __future__ import annotations

import re
from typing import Any

from harness.api import PathpruneError
from tasks.benchmarks.base import Benchmark
from tasks.benchmarks.files import Hub, Row


class AIME24(Benchmark):
    name = "aime24"
    hub = Hub("HuggingFaceH4/aime_2024", split="train")


class AIME25(Benchmark):
    name = "aime25"
    hub = Hub("MathArena/aime_2025", split="train")


class BRUMO25(Benchmark):
    name = "brumo25"
    hub = Hub("MathArena/brumo_2025", split="train")


class HMMT25(Benchmark):
    """The February tournament."""

    name = "hmmt25"
    hub = Hub("MathArena/hmmt_feb_2025", split="train")


class MATH500(Benchmark):
    name = "math500"
    hub = Hub("HuggingFaceH4/MATH-500")
    max_tokens = 16384


class GSM8K(Benchmark):
    """The one with a training split, which is what learned pruners get their labels on."""

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
