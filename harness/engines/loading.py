"""Weights, tokenizer, parameter count and FLOPs of a transformers model."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from harness.api import FlopModel, PathpruneError
from harness.engines.identity import unreachable


def load(
    where: str, revision: str | None, dtype: str, device: str, attention: str | None, device_map: str | None = None
) -> tuple[Any, Any]:  # fmt: skip
    """A model, in evaluation mode and frozen, and its tokenizer.

    Args:
        where: folder or hub id.
        revision: commit of a hub id.
        dtype: torch's name of the weights' precision.
        device: torch's name of it.
        attention: transformers' name of an attention implementation; None for its default.
        device_map: accelerate's, for several devices; ``device`` is then unused.

    Raises:
        UnavailableError: if the model cannot be loaded.
        PathpruneError: if its weights are damaged, or the device cannot be used.
    """
    logging.disable_progress_bar()
    options: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        if attention:
            options["attn_implementation"] = attention
        if device_map:
            options["device_map"] = device_map
        model = AutoModelForCausalLM.from_pretrained(where, dtype=getattr(torch, dtype), **options)
        return (model.eval().requires_grad_(False) if device_map else loaded_to(model, device)), tokenizer
    except (OSError, ValueError) as error:
        raise unreachable(where, error) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # safetensors' own class does not derive from ValueError
            raise
        raise PathpruneError(f"the weights in {where} are damaged ({error}); fetch or build them again") from error


def skeleton(where: str, revision: str | None) -> tuple[Any, Any]:
    """A model without weights and its tokenizer: what an engine knows of a model that runs elsewhere.

    Raises:
        UnavailableError: if its configuration or tokenizer cannot be loaded.
    """
    options: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        config = AutoConfig.from_pretrained(where, **options)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        with suppress(OSError):  # a model folder need not have one
            model.generation_config = GenerationConfig.from_pretrained(where, **options)
        return model, tokenizer
    except (OSError, ValueError) as error:
        raise unreachable(where, error) from error


def loaded_to(model: Any, device: str) -> Any:
    """The model on its device, in evaluation mode and frozen.

    Raises:
        PathpruneError: if the device cannot be used.
    """
    try:
        return model.to(device).eval().requires_grad_(False)
    except (RuntimeError, AssertionError) as error:  # torch's own classes for a device that is not there
        raise PathpruneError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}); choose another with device="
        ) from error


def active_parameters(model: Any) -> int:
    """Parameters that one token passes through: without the input embeddings, experts scaled by how many are used."""
    config = model.config.get_text_config()
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None) or 0
    share = getattr(config, "num_experts_per_tok", experts) / experts if experts else 1.0
    total = sum(int(p.numel() * (share if ".experts." in name else 1)) for name, p in model.named_parameters())
    if not config.tie_word_embeddings:
        total -= model.get_input_embeddings().weight.numel()
    return total


def head_dim(config: Any) -> int:
    """Width of one attention head, from a text model's configuration."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def flop_model(model: Any) -> FlopModel:
    """FLOPs of a forward pass, from shapes only: the model needs no weights."""
    config = model.config.get_text_config()
    width = config.num_hidden_layers * config.num_attention_heads * head_dim(config)
    return FlopModel(2.0 * active_parameters(model), 4.0 * width)
