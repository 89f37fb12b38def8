"""Problems of one's own: a file with ``problem`` and ``answer``, and no code at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tasks.benchmarks.base import Benchmark


class FromFile(Benchmark):
    """``problem`` and ``answer`` in each row, ``id`` and ``choices`` where there are any; named after the file."""

    def __init__(self, data: str, **more: Any) -> None:
        self.name = re.sub(r"[^\w.-]+", "-", Path(data).stem)
        super().__init__(data, **more)
