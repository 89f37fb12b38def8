"""A LoRA that is active on [STOP] tokens only, inside vLLM's fused and sharded linear layers.

It enters where vLLM lets quantisation in: the linear method of a layer. PEFT's q, k, v and gate, up become blocks of
the fused layers; with tensor parallelism a worker holds its shard of B (column-parallel layers) or of A (row-parallel
ones), whose partial sums vLLM adds up with the base layer's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from vllm.model_executor.layers.linear import (
    LinearBase,
    LinearMethodBase,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
)

PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


@dataclass
class Rows:
    """Which tokens of the present forward pass belong to which adapter slot."""

    of_slot: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        return bool(self.of_slot)

    def find(self, beyond: torch.Tensor, tokens: int) -> None:
        """``beyond`` ``[n]``: ids counted from the first [STOP] id, negative for all others."""
        where = (beyond >= 0).nonzero().squeeze(-1)
        slots = beyond[where] // tokens
        self.of_slot = {int(slot): where[slots == slot] for slot in slots.unique()}


class StopLinear(LinearMethodBase):
    """The layer's own method, plus (x A^T) B^T on the rows of a slot."""

    def __init__(self, inner: LinearMethodBase, rows: Rows) -> None:
        self.inner, self.rows = inner, rows
        self.low_rank: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # slot -> A [r, in], B [out, r], scaled

    def create_weights(self, *args: Any, **kwargs: Any) -> None:
        self.inner.create_weights(*args, **kwargs)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        self.inner.process_weights_after_loading(layer)

    def apply(self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        out: torch.Tensor = self.inner.apply(layer, x, bias)
        for slot, rows in self.rows.of_slot.items():
            if slot in self.low_rank:
                a, b = self.low_rank[slot]
                out.index_add_(0, rows, ((x[rows] @ a.T) @ b.T).to(out.dtype))
        return out


def wrap(model: torch.nn.Module, rows: Rows) -> dict[str, Any]:
    """Every linear layer of the decoder by name, with its method replaced."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, LinearBase) and ".layers." in f".{n}"}
    for layer in layers.values():
        layer.quant_method = StopLinear(layer.quant_method, rows)
    return layers


def load(folder: Path, slot: int, layers: dict[str, Any], device: Any, dtype: torch.dtype) -> torch.Tensor:
    """Give every layer its part of a PEFT adapter; returns the [STOP] embeddings ``[T_s, d]``."""
    embeddings = load_file(str(folder / "stop_embeddings.safetensors"))["embeddings"].to(device, dtype)
    file = folder / "adapter_config.json"
    if not file.exists():  # rank 0: tokens without a LoRA
        return embeddings
    config = json.loads(file.read_text())
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    weights = load_file(str(folder / "adapter_model.safetensors"))
    left = set(weights)
    for name, layer in layers.items():
        found = [_part(weights, left, name, part) for part in PARTS.get(name.rpartition(".")[2], ("",))]
        if any(found):
            a, b = _fused(layer, found)
            layer.quant_method.low_rank[slot] = (a.to(device, dtype), (scale * b).to(device, dtype))
    if left:
        raise ValueError(f"the adapter in {folder} has weights that this model has no place for, e.g. {min(left)}")
    return embeddings


def _part(weights: dict[str, torch.Tensor], left: set[str], layer: str, part: str) -> Any:
    """(A, B) of one of PEFT's modules, or None if it has no LoRA."""
    name = f"{layer.rpartition('.')[0]}.{part}" if part else layer
    keys = [f"base_model.model.{name}.lora_{x}.weight" for x in "AB"]
    left.difference_update(keys)
    return [weights[k] for k in keys] if keys[0] in weights else None


def _fused(layer: Any, parts: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """A ``[sum r, in]`` and block-diagonal B ``[out, sum r]`` of this worker's shard."""
    rank, size = layer.tp_rank, layer.tp_size
    if isinstance(layer, RowParallelLinear):
        a, b = parts[0]
        return a.chunk(size, dim=1)[rank], b
    widths = [w // size for w in getattr(layer, "output_sizes", [layer.output_size])]
    places = [rank] * len(widths)
    if isinstance(layer, QKVParallelLinear):  # heads of keys and values may be shared between workers
        heads = [layer.num_heads, layer.num_kv_heads, layer.num_kv_heads]
        widths = [h * layer.head_size for h in heads]
        places = [rank, rank // layer.num_kv_head_replicas, rank // layer.num_kv_head_replicas]
    elif not isinstance(layer, MergedColumnParallelLinear) and len(parts) > 1:
        raise TypeError(f"{type(layer).__name__} is not a fused layer")
    blocks, a = [], []
    for pair, width, place in zip(parts, widths, places, strict=True):
        blocks.append(pair[1][place * width : (place + 1) * width] if pair else torch.zeros(width, 0))
        a += [pair[0]] if pair else []
    return torch.cat(a), torch.block_diag(*blocks)
