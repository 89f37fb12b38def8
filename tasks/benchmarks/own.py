"""Your own problems, from a file with ``problem`` and ``answer`` and without code."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.benchmarks.base import Benchmark

LONGEST = 64  # bytes of a task's name, which is part of ids and folder names


class FromFile(Benchmark):
    """A task named after its file; rows have ``problem`` and ``answer``, and optionally ``id`` and ``choices``."""

    distinct = True

    def __init__(
        self,
        data: str,
        dev: str = "",
        label: str = "",
        train: str = "",
        shuffle: int | str = "none",
        skip: bool = False,
    ) -> None:
        self.name = re.sub(r"[^\w.-]+", "-", Path(str(data)).stem).encode()[:LONGEST].decode(errors="ignore")
        super().__init__(data, dev, label, train, shuffle, skip)
