"""Deferred token statistics: computing many decoding steps at once saves many small operations."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch

from harness.engines.sampling import CACHED, statistics

AT_ONCE = {"cpu": CACHED}  # bytes of logits per computation, so that they fit the CPU's caches
AT_ONCE_BESIDE = 256 << 20  # on other devices, where each operation has a launch cost
Key = TypeVar("Key")


class Pending(Generic[Key]):
    """Decoding steps that wait for their statistics; the key of a step identifies its tokens."""

    def __init__(self, device: torch.device) -> None:
        self.most, self.bytes = AT_ONCE.get(device.type, AT_ONCE_BESIDE), 0
        self.keys: list[Key] = []
        self.steps: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def full(self) -> bool:
        """Whether enough steps have accumulated to compute them."""
        return self.bytes > self.most

    def add(self, key: Key, logits: torch.Tensor, tokens: torch.Tensor) -> None:
        """Add a step: tokens ``[n]`` that were sampled from logits ``[n, V]``, which must not be changed afterwards."""
        self.keys.append(key)
        self.steps.append((logits, tokens))
        self.bytes += logits.nbytes

    def compute(self) -> tuple[list[Key], torch.Tensor | None]:
        """The keys of all steps, and the statistics of their tokens in the same order, float16; None if there is no step."""
        keys, steps = self.keys, self.steps
        self.clear()
        if not steps:
            return keys, None
        logits, tokens = steps[0] if len(steps) == 1 else (torch.cat(column) for column in zip(*steps, strict=True))
        return keys, statistics(logits, tokens)

    def clear(self) -> None:
        """Drop all steps."""
        self.keys, self.steps, self.bytes = [], [], 0
