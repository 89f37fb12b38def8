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
    """Put in front of a causal model class of vLLM; see ``ids`` for the protocol."""

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
        self.folder = Path(vllm_config.model_config.model)

    def load_weights(self, weights: Any) -> set[str]:
        """The base model's weights, and the adapters of an exported folder."""
        loaded: set[str] = super().load_weights(weights)  # type: ignore[misc]
        for slot, folder in enumerate(self.layout.adapters):
            self.load_adapter(slot, self.folder / folder)
        return loaded

    def load_adapter(self, slot: int, folder: Path) -> None:
        """Make a trained adapter folder readable by the ids of a slot."""
        weight = self.model.embed_tokens.weight  # type: ignore[attr-defined]
        embeddings = load(folder, slot, self.linears, weight.device, weight.dtype)
        if self.stops is None:
            self.stops = weight.new_zeros(SLOTS * TOKENS, self.layout.hidden)
        self.stops[slot * TOKENS : slot * TOKENS + len(embeddings)] = embeddings

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """``[n]`` to ``[n, d]``; a [STOP] id has its adapter's embedding, a reading id that of its token."""
        stop = input_ids >= 2 * self.layout.base
        states: torch.Tensor = super().embed_input_ids((input_ids % self.layout.base).masked_fill(stop, 0))  # type: ignore[misc]
        if self.rows.any:
            assert self.stops is not None, "a [STOP] id before its adapter"
            states[stop] = self.stops[input_ids[stop] - 2 * self.layout.base]
        return states

    def forward(
        self, input_ids: Any, positions: torch.Tensor, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> Any:
        """States ``[n, d + 1]``; the last column says whether a row's logits are to carry its state."""
        self.rows.find(input_ids - 2 * self.layout.base, TOKENS)
        if inputs_embeds is None:
            inputs_embeds = self.embed_input_ids(input_ids)
        states = super().forward(None, positions, intermediate_tensors, inputs_embeds)  # type: ignore[misc]
        if not isinstance(states, torch.Tensor):
            return states  # a stage of a pipeline
        return torch.cat([states, (input_ids >= self.layout.base).to(states.dtype).unsqueeze(-1)], dim=-1)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """From states ``[n, d + 1]`` to rows that carry a distribution and its statistics, or a state: see ``ids``."""
        states, carries = hidden_states[:, :-1], hidden_states[:, -1] > 0
        logits = super().compute_logits(states)  # type: ignore[misc]
        if logits is None:
            return None
        logits = logits.float()
        rows = logits.new_full((len(logits), self.layout.width + len(self.layout.statistic_ids)), -torch.inf)
        rows[:, : self.layout.base] = logits
        logp = logits.log_softmax(-1)
        log_sum_exp = logits.amax(-1, keepdim=True) - logp.amax(-1, keepdim=True)
        rows[:, self.layout.width :] = distribution(logp) + log_sum_exp + OFFSET
        if bool(carries.any()):
            rows[carries] = -torch.inf
            rows[carries, : self.layout.hidden] = states[carries].float()
            rows[carries, self.layout.hidden] = 0.0
        return rows


class PathpruneLlamaForCausalLM(ReadsStates, LlamaForCausalLM):
    """Llama, and what shares its class."""


class PathpruneQwen2ForCausalLM(ReadsStates, Qwen2ForCausalLM):
    """Qwen2 and Qwen2.5."""


class PathpruneQwen3ForCausalLM(ReadsStates, Qwen3ForCausalLM):
    """Qwen3, dense."""
