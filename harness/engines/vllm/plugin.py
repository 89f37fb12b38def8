"""The ``vllm.general_plugins`` entry point: registers our model classes in every vLLM process of this environment."""

from __future__ import annotations

from harness.engines.vllm.ids import ARCHITECTURES


def register() -> None:
    """Register the classes. vLLM calls this in each of its processes, possibly more than once."""
    from vllm import ModelRegistry

    for architecture in ARCHITECTURES.values():
        if architecture not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(architecture, f"harness.engines.vllm.model:{architecture}")
