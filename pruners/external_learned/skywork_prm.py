"""Skywork-o1-Open-PRM (code SkyworkAI/skywork-o1-prm-inference) on prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pruners.external_learned.prm import ProcessReward


class SkyworkPRM(ProcessReward):
    r"""P(step) = sigma(value) at the "\n" token after the step

    s_i combines the steps of the prefix by ``aggregation``. The ids are those of the beginning-of-sequence token, the
    problem and "\n", followed by the ids of each step and one "\n" token. Each step is tokenised separately. As in the
    published code, an empty line is a step that consists of its "\n", also after a final line break. The default model
    has 1.5B parameters; a 7B model is published as well.
    """

    published = "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B"
    kind = "Skywork process reward model"
    split = "line"
    stripped = False

    def encode(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        tokenizer = self.frozen.tokenizer
        if tokenizer.bos_token is None:
            raise self.lacks("has no beginning-of-sequence token")
        head, newline, *texts = tokenizer(
            [f"{tokenizer.bos_token}{problem}\n", "\n", *steps], add_special_tokens=False
        ).input_ids
        ids, marks = list(head), []
        for text in texts:
            ids += [*text, newline[-1]]
            marks.append(len(ids) - 1)
        return ids, marks

    def probabilities(self, states: Any) -> Any:
        """P(correct) of each step, float32 ``[steps]``, from the states at the marks."""
        return self.frozen.model.v_head.summary(states).float().squeeze(-1).sigmoid()
