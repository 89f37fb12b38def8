"""Linear layers of a CPU that keep their weights packed in the order that oneDNN's matrix product reads.

Torch reorders a weight in every call. Packed once, the weights of hundreds of paths' decode steps are read as they are. The packed copy doubles
the memory of the weights, and sums round differently in the last digit.
"""

from __future__ import annotations

from typing import Any

import torch

from harness.api import PathpruneError


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
    """Make every plain linear layer of ``model`` a ``PackedLinear``, for products of about ``rows`` rows.

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
