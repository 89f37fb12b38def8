"""The ``vllm.general_plugins`` entry point: every vLLM process of this environment learns our model classes."""

from __future__ import annotations

from harness.engines.vllm.ids import ARCHITECTURES


def register() -> None:
    """Called by vLLM in each of its processes, possibly more than once."""
    from vllm import ModelRegistry

    for architecture in ARCHITECTURES.values():
        if architecture not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(architecture, f"harness.engines.vllm.model:{architecture}")
