"""Qwen2.5-Math-PRM (arXiv 2501.07301) on prefixes: the Type II baseline of STOP and LaBoR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pruners.external_learned.prm import ProcessReward

SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
MARK = "<extra_0>"


class QwenPRM(ProcessReward):
    """P(step) = softmax(logits)[1] of two classes, at the ``<extra_0>`` token after the step

    s_i combines the steps of the prefix by ``aggregation``. The model reads a chat of the published system prompt, the
    problem, and the steps, each followed by its mark. The 7B model reads at most 4,096 tokens. An ``<extra_0>`` in a
    problem or path becomes a space, so that it is not taken for a mark.
    """

    published = "Qwen/Qwen2.5-Math-PRM-7B"
    kind = "Qwen process reward model"
    split = "paragraph"
    runners = ("transformers", "vllm")
    architecture = "Qwen2ForProcessRewardModel"

    def encode(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        tokenizer = self.tokenizer
        mark = tokenizer.get_vocab().get(MARK)
        if mark is None or not tokenizer.chat_template:
            raise self.lacks(f"has no {MARK} token" if mark is None else "has no chat template")
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": problem.replace(MARK, " ")},
            {"role": "assistant", "content": "".join(step.replace(MARK, " ") + MARK for step in steps)},
        ]
        chat = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        ids = tokenizer(chat, add_special_tokens=False).input_ids
        return ids, [i for i, token in enumerate(ids) if token == mark]

    def probabilities(self, states: Any) -> Any:
        """P(correct) of each step, float32 ``[steps]``, from the states at the marks."""
        return self.frozen.model.score(states).float().softmax(-1)[:, 1]
