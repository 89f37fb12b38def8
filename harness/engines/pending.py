"""Drawn tokens whose statistics are computed later, many steps in one go: their many small operations are shared."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch

from harness.engines.sampling import statistics

AT_ONCE = {"cpu": 8 << 20}  # bytes of logits whose statistics are computed together: what caches hold
AT_ONCE_BESIDE = 256 << 20  # on other devices, where every operation has a price
Key = TypeVar("Key")


class Pending(Generic[Key]):
    """Steps that wait for their statistics; each has a key, which says whose tokens they are."""

    def __init__(self, device: torch.device) -> None:
        self.most, self.bytes = AT_ONCE.get(device.type, AT_ONCE_BESIDE), 0
        self.keys: list[Key] = []
        self.steps: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def full(self) -> bool:
        """Are there enough to compute them now?"""
        return self.bytes > self.most

    def add(self, key: Key, logits: torch.Tensor, tokens: torch.Tensor) -> None:
        """One step: the tokens ``[n]`` that were drawn under logits ``[n, V]``, which nobody may change from here on."""
        self.keys.append(key)
        self.steps.append((logits, tokens))
        self.bytes += logits.nbytes

    def compute(self) -> tuple[list[Key], torch.Tensor | None]:
        """The keys of all steps, and the statistics of their tokens in this order, float16; None of no step."""
        keys, steps = self.keys, self.steps
        self.clear()
        if not steps:
            return keys, None
        logits, tokens = steps[0] if len(steps) == 1 else (torch.cat(column) for column in zip(*steps, strict=True))
        return keys, statistics(logits, tokens)

    def clear(self) -> None:
        """Forget the steps."""
        self.keys, self.steps, self.bytes = [], [], 0
