"""What our engine may call inside vLLM's worker processes (``worker_extension_cls``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Extension:
    """Methods are added to vLLM's worker class."""

    def load_stop_adapter(self, slot: int, folder: str) -> None:
        model: Any = self.model_runner.get_model()  # type: ignore[attr-defined]
        model.load_adapter(slot, Path(folder))
