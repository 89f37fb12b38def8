"""Token ids beyond the vocabulary, by which a request asks the served model for something else than a token.

With V ordinary ids: id V + b stands for token b, and the t-th [STOP] token of adapter slot a is 2 V + (g x SLOTS + a) x TOKENS + t
in round g: each Check takes the next round, so that none finds another's [STOP] tokens in the cache. A
request whose last id is one of these gets the last layer's state at that id instead of a distribution: the row of
"logits" holds h_j at id j < d and 0 at id d, so that h_j is the difference of two ordinary log-probabilities; of a state
that was not computed correctly, only that 0. If a request asks for statistics, every other row carries them after the vocabulary,
at log-probabilities around OFFSET, where nothing is ever sampled. This needs no API except token ids in and log-probabilities
out, in process or over HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.api import STATISTICS

SLOTS, TOKENS = 8, 16  # adapters in one engine, [STOP] tokens of each
STOPS, ROUNDS = SLOTS * TOKENS, 256  # [STOP] ids of a round, rounds
COLUMNS = len(STATISTICS) - 1  # of harness.engines.sampling.distribution: all but the drawn token's log-probability
OFFSET = -500.0  # exp(-500) is 0 in float32
LEAST = -9999.0  # what minus infinity is over HTTP


@dataclass(frozen=True)
class IdLayout:
    """Which ids mean what. The fields are also the ``pathprune`` entry of an extended model's configuration."""

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
        """Columns of logits before those of the statistics."""
        return max(self.base, self.hidden + 1)

    @property
    def vocabulary(self) -> int:
        """The vocabulary that the model claims to have, so that all of these ids may be asked for."""
        return max(2 * self.base + ROUNDS * STOPS, self.width + COLUMNS)

    @property
    def statistic_ids(self) -> list[int]:
        """The ids whose log-probabilities carry the statistics of a distribution."""
        return list(range(self.width, self.width + COLUMNS))

    def state_id(self, token: int) -> int:
        """The id that reads the state at an ordinary token."""
        return self.base + token

    def stop_ids(self, slot: int, tokens: int, turn: int = 0) -> list[int]:
        """The ids of the first ``tokens`` [STOP] tokens of an adapter slot, in the round that it is the ``turn`` of."""
        first = 2 * self.base + (turn % ROUNDS) * STOPS + slot * TOKENS
        return list(range(first, first + tokens))

    def state(self, ids: Sequence[int], logprobs: Sequence[float]) -> np.ndarray | None:
        """The state, float32 ``[hidden]``, in a row of log-probabilities that carries one; None where it was not computed.

        Other ids than those of the state are ignored.
        """
        columns, values = np.asarray(ids), np.asarray(logprobs)
        carrying = columns <= self.hidden
        row = np.full(self.hidden + 1, np.nan)
        row[columns[carrying]] = values[carrying]
        known = bool(np.all(row > LEAST))  # false for what is no number, too
        return (row[:-1] - row[-1]).astype(np.float32) if known else None

    def overrides(self, architecture: str) -> dict[str, Any]:
        """What to change in the base model's configuration so that ``architecture``, a class of ours, serves it."""
        entry = asdict(self) | {"adapters": list(self.adapters)}
        return {"architectures": [architecture], "vocab_size": self.vocabulary, "pathprune": entry}


ARCHITECTURES = {  # the base model's class, and ours
    "LlamaForCausalLM": "PathpruneLlamaForCausalLM",
    "Qwen2ForCausalLM": "PathpruneQwen2ForCausalLM",
    "Qwen3ForCausalLM": "PathpruneQwen3ForCausalLM",
    "Qwen3MoeForCausalLM": "PathpruneQwen3MoeForCausalLM",
    "GptOssForCausalLM": "PathpruneGptOssForCausalLM",
    "Gemma3ForCausalLM": "PathpruneGemma3ForCausalLM",
}
