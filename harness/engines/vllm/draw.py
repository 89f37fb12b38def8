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
from harness.rng import uniforms

ARGUMENT = "pathprune"  # of SamplingParams.extra_args: [seed, problem, index, start, temperature, top_p, top_k]
BLOCK = 512  # uniform numbers made at a time


@dataclass
class Stream:
    """The uniform numbers of one request; ``drawn`` is vLLM's own, growing list of its output tokens."""

    seed: int
    problem: str
    index: int
    start: int
    sampling: Sampling
    drawn: list[int]
    block: np.ndarray = field(default_factory=lambda: np.empty(0))
    first: int = -1

    def next(self) -> float:
        at = self.start + len(self.drawn)
        if not 0 <= at - self.first < len(self.block) or self.first < 0:
            self.first, self.block = at, uniforms(self.seed, self.problem, self.index, at, at + BLOCK)
        return float(self.block[at - self.first])


class Draw(LogitsProcessor):
    """For requests that name their stream; all others are left to vLLM."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        config = vllm_config.model_config.hf_config
        self.base: int = getattr(config, "pathprune", {}).get("base", config.get_text_config().vocab_size)
        self.streams: dict[int, Stream] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: Any) -> None:
        process_dict_updates(self.streams, batch_update, self._stream)

    def _stream(self, params: Any, prompt: Any, drawn: list[int]) -> Stream | None:
        given = (params.extra_args or {}).get(ARGUMENT)
        if given is None:
            return None
        seed, problem, index, start, *sampling = given
        return Stream(int(seed), str(problem), int(index), int(start), Sampling(*sampling), drawn)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        for sampling in {s.sampling for s in self.streams.values()}:
            rows = sorted(row for row, s in self.streams.items() if s.sampling == sampling)
            uniform = torch.tensor([self.streams[row].next() for row in rows], dtype=torch.float64)
            where = torch.tensor(rows, device=logits.device)
            # All rows as a rule: a view then, and no copy.
            own = logits if len(rows) == len(logits) else logits[where]
            chosen = choose(own[:, : self.base], uniform.to(logits.device), sampling)
            logits.index_fill_(0, where, -torch.inf)
            logits[where, chosen] = 0.0
        return logits
