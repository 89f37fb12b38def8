"""Token ids beyond the vocabulary, by which a request asks the served model for something else than a token.

With V ordinary ids: id V + b stands for token b, and t-th [STOP] token of adapter slot a is 2 V + a x TOKENS + t. A
request whose last id is one of these gets the last layer's state at that id instead of a distribution: the row of
"logits" holds h_j at id j < d and 0 at id d, so that h_j is the difference of two ordinary log-probabilities. Every
other row carries, behind the vocabulary, its distribution's statistics at log-probabilities around OFFSET, where
nothing is ever sampled. This needs no API but token ids in and log-probabilities out, in process or over HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SLOTS, TOKENS = 8, 16  # adapters in one engine, [STOP] tokens of each
STATISTICS = 5  # columns of harness.engines.sampling.distribution
OFFSET = -500.0  # exp(-500) is 0 in float32


@dataclass(frozen=True)
class Ids:
    """``base`` ordinary ids, states ``[hidden]``; ``adapters`` are folders to load with the model, one per slot."""

    base: int
    hidden: int
    adapters: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Any) -> Ids:
        """From the ``pathprune`` entry of a model's configuration."""
        held = config.pathprune
        return cls(held["base"], held["hidden"], tuple(held.get("adapters", ())))

    @property
    def width(self) -> int:
        """Columns before those of the statistics."""
        return max(self.base, self.hidden + 1)

    @property
    def vocabulary(self) -> int:
        """What the model claims to have, so that all of these ids may be asked for."""
        return max(2 * self.base + SLOTS * TOKENS, self.width + STATISTICS)

    @property
    def statistics(self) -> list[int]:
        return list(range(self.width, self.width + STATISTICS))

    def again(self, token: int) -> int:
        """The id that reads the state at an ordinary token."""
        return self.base + token

    def stops(self, slot: int, tokens: int) -> list[int]:
        first = 2 * self.base + slot * TOKENS
        return list(range(first, first + tokens))

    def state(self, tokens: Sequence[int], logprobs: Sequence[float]) -> np.ndarray:
        """h float32 ``[hidden]`` from the log-probabilities of a row that carries it."""
        row = np.full(self.hidden + 1, np.nan)
        row[np.asarray(tokens)] = logprobs
        return (row[:-1] - row[-1]).astype(np.float32)

    def overrides(self, served: str) -> dict[str, Any]:
        """What a Hugging Face configuration becomes for a model class of ours."""
        held = asdict(self) | {"adapters": list(self.adapters)}
        return {"architectures": [served], "vocab_size": self.vocabulary, "pathprune": held}


ARCHITECTURES = {
    "LlamaForCausalLM": "PathpruneLlamaForCausalLM",
    "Qwen2ForCausalLM": "PathpruneQwen2ForCausalLM",
    "Qwen3ForCausalLM": "PathpruneQwen3ForCausalLM",
}
