"""A LoRA that is active on [STOP] tokens only, inside vLLM's fused and sharded linear layers.

It replaces the linear method of a layer, which is vLLM's interface for quantisation. PEFT's q, k, v and gate, up become
blocks of the fused layers. With tensor parallelism, a worker holds its shard of B (column-parallel layers) or of A
(row-parallel layers), and vLLM adds up the partial sums together with those of the base layer.

Compiled layers call it as an operator that is opaque to the compiler. A captured graph skips it, so ``Rows`` counts the
layers that added their part.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.linear import (
    LinearBase,
    LinearMethodBase,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
)

from harness.engines.vllm.ids import STOPS, TOKENS

PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


@dataclass
class Rows:
    """The tokens of the current forward pass that belong to each adapter slot."""

    of_slot: dict[int, torch.Tensor] = field(default_factory=dict)  # int64 row indices
    every: torch.Tensor | None = None  # row indices of all slots
    added: int = 0  # layers that added the LoRA of these rows in this pass

    @property
    def any(self) -> bool:
        """Does any token of the pass belong to an adapter?"""
        return bool(self.of_slot)

    def find(self, offsets: torch.Tensor) -> None:
        """Set the rows of a pass. This waits for the device.

        Args:
            offsets: ``[n]``, ids counted from the first [STOP] id; negative for all other tokens.
        """
        self.every, self.added = (offsets >= 0).nonzero().squeeze(-1), 0
        slots = offsets[self.every] % STOPS // TOKENS
        self.of_slot = {int(slot): self.every[slots == slot] for slot in slots.unique()}

    def clear(self) -> None:
        """Forget the rows, because the pass has no [STOP] token."""
        self.of_slot, self.every, self.added = {}, None, 0


def whole_runs(rows: torch.Tensor, offsets: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """For each [STOP] token, whether all earlier ones of its Check are in the same pass, bool ``[len(rows)]``.

    Args:
        rows: int64, the rows of the [STOP] tokens.
        offsets: ``[n]``, ids counted from the first [STOP] id.
        positions: ``[n]``, positions of the tokens in their sequences.
    """
    earlier = offsets[rows] % TOKENS
    first = (rows - earlier).clamp(min=0)
    same = offsets[first] == offsets[rows] - earlier
    return same & (positions[first] == positions[rows] - earlier)


class StopLinear(LinearMethodBase):
    """The linear method of a layer, plus (x A^T) B^T on the rows of a slot. See vLLM's ``LinearMethodBase``."""

    def __init__(self, inner: LinearMethodBase, rows: Rows, name: str) -> None:
        self.inner, self.rows, self.name = inner, rows, name
        self.low_rank: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # slot -> A [r, in], B [out, r], scaled

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)  # all other attributes are those of the layer's method

    def create_weights(self, *args: Any, **kwargs: Any) -> None:
        """As the layer's method."""
        self.inner.create_weights(*args, **kwargs)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """As the layer's method."""
        self.inner.process_weights_after_loading(layer)

    def apply(self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Apply the layer with its LoRA: ``[n, in]`` to ``[n, out]`` of this worker's shard."""
        output: torch.Tensor = self.inner.apply(layer, x, bias)
        if torch.compiler.is_compiling():
            torch.ops.pathprune.stop_lora(output, x, self.name)
        else:
            self.add(output, x)
        return output

    def add(self, output: torch.Tensor, x: torch.Tensor) -> None:
        """Add the LoRA to the rows of ``output`` ``[n, out]`` that belong to a slot, in place."""
        concerned = [slot for slot in self.rows.of_slot if slot in self.low_rank]
        for slot in concerned:
            rows, (a, b) = self.rows.of_slot[slot], self.low_rank[slot]
            output.index_add_(0, rows, ((x[rows] @ a.T) @ b.T).to(output.dtype))
        self.rows.added += bool(concerned)


def _stop_lora(output: torch.Tensor, x: torch.Tensor, layer: str) -> None:
    get_forward_context().no_compile_layers[layer].add(output, x)


def _define() -> torch.library.Library:
    """Define the operator that compiled layers call. It exists as long as the returned object."""
    library = torch.library.Library("pathprune", "FRAGMENT")
    library.define("stop_lora(Tensor(a!) output, Tensor x, str layer) -> ()")
    for device in ("CPU", "CUDA"):
        library.impl("stop_lora", _stop_lora, device)
    library.impl("stop_lora", lambda output, x, layer: None, "Meta")
    return library


OPERATORS = _define()


def wrap(model: torch.nn.Module, rows: Rows, config: Any) -> dict[str, Any]:
    """Replace the method of every linear layer of the decoder, and return these layers by name.

    Args:
        model: a vLLM model.
        rows: the rows that the methods look up.
        config: vLLM's configuration, through which compiled code finds the layers.
    """
    layers = {n: m for n, m in model.named_modules() if isinstance(m, LinearBase) and ".layers." in f".{n}"}
    for name, layer in layers.items():
        method = layer.quant_method = StopLinear(layer.quant_method, rows, f"pathprune.{name}")
        config.compilation_config.static_forward_context[method.name] = method
    return layers


def adding(layers: dict[str, Any], slots: Collection[int]) -> int:
    """Number of layers that have a LoRA for one of these slots."""
    return sum(any(slot in layer.quant_method.low_rank for slot in slots) for layer in layers.values())


def load(folder: Path, slot: int, layers: dict[str, Any], device: Any, dtype: torch.dtype) -> torch.Tensor:
    """Give every layer its part of a PEFT adapter.

    Args:
        folder: written by ``harness.engines.hf.adapter.Adapter.save``.
        slot: slot of the adapter.
        layers: as returned by ``wrap``.
        device: device of the model.
        dtype: precision of the model.

    Returns:
        The [STOP] embeddings ``[T_s, d]``.

    Raises:
        ValueError: if the adapter has weights for a layer that the model does not have.
    """
    embeddings = load_file(str(folder / "stop_embeddings.safetensors"))["embeddings"].to(device, dtype)
    file = folder / "adapter_config.json"
    if not file.exists():  # rank 0: tokens without a LoRA
        return embeddings
    config = json.loads(file.read_text())
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    weights = load_file(str(folder / "adapter_model.safetensors"))
    unused = set(weights)
    for name, layer in layers.items():
        pairs = [_pair(weights, unused, name, part) for part in PARTS.get(name.rpartition(".")[2], ("",))]
        if any(pairs):
            a, b = _fused(layer, pairs)
            layer.quant_method.low_rank[slot] = (a.to(device, dtype), (scale * b).to(device, dtype))
    if unused:
        raise ValueError(f"the adapter in {folder} has weights for layers that this model lacks, e.g. {min(unused)}")
    return embeddings


def _pair(weights: dict[str, torch.Tensor], unused: set[str], layer: str, part: str) -> Any:
    """A ``[r, in]`` and B ``[out, r]`` of a PEFT module, removed from ``unused``; None if it has no LoRA."""
    name = f"{layer.rpartition('.')[0]}.{part}" if part else layer
    name = name.replace(".attn.", ".self_attn.")  # vLLM's name in gpt-oss
    keys = [f"base_model.model.{name}.lora_{x}.weight" for x in "AB"]
    unused.difference_update(keys)
    return [weights[k] for k in keys] if keys[0] in weights else None


def _fused(layer: Any, pairs: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """A ``[sum r, in]`` and block-diagonal B ``[out, sum r]`` of this worker's shard, from those of the layer's parts."""
    rank, size = layer.tp_rank, layer.tp_size
    if isinstance(layer, RowParallelLinear):
        a, b = pairs[0]
        return a.chunk(size, dim=1)[rank], b
    widths = [w // size for w in getattr(layer, "output_sizes", [layer.output_size])]
    shards = [rank] * len(widths)
    if isinstance(layer, QKVParallelLinear):  # workers may share heads of keys and values
        heads = [layer.num_heads, layer.num_kv_heads, layer.num_kv_heads]
        widths = [h * layer.head_size for h in heads]
        shards = [rank, rank // layer.num_kv_head_replicas, rank // layer.num_kv_head_replicas]
    elif not isinstance(layer, MergedColumnParallelLinear) and len(pairs) > 1:
        raise TypeError(f"{type(layer).__name__} is not a fused layer")
    blocks, a = [], []
    for pair, width, shard in zip(pairs, widths, shards, strict=True):
        blocks.append(pair[1][shard * width : (shard + 1) * width] if pair else torch.zeros(width, 0))
        a += [pair[0]] if pair else []
    return torch.cat(a), torch.block_diag(*blocks)
