"""Methods that our engine calls inside vLLM's worker processes (``worker_extension_cls``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.engines.vllm.draw import forget, recorders


class Extension:
    """vLLM adds these methods to its worker class. They are called by name, with ``collective_rpc``."""

    def load_stop_adapter(self, slot: int, folder: str) -> None:
        """Load a trained adapter into a slot of the model."""
        model: Any = self.model_runner.get_model()  # type: ignore[attr-defined]
        model.load_adapter(slot, Path(folder))

    def begin_requests(self) -> None:
        """Forget earlier requests, and record the next ones in the first of several workers, which all compute the
        same."""
        forget()
        for recorder in recorders() if self.rank == 0 else []:  # type: ignore[attr-defined]
            recorder.begin()

    def take_records(self) -> list[dict[str, bytes]]:
        """The data recorded since ``begin_requests``."""
        return [recorder.take() for recorder in recorders()]
