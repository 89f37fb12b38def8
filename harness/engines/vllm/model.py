"""vLLM's model classes, extended by ids that read hidden states, [STOP] tokens with their LoRA, and token statistics.

The classes are registered out of tree (``plugin``), and vLLM itself is unchanged. The computation for ordinary ids is
that of the base model, so a Check reads exactly the KV cache that generation has written.

A forward pass with [STOP] ids runs outside captured graphs. vLLM replays a graph of whole decode steps without calling
the model, and such a step may hold a Check with one token left to compute. The output of the graph then marks the state
as missing. With graphs, the state of a Check is also marked as missing if its [STOP] tokens were not all in one pass.
NaN is never written to the KV cache, because other requests reuse its blocks.
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
    """A mixin in front of one of vLLM's causal model classes; see ``ids`` for the protocol."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        config = vllm_config.model_config.hf_config
        layout = IdLayout.of(config)
        config.vocab_size = layout.base  # the weights only have rows for ordinary ids
        try:
            super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        finally:
            config.vocab_size = layout.vocabulary
        self.layout = layout
        self.rows = Rows()
        self.linears = wrap(self, self.rows, vllm_config)  # type: ignore[arg-type]
        self.stops: torch.Tensor | None = None  # embeddings of all slots' [STOP] tokens, [STOPS, d]
        self.known: torch.Tensor | None = None  # which of them belong to an adapter, [STOPS]
        self.compilation = vllm_config.compilation_config
        self.folder = Path(vllm_config.model_config.model)

    def load_weights(self, weights: Any) -> set[str]:
        """Load the base model's weights, and the adapters of an exported folder."""
        loaded: set[str] = super().load_weights(weights)  # type: ignore[misc]
        for slot, folder in enumerate(self.layout.adapters):
            self.load_adapter(slot, self.folder / folder)
        return loaded

    def load_adapter(self, slot: int, folder: Path) -> None:
        """Make a trained adapter folder available through the ids of a slot."""
        weight = next(m.weight for m in self.modules() if isinstance(m, VocabParallelEmbedding))  # type: ignore[attr-defined]
        embeddings = load(folder, slot, self.linears, weight.device, weight.dtype)
        if self.stops is None or self.known is None:
            self.stops = weight.new_zeros(STOPS, self.layout.hidden)
            self.known = torch.zeros(STOPS, dtype=torch.bool, device=weight.device)
        place = slice(slot * TOKENS, slot * TOKENS + len(embeddings))
        self.stops[place], self.known[place] = embeddings, True

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed ids ``[n]`` to ``[n, d]``: a [STOP] id by its adapter's embedding, a reading id by that of its token."""
        stop = input_ids >= 2 * self.layout.base
        states: torch.Tensor = super().embed_input_ids((input_ids % self.layout.base).masked_fill(stop, 0))  # type: ignore[misc]
        if self.rows.every is not None and self.stops is not None:
            states[self.rows.every] = self.stops[(input_ids[self.rows.every] - 2 * self.layout.base) % STOPS]
        return states

    def forward(
        self, input_ids: Any, positions: torch.Tensor, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> Any:
        """States ``[n, d + 1]``. The last column marks the content of each row's logits.

        The marks are 0 for a distribution, 1 for a state, and 2 for a state that was not computed correctly. Every
        [STOP] id is marked with 2 until it is known to be correct.
        """
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
            return states  # pipeline parallelism: not the last stage
        carried = (input_ids >= self.layout.base).to(states.dtype) + (offsets >= 0).to(states.dtype)
        if self.rows.every is not None:
            carried[self.rows.every] -= self._sound(offsets, positions).to(states.dtype)
        return torch.cat([states, carried.unsqueeze(-1)], dim=-1)

    def _sound(self, offsets: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Which of the [STOP] tokens, including all tokens before them, were computed with their adapter's embedding
        and LoRA."""
        rows = self.rows.every
        assert rows is not None
        if self.known is None or self.rows.added != adding(self.linears, self.rows.of_slot):
            return torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        sound = self.known[offsets[rows] % STOPS]
        if self.compilation.cudagraph_mode not in (None, CUDAGraphMode.NONE):  # earlier tokens may have been in a graph
            sound = sound & whole_runs(rows, offsets, positions)
        return sound

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """From states ``[n, d + 1]`` to rows of logits, or to the rows described in ``ids`` for requests that need
        more."""
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
        """Rows that carry states ``[n, d]``. A state that is ``broken`` ``[n, 1]`` or not finite becomes an empty row."""
        rows = self._empty_rows(like)
        broken = broken | states.isnan().any(-1, keepdim=True)
        rows[:, : self.layout.hidden] = states.float().masked_fill(broken, -torch.inf)
        rows[:, self.layout.hidden] = 0.0
        return rows

    def _empty_rows(self, like: torch.Tensor) -> torch.Tensor:
        columns = self.layout.width + len(self.layout.statistic_ids)
        return like.new_full((len(like), columns), -torch.inf, dtype=torch.float32)


def _capturing() -> bool:
    """Is a CUDA graph being recorded? No operation may wait for the device then."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


@contextmanager
def _outside_graphs() -> Iterator[None]:
    """Run the block kernel by kernel, because captured pieces of the model do not contain the LoRA."""
    context = get_forward_context()
    mode, context.cudagraph_runtime_mode = context.cudagraph_runtime_mode, CUDAGraphMode.NONE
    try:
        yield
    finally:
        context.cudagraph_runtime_mode = mode


class PathpruneLlamaForCausalLM(ReadsStates, LlamaForCausalLM):
    """Llama and models of the same class."""


class PathpruneQwen2ForCausalLM(ReadsStates, Qwen2ForCausalLM):
    """Qwen2 and Qwen2.5."""


class PathpruneQwen3ForCausalLM(ReadsStates, Qwen3ForCausalLM):
    """Qwen3, dense."""


class PathpruneQwen3MoeForCausalLM(ReadsStates, Qwen3MoeForCausalLM):
    """Qwen3 with experts; the LoRA is on its attention."""


class PathpruneGptOssForCausalLM(ReadsStates, GptOssForCausalLM):
    """gpt-oss; the LoRA is on its attention."""


class PathpruneGemma3ForCausalLM(ReadsStates, Gemma3ForCausalLM):
    """Gemma 3, text only."""
