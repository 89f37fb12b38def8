"""Weights, tokenizer and parameter count of a transformers model."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from harness.api import PathpruneError, UnavailableError


def load(where: str, revision: str | None, dtype: str, device: str, attention: str | None) -> tuple[Any, Any]:
    """(model, tokenizer), in evaluation mode and frozen."""
    logging.disable_progress_bar()
    options: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        if attention:
            options["attn_implementation"] = attention
        loaded = AutoModelForCausalLM.from_pretrained(where, dtype=getattr(torch, dtype), **options)
        return loaded_to(loaded, device), tokenizer
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UnavailableError(
            f"cannot load model {where} ({reason}); give a local folder or a reachable hub id"
        ) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # safetensors' own class does not derive from ValueError
            raise
        raise PathpruneError(f"the weights in {where} are damaged ({error}); fetch or build them again") from error


def loaded_to(model: Any, device: str) -> Any:
    """The model on its device, in evaluation mode and frozen."""
    try:
        return model.to(device).eval().requires_grad_(False)
    except (RuntimeError, AssertionError) as error:  # torch's own classes for a device that is not there
        raise PathpruneError(f"device {device!r} cannot be used ({str(error).splitlines()[0]})") from error


def active_parameters(model: Any) -> int:
    """Parameters that one token passes through: input look-up excluded, experts scaled by how many are used."""
    config = model.config.get_text_config()
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None) or 0
    share = getattr(config, "num_experts_per_tok", experts) / experts if experts else 1.0
    total = sum(int(p.numel() * (share if ".experts." in name else 1)) for name, p in model.named_parameters())
    if not config.tie_word_embeddings:
        total -= model.get_input_embeddings().weight.numel()
    return total
