"""A frozen outcome reward model: one score for a complete answer, applied to a prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.api import Check, Origins, Path, PathpruneError
from pruners.external_learned.prm import FrozenReward


class SequenceReward(FrozenReward):
    """s_i = raw reward: the only logit of a sequence-classification model with one label

    If the tokenizer has a chat template, the problem is the user's turn and the prefix is the assistant's turn, which
    the template closes. Otherwise the model reads the problem, a newline and the prefix.

    Args:
        model: local folder, or hub id to download; required.
        batch: texts read at a time.
        runner: "transformers", or "vllm" for vLLM's pooling runner.

    Raises:
        ValueError: if an option is outside its range.
        PathpruneError: if ``model`` is missing or has several labels.
    """

    origins = Origins()
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
        from pruners.external_learned.shared import Row

        self.prepare(check)
        config = (self.pooled if self.runner == "vllm" else self.frozen).config
        if config.num_labels != 1:
            raise PathpruneError(f"{self.model} has {config.num_labels} labels; a reward model has one")
        rows = [self.encode(p) for p in prefixes]
        if self.runner == "vllm":
            return self.pooled.of_texts(rows, prefixes, check)

        def rewards(inputs: Any, members: list[int], left_out: list[int]) -> list[np.ndarray]:
            return list(self.frozen.model(**inputs).logits.double().cpu().numpy()[:, 0])

        # Without a padding token, these classes cannot locate the end of a padded text.
        pad = config.pad_token_id
        batch = self.batch if pad is not None else 1
        # They read the last token that is not padding. The end-of-turn token of a chat may be the padding token.
        ends = [max((i for i, token in enumerate(ids) if token != pad), default=0) for ids in rows]
        problems = {p.problem.prompt: p for p in prefixes}
        heads = {prompt: self._head(p) for prompt, p in problems.items()}
        read = [Row(ids, end) for ids, end in zip(rows, ends, strict=True)]
        return np.array(self.frozen.read(read, heads, prefixes, batch, check, rewards))

    def _head(self, path: Path) -> list[int]:
        """The token ids that all texts of a path's problem begin with."""
        from pruners.external_learned.shared import head_of

        return head_of(lambda text: self.encode(replace(path, text=text)))

    def prepare(self, check: Check) -> None:
        self._named()
        super().prepare(check)

    def encode(self, path: Path) -> list[int]:
        """Token ids of the chat of problem and path. Without a chat template: problem, newline, path."""
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
