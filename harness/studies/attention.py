"""Attention of an adapter's appended [STOP] tokens over a prefix (STOP, Fig. 7).

The forward pass is that of ``HFEngine.probe`` on the same KV cache, but with eager attention, the only kind that returns weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from harness.api import Path, PathpruneError
from harness.engines.hf.adapter import StopAdapter


@dataclass(frozen=True, eq=False)
class AttentionMass:
    """Attention mass, mean over heads, float32; the three kinds sum to 1 for every path, layer and [STOP] token.

    For models with attention sinks (gpt-oss) they sum to less; the rest is on the sink."""

    prompt: np.ndarray  # [n, layers, T_s], over all prompt tokens
    prefix: np.ndarray  # [n, layers, T_s, L], generated token t in column t; 0 beyond a path's end
    appended: np.ndarray  # [n, layers, T_s, T_s], over the [STOP] tokens themselves
    states: np.ndarray  # [n, T_s, d], as ``HFEngine.probe`` gives them


@torch.no_grad()
def read_attention(engine: Any, paths: Sequence[Path], adapter: StopAdapter) -> AttentionMass:
    """Run the adapter over the cached prefixes. It works on a copy of the KV cache, which stays bit-identical."""
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
    modules = _attention_modules(adapter.decoder)
    given: list[Any] = [None] * len(modules)

    def keep(layer: int) -> Callable[..., None]:
        return lambda _module, _inputs, outputs: given.__setitem__(layer, outputs)

    hooks = [module.register_forward_hook(keep(layer)) for layer, module in enumerate(modules)]
    try:
        states = adapter(batch.cache, longer.lengths.to(engine.device), longer.mask(width, engine.device))
    finally:
        for hook in hooks:
            hook.remove()
    weights = [_weights(outputs, (len(paths), adapter.tokens, width)) for outputs in given]
    if not weights or any(w is None for w in weights):
        raise PathpruneError(
            f"{type(adapter.decoder).__name__} does not return the attention weights of every layer, unlike eager attention in "
            "transformers; use a model that does, such as hands"
        )
    mass = torch.stack([w.float().mean(1).cpu() for w in weights if w is not None], 1)  # [n, layers, T_s, width]
    border = width - adapter.tokens
    prefix = mass.new_zeros(*mass.shape[:3], longest)
    prompt = mass.new_zeros(mass.shape[:3])
    for row, path in enumerate(paths):
        start = border - len(path.tokens)  # sequences are aligned at their ends
        prompt[row] = mass[row, :, :, :start].sum(-1)
        prefix[row, :, :, : border - start] = mass[row, :, :, start:border]
    return AttentionMass(prompt.numpy(), prefix.numpy(), mass[..., border:].numpy(), states.float().cpu().numpy())


def _attention_modules(decoder: torch.nn.Module) -> list[torch.nn.Module]:
    """A decoder's attention modules, layer by layer, for any model family; of nested ones, the outer one."""
    named = {n: m for n, m in decoder.named_modules() if type(m).__name__.endswith("Attention")}
    return [m for n, m in named.items() if not any(n.startswith(f"{outer}.") for outer in named)]


def _weights(outputs: Any, shape: tuple[int, int, int]) -> torch.Tensor | None:
    """The weights ``[n, heads, T_s, width]`` among the outputs of an attention module; None without any."""
    tensors = [t for t in outputs if isinstance(t, torch.Tensor)] if isinstance(outputs, tuple) else []
    return next((t for t in tensors if t.dim() == 4 and (t.shape[0], *t.shape[2:]) == shape), None)


@contextmanager
def _eager(adapter: StopAdapter) -> Iterator[None]:
    """Switch the adapter's branch to eager attention; it has a separate configuration, so the engine's model keeps its kernel."""
    decoder = adapter.decoder
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)
