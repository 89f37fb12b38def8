"""Sequences that go through the model side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache


@dataclass(eq=False)
class SequenceBatch:
    """n sequences, left-padded to one width, and what the model's last forward pass over them gave."""

    cache: Cache  # KV up to each sequence's last token
    lengths: torch.Tensor  # [n] prompt and generated tokens
    logits: torch.Tensor | None = None  # [n, V] after the last token, if they were wanted
    hidden: torch.Tensor | None = None  # [n, d] at the last token, if logits were not
    states: tuple[torch.Tensor, ...] = ()  # layers + 1 of [n, q, d] at the q tokens of that pass, if asked for

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order."""
        for layer in self.cache.layers:
            layer.select(rows)
        self.lengths = self.lengths[rows.cpu()]

    def clone(self, rows: torch.Tensor) -> None:
        """Append copies of these rows."""
        for layer in self.cache.layers:
            layer.clone(rows)
        self.lengths = torch.cat([self.lengths, self.lengths[rows.cpu()]])

    def mask(self, width: int, device: torch.device) -> torch.Tensor | None:
        """Attention mask ``[n, width]`` with zeros on left padding; None when there is no padding."""
        padding = width - self.lengths
        if not bool(padding.any()):
            return None
        return (torch.arange(width) >= padding.unsqueeze(-1)).to(device=device, dtype=torch.long)

    def inputs(self, ids: torch.Tensor, device: torch.device) -> dict[str, Any]:
        """A forward pass's arguments for the last tokens ``ids`` ``[n, q]`` over the cache; ``lengths`` count them already."""
        width = int(self.cache.get_seq_length()) + ids.shape[1]
        columns = torch.arange(width - ids.shape[1], width)
        positions = (columns - (width - self.lengths).unsqueeze(-1)).clamp(min=0)
        return {
            "input_ids": ids.to(device),
            "attention_mask": self.mask(width, device),
            "position_ids": positions.to(device),
            "past_key_values": self.cache,
            "use_cache": True,
        }


def ragged_inputs(
    cache: Cache, used: Sequence[int], rows: Sequence[Sequence[int]], device: torch.device, pad: int = 0
) -> dict[str, Any]:
    """A forward pass's arguments for rows of unlike length over a cache of which each row's last ``used`` columns are its own.

    Rows are padded on the right, so that nothing stands between a row and what it goes on from: a sliding window and ALiBi
    count columns.
    """
    cached, fed = max(used), max(map(len, rows))
    columns = torch.arange(cached + fed)
    starts, ends = cached - torch.tensor(used), cached + torch.tensor([len(row) for row in rows])
    seen = (columns >= starts.unsqueeze(-1)) & (columns < ends.unsqueeze(-1))
    positions = torch.tensor(used).unsqueeze(-1) + torch.arange(fed)
    return {
        "input_ids": torch.tensor([[*row, *[pad] * (fed - len(row))] for row in rows], device=device),
        "attention_mask": None if bool(seen.all()) else seen.to(device=device, dtype=torch.long),
        "position_ids": positions.to(device),
        "past_key_values": cache,
        "use_cache": True,
    }
