"""The ``vllm.general_plugins`` entry point: every vLLM process of this environment learns our model classes."""

from __future__ import annotations

from harness.engines.vllm.ids import ARCHITECTURES


def register() -> None:
    from vllm import ModelRegistry

    for served in ARCHITECTURES.values():
        if served not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(served, f"harness.engines.vllm.model:{served}")
