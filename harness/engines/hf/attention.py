"""Attention for the decode step: one query token per row, query heads folded over their shared KV head.

A decode step has a single query, so the G query heads that share a KV head can stand as G query rows of one matrix
product, and keys are read once instead of being repeated G times. On a CPU two matrix products are faster than torch's
kernels; beside a GPU those are given the folded queries. Everything else goes to torch's kernel as transformers calls it.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

FOLDED = "folded"
PLAIN = {"dropout", "scaling", "is_causal", "sliding_window", "position_ids", "use_cache", "cache_position"}


def folded_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers; anything but a plain decode step goes to torch's own kernel.

    Args:
        module: the layer.
        query: ``[n, heads, q, d]``.
        key: ``[n, kv heads, T, d]``; ``value`` has the same shape.
        attention_mask: bool ``[n, 1, q, T]``, True where a query may look; None for everywhere. Others go to torch's kernel.
        options: transformers' own.

    Returns:
        ``[n, q, heads, d]``, and None for the attention weights.
    """
    unusual = any(v is not None and k not in PLAIN for k, v in options.items())
    unusual |= attention_mask is not None and (attention_mask.dtype != torch.bool or attention_mask.shape[1] != 1)
    if query.shape[2] != 1 or unusual or torch.is_grad_enabled():
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    rows, heads, _, width = query.shape
    shared = key.shape[1]
    scale = options.get("scaling") or width**-0.5
    folded = query.reshape(rows, shared, heads // shared, width)
    states = _products if query.device.type == "cpu" else torch.nn.functional.scaled_dot_product_attention
    return states(folded, key, value, attn_mask=attention_mask, scale=scale).reshape(rows, 1, heads, -1), None


def _products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """Torch's ``scaled_dot_product_attention`` as two matrix products."""
    scores = (query * scale) @ key.transpose(2, 3)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1) @ value


def use(model: Any) -> None:
    """Switch a model that runs torch's scaled-dot-product attention to the folded decode step.

    A model that asks for "sdpa" by name in its own code keeps it.
    """
    exchangeable = getattr(model, "_supports_attention_backend", False)
    if exchangeable and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(FOLDED, folded_attention)
        AttentionMaskInterface.register(FOLDED, sdpa_mask)
        model.set_attn_implementation(FOLDED)
