"""Math-Shepherd (arXiv 2312.08935) on prefixes: a language model predicts "+" or "-" after every step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pruners.external_learned.prm import ProcessReward

NUMBER = re.compile(r"\s*Step \d+\s*:")


class MathShepherd(ProcessReward):
    """P(step) = softmax over the logits of ``good`` and ``bad`` at the ``tag`` after the step

    s_i is the minimum over the steps of the prefix, as published for solutions. The model reads the problem, a space
    and the steps, one per line, each followed by " ки". Empty lines are not steps. Token ids come from the tokenizer
    (in the published one, ки is 12902, + is 648 and - is 387). Tags are located by their position in the text, because
    "ки" also occurs as a syllable.

    Args:
        model: folder or hub id; by default the published one.
        aggregation: how step scores are combined: "mean", "min", "max", "prod" or "last".
        batch: texts read at a time.
        split: end of a step: "line" (default) or "paragraph".
        tag: mark after each step.
        good: word for a correct step.
        bad: word for an incorrect step.
        numbered: whether steps without a number get "Step 1: ", "Step 2: " and so on, as in the training data.

    Raises:
        ValueError: if an option is outside its range.
        PathpruneError: if the tokenizer splits ``tag``, ``good`` or ``bad``.
    """

    published = "peiyi9979/math-shepherd-mistral-7b-prm"
    kind = "causal language model"
    split = "line"

    def __init__(
        self,
        model: str = "",
        aggregation: str = "min",
        batch: int = 8,
        split: str = "",
        tag: str = "ки",
        good: str = "+",
        bad: str = "-",
        numbered: bool = True,
    ) -> None:
        super().__init__(model, aggregation, batch, split)
        self.tag, self.words, self.numbered = tag, f"{good} {bad}", numbered

    def encode(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        text, ends = f"{problem} ", []
        for i, step in enumerate([s for s in steps if s.strip()] or [""]):
            number = f"Step {i + 1}: " if self.numbered and not NUMBER.match(step) else ""
            text += ("\n" if i else "") + f"{number}{step} {self.tag}"
            ends.append(len(text))
        tokenizer = self.frozen.tokenizer
        tag = tokenizer(self.tag, add_special_tokens=False).input_ids[-1]
        encoded = tokenizer(text, return_offsets_mapping=True)
        ending = {stop: i for i, (_, stop) in enumerate(encoded.offset_mapping)}
        marks = [ending.get(end, 0) for end in ends]
        if any(encoded.input_ids[mark] != tag for mark in marks):
            raise self.lacks(f"does not keep {self.tag!r} a token of its own")
        return encoded.input_ids, marks

    def probabilities(self, states: Any) -> Any:
        """P(right) of each step, float32 ``[steps]``, from the states at the marks."""
        candidates = self.frozen.tokenizer(self.words, add_special_tokens=False).input_ids
        if len(candidates) != 2:
            raise self.lacks(f"makes {len(candidates)} tokens of {self.words!r}, not two (good=, bad=)")
        logits = self.frozen.model.get_output_embeddings()(states)
        return logits[:, candidates].float().softmax(-1)[:, 0]
