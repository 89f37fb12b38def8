"""vLLM's own model classes, extended: ids that read hidden states, [STOP] tokens with their LoRA, token statistics.

Registered out of tree (``plugin``); vLLM itself is not changed. The base model's computation for ordinary ids is
untouched, so the KV of a prefix that generation has cached is the very KV that a Check reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM

from harness.engines.sampling import distribution
from harness.engines.vllm.ids import OFFSET, SLOTS, TOKENS, IdLayout
from harness.engines.vllm.lora import Rows, load, wrap


class ReadsStates:
    """In front of a causal model class; see ``ids`` for the protocol."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        config = vllm_config.model_config.hf_config
        layout = IdLayout.of(config)
        config.vocab_size = layout.base  # the weights have rows for ordinary ids only
        try:
            super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        finally:
            config.vocab_size = layout.vocabulary
        self.layout = layout
        self.rows = Rows()
        self.linears = wrap(self, self.rows)  # type: ignore[arg-type]
        self.stops: torch.Tensor | None = None  # embeddings of all slots' [STOP] tokens, [SLOTS * TOKENS, d]
        self.home = Path(vllm_config.model_config.model)

    def load_weights(self, weights: Any) -> set[str]:
        loaded: set[str] = super().load_weights(weights)  # type: ignore[misc]
        for slot, folder in enumerate(self.layout.adapters):
            self.load_adapter(slot, self.home / folder)
        return loaded

    def load_adapter(self, slot: int, folder: Path) -> None:
        """Make a trained adapter folder readable by the ids of a slot."""
        weight = self.model.embed_tokens.weight  # type: ignore[attr-defined]
        embeddings = load(folder, slot, self.linears, weight.device, weight.dtype)
        if self.stops is None:
            self.stops = weight.new_zeros(SLOTS * TOKENS, self.layout.hidden)
        self.stops[slot * TOKENS : slot * TOKENS + len(embeddings)] = embeddings

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        stop = input_ids >= 2 * self.layout.base
        states: torch.Tensor = super().embed_input_ids((input_ids % self.layout.base).masked_fill(stop, 0))  # type: ignore[misc]
        if self.rows.any:
            assert self.stops is not None, "a [STOP] id before its adapter"
            states[stop] = self.stops[input_ids[stop] - 2 * self.layout.base]
        return states

    def forward(
        self, input_ids: Any, positions: torch.Tensor, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> Any:
        """The states with one column more: does this row carry its state instead of a distribution?"""
        self.rows.find(input_ids - 2 * self.layout.base, TOKENS)
        if inputs_embeds is None:
            inputs_embeds = self.embed_input_ids(input_ids)
        states = super().forward(None, positions, intermediate_tensors, inputs_embeds)  # type: ignore[misc]
        if not isinstance(states, torch.Tensor):
            return states  # a stage of a pipeline
        return torch.cat([states, (input_ids >= self.layout.base).to(states.dtype).unsqueeze(-1)], dim=-1)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        states, carries = hidden_states[:, :-1], hidden_states[:, -1] > 0
        logits = super().compute_logits(states)  # type: ignore[misc]
        if logits is None:
            return None
        logits = logits.float()
        out = logits.new_full((len(logits), self.layout.width + len(self.layout.statistic_ids)), -torch.inf)
        out[:, : self.layout.base] = logits
        logp = logits.log_softmax(-1)
        level = logits.amax(-1, keepdim=True) - logp.amax(-1, keepdim=True)  # log sum exp
        out[:, self.layout.width :] = distribution(logp) + level + OFFSET
        if bool(carries.any()):
            out[carries] = -torch.inf
            out[carries, : self.layout.hidden] = states[carries].float()
            out[carries, self.layout.hidden] = 0.0
        return out


class PathpruneLlamaForCausalLM(ReadsStates, LlamaForCausalLM):
    pass


class PathpruneQwen2ForCausalLM(ReadsStates, Qwen2ForCausalLM):
    pass


class PathpruneQwen3ForCausalLM(ReadsStates, Qwen3ForCausalLM):
    pass
