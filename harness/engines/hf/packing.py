"""Optimisations for hundreds of paths of a real model on a CPU: packed weights, and reuse of freed memory.

Torch reorders a weight for oneDNN's matrix product in every call. With weights packed once, a linear layer of a 0.5B model
takes half to two thirds of the time. The packed copy doubles the memory of the weights, and sums may differ in the last digit.

The logits of 256 paths over 150,000 tokens take 150 MB. The C library allocates new pages for every such tensor, which the
system clears first, and returns them when it is freed; that takes a third of a decode step.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from harness.api import PathpruneError

GIB = 1 << 30
KEPT = {-4: 0, -1: 2 * GIB - 1, -2: GIB // 2}  # glibc's M_MMAP_MAX, M_TRIM_THRESHOLD (an int, in bytes), M_TOP_PAD


class Packed:
    """A packed weight. Clones of a module tree share it, as they share parameters."""

    def __init__(self, weight: torch.Tensor, rows: int) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> Packed:
        return self


class PackedLinear(torch.nn.Linear):
    """A linear layer that computes with its packed weight, unless gradients are wanted: oneDNN's product has none."""

    packed: Packed

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``[..., in]`` to ``[..., out]``."""
        if torch.is_grad_enabled():
            return super().forward(input)
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, self.packed.weight, self.bias, "none", [], "")
        return product


def pack(model: torch.nn.Module, rows: int) -> None:
    """Make every plain linear layer of ``model`` a ``PackedLinear``, for products of about ``rows`` rows; keep freed memory.

    Raises:
        PathpruneError: for a model that is not in float32 on a CPU with oneDNN.
    """
    weights = next(model.parameters())
    if weights.device.type != "cpu" or weights.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        raise PathpruneError(
            f"packed=true is for float32 on a CPU, not for {str(weights.dtype).removeprefix('torch.')} on {weights.device.type}; leave it out"
        )
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = PackedLinear
            vars(module)["packed"] = Packed(module.weight, rows)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have the C library take large tensors from its heap, and leave there what is freed. Others than glibc stay as they are."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for option, value in KEPT.items():
            mallopt(option, value)
