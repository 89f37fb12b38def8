"""Token ids beyond the vocabulary, through which a request asks the served model for hidden states and statistics.

With V ordinary ids, id V + b stands for token b. In round g, the t-th [STOP] token of adapter slot a is 2 V + (g x
SLOTS + a) x TOKENS + t. Each Check uses the next round, so it never finds the [STOP] tokens of another Check in the
cache.

A request whose last id is one of these gets the last-layer state h at that id instead of a distribution. The row of
"logits" holds h_j at id j < d and 0 at id d, so h_j is the difference of two ordinary log-probabilities. A state that
was not computed correctly is a row with only that 0. If a request asks for statistics, every other row carries them
after the vocabulary, at log-probabilities around OFFSET, where no token is ever sampled.

This protocol needs no API beyond token ids in and log-probabilities out, in process or over HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.api import STATISTICS

SLOTS, TOKENS = 8, 16  # adapters in one engine, and [STOP] tokens of each
STOPS, ROUNDS = SLOTS * TOKENS, 256  # [STOP] ids per round, and number of rounds
COLUMNS = len(STATISTICS) - 1  # all but the sampled token's log-probability (harness.engines.sampling.distribution)
OFFSET = -500.0  # exp(-500) is 0 in float32
LEAST = -9999.0  # minus infinity over HTTP


@dataclass(frozen=True)
class IdLayout:
    """The meaning of ids. The fields are also the ``pathprune`` entry of an extended model's configuration."""

    base: int  # ordinary ids, V
    hidden: int  # width of the model, d
    adapters: tuple[str, ...] = ()  # folders to load with the model, one per slot

    @classmethod
    def of(cls, config: Any) -> IdLayout:
        """The layout that an extended model's Hugging Face configuration declares."""
        entry = config.pathprune
        return cls(entry["base"], entry["hidden"], tuple(entry.get("adapters", ())))

    @property
    def width(self) -> int:
        """Number of columns of logits before those of the statistics."""
        return max(self.base, self.hidden + 1)

    @property
    def vocabulary(self) -> int:
        """The vocabulary size that the model declares, so that requests may contain all of these ids."""
        return max(2 * self.base + ROUNDS * STOPS, self.width + COLUMNS)

    @property
    def statistic_ids(self) -> list[int]:
        """The ids whose log-probabilities carry the statistics of a distribution."""
        return list(range(self.width, self.width + COLUMNS))

    def state_id(self, token: int) -> int:
        """The id that reads the state at an ordinary token."""
        return self.base + token

    def stop_ids(self, slot: int, tokens: int, turn: int = 0) -> list[int]:
        """The ids of the first ``tokens`` [STOP] tokens of an adapter slot, in round ``turn``."""
        first = 2 * self.base + (turn % ROUNDS) * STOPS + slot * TOKENS
        return list(range(first, first + tokens))

    def state(self, ids: Sequence[int], logprobs: Sequence[float]) -> np.ndarray | None:
        """The state in a row of log-probabilities, float32 ``[hidden]``; None if it was not computed.

        Ids that do not belong to the state are ignored.
        """
        columns, values = np.asarray(ids), np.asarray(logprobs)
        carrying = columns <= self.hidden
        row = np.full(self.hidden + 1, np.nan)
        row[columns[carrying]] = values[carrying]
        known = bool(np.all(row > LEAST))  # also false for NaN
        return (row[:-1] - row[-1]).astype(np.float32) if known else None

    def overrides(self, architecture: str) -> dict[str, Any]:
        """Changes to the base model's configuration so that our class ``architecture`` serves it."""
        entry = asdict(self) | {"adapters": list(self.adapters)}
        return {"architectures": [architecture], "vocab_size": self.vocabulary, "pathprune": entry}


ARCHITECTURES = {  # class of the base model: our class
    "LlamaForCausalLM": "PathpruneLlamaForCausalLM",
    "Qwen2ForCausalLM": "PathpruneQwen2ForCausalLM",
    "Qwen3ForCausalLM": "PathpruneQwen3ForCausalLM",
    "Qwen3MoeForCausalLM": "PathpruneQwen3MoeForCausalLM",
    "GptOssForCausalLM": "PathpruneGptOssForCausalLM",
    "Gemma3ForCausalLM": "PathpruneGemma3ForCausalLM",
}
