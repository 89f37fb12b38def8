"""What a model's configuration and tokenizer answer without its weights, so that stored paths are replayed without them."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from typing import Any

import torch

from harness.engines import loading
from harness.engines.options import AT_ONCE, DEVICE
from harness.engines.prompts import Prompts


class HFText(Prompts):
    """Texts, prompt lengths, FLOPs and the device of ``HFEngine``, as it answers them itself.

    For the arguments see ``HFEngine``.

    Raises:
        PathpruneError: the device cannot be used, the model is no decoder, or its chat template cannot be used.
        UnavailableError: the configuration or the tokenizer cannot be loaded.
    """

    def __init__(
        self, where: str, spec: Mapping[str, Any], revision: str | None = None, device: str | None = None,
        device_map: str | None = None, rows: int = AT_ONCE["hf"],
    ) -> None:  # fmt: skip
        self.device, self.rows = default_device(_named(device_map) if device_map else device), rows
        loading.usable(str(self.device))
        model, tokenizer = loading.skeleton(where, revision)
        if not hasattr(model.config, "quantization_config"):  # those of quantised weights need the loaded model
            self.flops = loading.flop_model(model)
        super().__init__(tokenizer, loading.even_context(model.config.get_text_config())[0], spec)

    def describe(self) -> dict[str, str]:
        """Device and version of torch, for a record."""
        return described(self.device)


def default_device(device: str | None) -> torch.device:
    """The requested device; without a request a GPU, if there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _named(device_map: str) -> str | None:
    """The device of a device map that is one; None for a map over several, whose first one reads the tokens."""
    return device_map if re.fullmatch(DEVICE, device_map) else None


def described(device: torch.device) -> dict[str, str]:
    """Name of a device and version of torch, for a record."""
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "cpu",
        "torch": torch.__version__,
    }
