"""Frozen reward models: the two classes of process reward models without code from the hub, and how they read texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Qwen2Model, Qwen2PreTrainedModel

from harness.api import Check, Cost, FlopModel, Path, PathpruneError
from pruners.external_learned.shared import Ids, Row, SharedReading, Values
from pruners.external_learned.text_model import flops_of, home, opened


class QwenProcessReward(Qwen2PreTrainedModel):
    """Qwen2.5-Math-PRM: Qwen2 with a two-layer head of two classes. State dict ``model.*``, ``score.{0,2}.*``."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = Qwen2Model(config)
        wide = torch.nn.Linear(config.hidden_size, config.hidden_size)
        self.score = torch.nn.Sequential(wide, torch.nn.ReLU(), torch.nn.Linear(config.hidden_size, 2))
        self.post_init()


class ValueHead(torch.nn.Module):
    """The value head as TRL stores it. Its dropout is inactive in evaluation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.summary = torch.nn.Linear(width, 1)


class QwenValue(Qwen2PreTrainedModel):
    """Skywork-o1-Open-PRM: Qwen2 with a value head. State dict ``model.*``, ``v_head.summary.*``, and an unused
    ``lm_head``."""

    _keys_to_ignore_on_load_unexpected = (r"^lm_head\.",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = Qwen2Model(config)
        self.v_head = ValueHead(config.hidden_size)
        self.post_init()


CLASSES = {
    "Qwen process reward model": QwenProcessReward,
    "Skywork process reward model": QwenValue,
    "causal language model": AutoModelForCausalLM,
    "sequence-classification model": AutoModelForSequenceClassification,
}


class Charged:
    """The cost and the context length of a model that reads texts."""

    def __init__(self, where: str, tokenizer: Any, config: Any, flops: FlopModel) -> None:
        self.where, self.tokenizer, self.config, self.flops = where, tokenizer, config, flops
        self.context: int = config.max_position_embeddings

    def fits(self, rows: Sequence[Sequence[int]]) -> None:
        """Check the length of all rows before any is read.

        Raises:
            PathpruneError: if a row exceeds the model's context.
        """
        longest = max(map(len, rows))
        if longest > self.context:
            raise PathpruneError(
                f"a problem and its prefix are {longest} tokens for {self.where}, whose context is {self.context}; "
                "use a shorter --prefix"
            )

    def charge(self, rows: Sequence[Sequence[int]], paths: Sequence[Path], check: Check) -> None:
        """Charge every token of every row to its path, for models that share no KV between rows."""
        self.fits(rows)
        for row, path in zip(rows, paths, strict=True):
            check.charge(Cost(reread=len(row), flops=self.flops(0, len(row))), path, cold=len(row))


class Frozen(Charged):
    """A frozen model with its tokenizer, in the precision of its checkpoint.

    Args:
        where: folder or hub id.
        kind: the expected class, a key of ``CLASSES``.
        device: where the model runs; by default CUDA if available.
    """

    def __init__(self, where: str, kind: str, device: str = "") -> None:
        tokenizer, model = opened(where, CLASSES[kind], kind, dtype="auto")
        self.model = model.to(home(device)).eval().requires_grad_(False)
        super().__init__(where, tokenizer, self.model.config, flops_of(self.model))
        self.reading = SharedReading(where, self.model, self.flops, home(device))

    def read(
        self,
        rows: Sequence[Row],
        heads: Mapping[str, Ids],
        paths: Sequence[Path],
        batch: int,
        check: Check,
        values: Values,
    ) -> list[np.ndarray]:
        """See ``SharedReading.read``. Rows are batched by length and content, so their order has no effect."""
        self.fits([row.ids for row in rows])
        return self.reading.read(rows, heads, paths, batch, check, values)
