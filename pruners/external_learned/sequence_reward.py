"""A frozen outcome reward model: one number for a whole answer, here for a prefix of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.api import Check, Path, PathpruneError
from pruners.external_learned.prm import FrozenReward


class SequenceReward(FrozenReward):
    """s_i = the raw reward, the only logit of any ``AutoModelForSequenceClassification`` with one label.

    ``model`` has no default: name a folder or hub id. Where the tokenizer has a chat template the problem is the
    user's turn and the prefix the assistant's, closed as the template closes it; else problem, newline, prefix.
    """

    published = ""
    kind = "sequence-classification model"
    runners = ("transformers", "vllm")

    def __init__(self, model: str = "", batch: int = 8, runner: str = "transformers") -> None:
        super().__init__(model, batch, runner)
        if not model:
            self.on_request = "reads with an outcome reward model of your choice: name one with model="

    def identity(self) -> dict[str, Any]:
        self._named()
        return super().identity()

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        self._named()
        config = (self.pooled if self.runner == "vllm" else self.frozen).config
        if config.num_labels != 1:
            raise PathpruneError(f"{self.model} has {config.num_labels} labels; a reward model has one")
        rows = [self.encode(p) for p in prefixes]
        if self.runner == "vllm":
            return self.pooled.of_texts(rows, prefixes, check)

        def rewards(inputs: Any, members: list[int]) -> list[np.ndarray]:
            return list(self.frozen.model(**inputs).logits.double().cpu().numpy()[:, 0])

        # Without a padding token these classes cannot tell where a padded text ends.
        batch = self.batch if config.pad_token_id is not None else 1
        return np.array(self.frozen.read(rows, prefixes, batch, check, rewards))

    def encode(self, path: Path) -> list[int]:
        """Token ids of the chat of problem and path; of problem, newline and path where there is no template."""
        tokenizer = self.tokenizer
        if not tokenizer.chat_template:
            plain: list[int] = tokenizer(f"{path.problem.prompt}\n{path.text}").input_ids
            return plain
        turns = [{"role": "user", "content": path.problem.prompt}, {"role": "assistant", "content": path.text}]
        chat = tokenizer.apply_chat_template(turns, tokenize=False)
        ids: list[int] = tokenizer(chat, add_special_tokens=False).input_ids
        return ids

    def _named(self) -> None:
        if not self.model:
            raise PathpruneError("sequence-reward needs model=: the folder or hub id of an outcome reward model")
