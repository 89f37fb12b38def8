"""vLLM's own model classes, extended: ids that read hidden states, [STOP] tokens with their LoRA, token statistics.

Registered out of tree (``plugin``); vLLM itself is not changed. The base model's computation for ordinary ids is
untouched, so the KV of a prefix that generation has cached is the very KV that a Check reads.

A pass with [STOP] ids runs outside captured graphs. vLLM replays a graph of whole decode steps without asking us, and such a
step may hold a Check of which one token is left to compute: the graph's own output says then that no state was computed. Where
there are graphs, neither is the state of a Check whose [STOP] tokens were not all in one pass. Nothing that is no number is put
into the KV cache, whose blocks others use next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from vllm.config import CUDAGraphMode
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.models.gemma3 import Gemma3ForCausalLM
from vllm.model_executor.models.gpt_oss import GptOssForCausalLM
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM
from vllm.model_executor.models.qwen3_moe import Qwen3MoeForCausalLM

from harness.engines.sampling import distribution
from harness.engines.vllm import asked
from harness.engines.vllm.ids import OFFSET, STOPS, TOKENS, IdLayout
from harness.engines.vllm.lora import Rows, adding, load, whole_runs, wrap


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
        self.linears = wrap(self, self.rows, vllm_config)  # type: ignore[arg-type]
        self.stops: torch.Tensor | None = None  # embeddings of all slots' [STOP] tokens, [STOPS, d]
        self.known: torch.Tensor | None = None  # which of them an adapter has, [STOPS]
        self.compilation = vllm_config.compilation_config
        self.folder = Path(vllm_config.model_config.model)

    def load_weights(self, weights: Any) -> set[str]:
        """The base model's weights, and the adapters of an exported folder."""
        loaded: set[str] = super().load_weights(weights)  # type: ignore[misc]
        for slot, folder in enumerate(self.layout.adapters):
            self.load_adapter(slot, self.folder / folder)
        return loaded

    def load_adapter(self, slot: int, folder: Path) -> None:
        """Make a trained adapter folder readable by the ids of a slot."""
        weight = next(m.weight for m in self.modules() if isinstance(m, VocabParallelEmbedding))  # type: ignore[attr-defined]
        embeddings = load(folder, slot, self.linears, weight.device, weight.dtype)
        if self.stops is None or self.known is None:
            self.stops = weight.new_zeros(STOPS, self.layout.hidden)
            self.known = torch.zeros(STOPS, dtype=torch.bool, device=weight.device)
        place = slice(slot * TOKENS, slot * TOKENS + len(embeddings))
        self.stops[place], self.known[place] = embeddings, True

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """``[n]`` to ``[n, d]``; a [STOP] id that was looked up has its adapter's embedding, a reading id that of its token."""
        stop = input_ids >= 2 * self.layout.base
        states: torch.Tensor = super().embed_input_ids((input_ids % self.layout.base).masked_fill(stop, 0))  # type: ignore[misc]
        if self.rows.every is not None and self.stops is not None:
            states[self.rows.every] = self.stops[(input_ids[self.rows.every] - 2 * self.layout.base) % STOPS]
        return states

    def forward(
        self, input_ids: Any, positions: torch.Tensor, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> Any:
        """States ``[n, d + 1]``; the last column is what a row's logits are to carry: 0 a distribution, 1 a state, 2 that a state was
        not computed as it should be, which is so of every [STOP] id until it is known better."""
        offsets = input_ids - 2 * self.layout.base
        if asked.states() and not _capturing():
            self.rows.find(offsets)
        else:
            self.rows.clear()
        if inputs_embeds is None:
            inputs_embeds = self.embed_input_ids(input_ids)
        with _outside_graphs() if self.rows.any else nullcontext():
            states = super().forward(None, positions, intermediate_tensors, inputs_embeds)  # type: ignore[misc]
        if not isinstance(states, torch.Tensor):
            return states  # a stage of a pipeline
        carried = (input_ids >= self.layout.base).to(states.dtype) + (offsets >= 0).to(states.dtype)
        if self.rows.every is not None:
            carried[self.rows.every] -= self._sound(offsets, positions).to(states.dtype)
        return torch.cat([states, carried.unsqueeze(-1)], dim=-1)

    def _sound(self, offsets: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Which of the [STOP] tokens that were looked up have their adapter's embedding and LoRA, they and all before them."""
        rows = self.rows.every
        assert rows is not None
        if self.known is None or self.rows.added != adding(self.linears, self.rows.of_slot):
            return torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        sound = self.known[offsets[rows] % STOPS]
        if self.compilation.cudagraph_mode not in (None, CUDAGraphMode.NONE):  # earlier ones may have been in a graph
            sound = sound & whole_runs(rows, offsets, positions)
        return sound

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """From states ``[n, d + 1]`` to rows of logits, or, where a request wants more, to what ``ids`` describes."""
        states, carried = hidden_states[:, :-1].contiguous(), hidden_states[:, -1:]
        logits: torch.Tensor | None = super().compute_logits(states)  # type: ignore[misc]
        if logits is None or not (asked.statistics() or asked.states()):
            return logits
        logits = logits.float()
        rows = self._empty_rows(logits)
        rows[:, : self.layout.base] = logits
        if asked.statistics():
            logp = logits.log_softmax(-1)
            log_sum_exp = logits.amax(-1, keepdim=True) - logp.amax(-1, keepdim=True)
            rows[:, self.layout.width :] = distribution(logp) + log_sum_exp + OFFSET
        return torch.where(carried > 0, self._state_rows(states, carried > 1, rows), rows) if asked.states() else rows

    def _state_rows(self, states: torch.Tensor, broken: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Rows that carry states ``[n, d]``; of one that is ``broken`` ``[n, 1]`` or no number, a row without any."""
        rows = self._empty_rows(like)
        broken = broken | states.isnan().any(-1, keepdim=True)
        rows[:, : self.layout.hidden] = states.float().masked_fill(broken, -torch.inf)
        rows[:, self.layout.hidden] = 0.0
        return rows

    def _empty_rows(self, like: torch.Tensor) -> torch.Tensor:
        columns = self.layout.width + len(self.layout.statistic_ids)
        return like.new_full((len(like), columns), -torch.inf, dtype=torch.float32)


def _capturing() -> bool:
    """Is a CUDA graph being recorded? Nothing may wait for the device then."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


@contextmanager
def _outside_graphs() -> Iterator[None]:
    """Run what is inside kernel by kernel: pieces of the model that were captured do not know the LoRA."""
    context = get_forward_context()
    mode, context.cudagraph_runtime_mode = context.cudagraph_runtime_mode, CUDAGraphMode.NONE
    try:
        yield
    finally:
        context.cudagraph_runtime_mode = mode


class PathpruneLlamaForCausalLM(ReadsStates, LlamaForCausalLM):
    """Llama, and what shares its class."""


class PathpruneQwen2ForCausalLM(ReadsStates, Qwen2ForCausalLM):
    """Qwen2 and Qwen2.5."""


class PathpruneQwen3ForCausalLM(ReadsStates, Qwen3ForCausalLM):
    """Qwen3, dense."""


class PathpruneQwen3MoeForCausalLM(ReadsStates, Qwen3MoeForCausalLM):
    """Qwen3 with experts; a LoRA on its attention."""


class PathpruneGptOssForCausalLM(ReadsStates, GptOssForCausalLM):
    """gpt-oss; a LoRA on its attention."""


class PathpruneGemma3ForCausalLM(ReadsStates, Gemma3ForCausalLM):
    """Gemma 3, text only."""
