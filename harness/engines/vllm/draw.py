"""Sampling inside vLLM with the harness' own random streams: one uniform number per (seed, problem, path, position).

vLLM's seeded streams restart at every request, so a resumed path would not be the uninterrupted one. Here the token
is chosen by ``harness.engines.sampling.choose`` and every other one is ruled out; vLLM then takes the maximum. Paths
are thereby those of the Hugging Face engine, as far as the two compute the same logits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.sample.logits_processor.interface import LogitsProcessor

from harness.api import Sampling
from harness.engines.sampling import choose
from harness.engines.served.asking import StreamKey
from harness.rng import uniforms

ARGUMENT = "pathprune"  # of SamplingParams.extra_args: a StreamKey as a list
BLOCK = 512  # uniform numbers computed at a time


@dataclass
class UniformStream:
    """The uniform numbers of one request."""

    key: StreamKey
    sampling: Sampling
    drawn: list[int]  # vLLM's own, growing list of the request's output tokens
    block: np.ndarray = field(default_factory=lambda: np.empty(0))  # numbers computed ahead
    first: int = -1  # position within the path of the first of them

    def next(self) -> float:
        """The number in [0, 1) that decides the next token."""
        position = self.key.start + len(self.drawn)
        if not 0 <= position - self.first < len(self.block) or self.first < 0:
            self.first = position
            self.block = uniforms(self.key.seed, self.key.problem, self.key.path, position, position + BLOCK)
        return float(self.block[position - self.first])


class Draw(LogitsProcessor):
    """Draws for requests that name their stream; all others are left to vLLM. See vLLM's ``LogitsProcessor``."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        config = vllm_config.model_config.hf_config
        self.base: int = getattr(config, "pathprune", {}).get("base", config.get_text_config().vocab_size)
        self.streams: dict[int, UniformStream] = {}

    def is_argmax_invariant(self) -> bool:
        """No: it decides the maximum."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow vLLM's requests as they come, move between rows and end."""
        process_dict_updates(self.streams, batch_update, self._stream)

    def _stream(self, params: Any, prompt: Any, drawn: list[int]) -> UniformStream | None:
        entries = (params.extra_args or {}).get(ARGUMENT)
        if entries is None:
            return None
        seed, problem, path, start, *filters = entries
        key = StreamKey(int(seed), str(problem), int(path), int(start), *filters)
        return UniformStream(key, Sampling(*filters), drawn)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """``[n, V]``, changed in place: of a row with a stream only the token that it draws is left."""
        for sampling in {s.sampling for s in self.streams.values()}:
            rows = sorted(row for row, s in self.streams.items() if s.sampling == sampling)
            uniform = torch.tensor([self.streams[row].next() for row in rows], dtype=torch.float64)
            indices = torch.tensor(rows, device=logits.device)
            # All rows as a rule: a view then, and no copy.
            of_rows = logits if len(rows) == len(logits) else logits[indices]
            tokens = choose(of_rows[:, : self.base], uniform.to(logits.device), sampling)
            logits.index_fill_(0, indices, -torch.inf)
            logits[indices, tokens] = 0.0
        return logits
