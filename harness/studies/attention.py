"""What an adapter's appended tokens look at: attention of [STOP] tokens over a prefix (STOP, Fig. 7).

The same forward as ``HFEngine.probe`` on the same cached KV, with eager attention, which alone returns its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from harness.api import Path
from harness.engines.hf.adapter import StopAdapter


@dataclass(frozen=True, eq=False)
class AttentionMass:
    """Attention mass, mean over heads, float32; the three kinds sum to 1 for every path, layer and [STOP] token."""

    prompt: np.ndarray  # [n, layers, T_s], over all prompt tokens
    prefix: np.ndarray  # [n, layers, T_s, L], generated token t in column t; 0 behind a path's end
    appended: np.ndarray  # [n, layers, T_s, T_s], over the [STOP] tokens themselves
    states: np.ndarray  # [n, T_s, d], as ``HFEngine.probe`` gives them


@torch.no_grad()
def read_attention(engine: Any, paths: Sequence[Path], adapter: StopAdapter) -> AttentionMass:
    """Run the adapter over the cached prefixes, whose stored KV is copied and so left bit-identical."""
    longest = max(len(p.tokens) for p in paths)
    order: list[int] = []
    parts: list[AttentionMass] = []
    with _eager(adapter):
        for indices in engine.batches(paths, reserve=8):
            order += indices
            parts.append(_read(engine, [paths[i] for i in indices], adapter, longest))
    back = np.argsort(order)
    return AttentionMass(*(np.concatenate([getattr(p, f.name) for p in parts])[back] for f in fields(AttentionMass)))


def _read(engine: Any, paths: Sequence[Path], adapter: StopAdapter, longest: int) -> AttentionMass:
    batch = engine.prefill(paths, want_logits=False)
    longer = replace(batch, lengths=batch.lengths + adapter.tokens)
    width = int(batch.cache.get_seq_length()) + adapter.tokens
    weights: list[torch.Tensor] = []  # per layer [n, heads, T_s, width]
    hooks = [
        layer.self_attn.register_forward_hook(lambda _module, _inputs, outputs: weights.append(outputs[1]))
        for layer in adapter.decoder.layers
    ]
    try:
        states = adapter(batch.cache, longer.lengths.to(engine.device), longer.mask(width, engine.device))
    finally:
        for hook in hooks:
            hook.remove()
    mass = torch.stack([w.float().mean(1).cpu() for w in weights], 1)  # [n, layers, T_s, width]
    border = width - adapter.tokens
    prefix = mass.new_zeros(*mass.shape[:3], longest)
    prompt = mass.new_zeros(mass.shape[:3])
    for row, path in enumerate(paths):
        start = border - len(path.tokens)  # sequences are aligned at their ends
        prompt[row] = mass[row, :, :, :start].sum(-1)
        prefix[row, :, :, : border - start] = mass[row, :, :, start:border]
    return AttentionMass(prompt.numpy(), prefix.numpy(), mass[..., border:].numpy(), states.float().cpu().numpy())


@contextmanager
def _eager(adapter: StopAdapter) -> Iterator[None]:
    """The adapter's branch with eager attention; its configuration is its own, so the engine's model keeps its kernel."""
    decoder = adapter.decoder
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)
