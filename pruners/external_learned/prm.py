"""Process reward models on prefixes: a frozen model scores every step of the prefix, and the step scores are combined.

Published process reward models score complete solutions. The last step of a prefix may be cut at any token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.api import Check, CostClass, Origins, Path, PathpruneError

if TYPE_CHECKING:
    from pruners.external_learned.frozen import Frozen
    from pruners.external_learned.pooled import Pooled

SEPARATORS = {"paragraph": "\n\n", "line": "\n"}
AGGREGATIONS: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "min": np.min,
    "max": np.max,
    "prod": np.prod,
    "last": lambda scores: scores[-1],
}


def steps_of(text: str, separator: str, stripped: bool = True) -> list[str]:
    """Split a text into steps, at least one. An empty step between two separators is kept.

    If the text is not ``stripped``, a separator at its end is followed by an empty step, as after a cut at a line
    break.
    """
    return (text.strip() if stripped else text).split(separator)


def aggregate(scores: np.ndarray, how: str) -> float:
    """Combine step scores ``[steps]`` into one score."""
    return float(AGGREGATIONS[how](scores))


class FrozenReward:
    """A frozen reward model, loaded when it first scores.

    Args:
        model: local folder, or hub id to download; by default the published weights.
        batch: texts read at a time.
        runner: "transformers", or "vllm" for vLLM's pooling runner.

    Raises:
        ValueError: if an option is outside its range.
    """

    quadrant = "external-learned"
    needs = frozenset({"text"})
    origins = Origins("paper")
    pointwise = True
    cost_class: CostClass = "re-read"
    published: ClassVar[str]  # hub id of the published weights
    kind: ClassVar[str]  # class that a folder must have, a key of ``frozen.CLASSES``
    runners: ClassVar[tuple[str, ...]] = ("transformers",)
    architecture: ClassVar[str] = ""  # vLLM's name of the class, if a checkpoint may name another

    def __init__(self, model: str = "", batch: int = 8, runner: str = "transformers") -> None:
        if batch < 1:
            raise ValueError("batch is 1 or more")
        if runner not in self.runners:
            raise ValueError(f"runner is {' or '.join(self.runners)}")
        self.model, self.batch, self.runner = model or self.published, batch, runner
        local = FilePath(model).expanduser().is_dir() if model else False
        self.on_request = "" if local else f"reads with {self.model}: name this pruner, or a folder with model="
        self.device = ""  # set to the engine's device at the first check

    def prepare(self, check: Check) -> None:
        self.device = self.device or check.device
        _ = self.tokenizer

    def identity(self) -> dict[str, Any]:
        from harness.engines.identity import fingerprint, locate

        return {"model": self.model, "fingerprint": fingerprint(locate(self.model), None)}

    @cached_property
    def pooled(self) -> Pooled:
        """The model in vLLM's pooling runner, loaded at first use."""
        from harness.engines.identity import locate
        from pruners.external_learned.pooled import Pooled

        return Pooled(locate(self.model), self.kind, self.architecture)

    @cached_property
    def frozen(self) -> Frozen:
        """The model in transformers, loaded at first use."""
        from harness.engines.identity import locate
        from pruners.external_learned.frozen import Frozen

        return Frozen(locate(self.model), self.kind, self.device)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the model, in either runner."""
        return (self.pooled if self.runner == "vllm" else self.frozen).tokenizer


class ProcessReward(FrozenReward):
    """s_i = aggregation over steps of the model's P(step is correct), in [0, 1]

    The default aggregation and split are those that the model's authors or users publish, for complete solutions if
    they publish nothing for prefixes.

    Args:
        model: local folder, or hub id to download; by default the published weights.
        aggregation: how step scores are combined: "mean", "min", "max", "prod" or "last".
        batch: texts read at a time.
        split: end of a step: "paragraph" (a blank line) or "line"; by default the model's own.
        runner: "transformers", or "vllm" for vLLM's pooling runner.

    Raises:
        ValueError: if an option is outside its range.
    """

    split: ClassVar[str]
    stripped: ClassVar[bool] = True  # is white space around a text removed before it is split?

    def __init__(
        self, model: str = "", aggregation: str = "mean", batch: int = 8, split: str = "", runner: str = "transformers"
    ) -> None:
        super().__init__(model, batch, runner)
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation is one of {', '.join(AGGREGATIONS)}")
        if split and split not in SEPARATORS:
            raise ValueError(f"split is {' or '.join(SEPARATORS)}")
        self.aggregation, self.separator = aggregation, SEPARATORS[split or self.split]

    def encode(self, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        """Token ids of the problem and its steps, and the position of each step's mark among them."""
        raise NotImplementedError

    def probabilities(self, states: Any) -> Any:
        """P(correct), float32 ``[steps]``, from the last hidden states at the marks ``[steps, d]``."""
        raise NotImplementedError

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return np.array([aggregate(steps, self.aggregation) for steps in self.step_scores(prefixes, check)])

    def step_scores(self, prefixes: Sequence[Path], check: Check) -> list[np.ndarray]:
        """Step scores of every prefix, float64 ``[steps]`` each.

        Scores are selected by position, so a step with a probability of exactly 0 is kept.
        """
        from pruners.external_learned.shared import Row

        self.prepare(check)
        encoded = [self.encode(p.problem.prompt, steps_of(p.text, self.separator, self.stripped)) for p in prefixes]
        if self.runner == "vllm":
            # The prefix cache has no effect, because the states of all tokens are requested.
            read = self.pooled.of_tokens([ids for ids, _ in encoded], prefixes, check)
            return [values[marks, 1] for values, (_, marks) in zip(read, encoded, strict=True)]

        def at_marks(inputs: Any, members: list[int], left_out: list[int]) -> list[np.ndarray]:
            states = self.frozen.model.base_model(**inputs).last_hidden_state
            marks = [[mark - out for mark in encoded[i][1]] for i, out in zip(members, left_out, strict=True)]
            rows = [states[row, at] for row, at in enumerate(marks)]
            return [self.probabilities(row).double().cpu().numpy() for row in rows]

        rows = [Row(ids, min(marks)) for ids, marks in encoded]
        heads = {prompt: self._head(prompt) for prompt in {p.problem.prompt for p in prefixes}}
        return self.frozen.read(rows, heads, prefixes, self.batch, check, at_marks)

    def _head(self, prompt: str) -> list[int]:
        """The token ids that all texts of a problem begin with."""
        from pruners.external_learned.shared import head_of

        return head_of(lambda text: self.encode(prompt, [text])[0])

    def lacks(self, what: str) -> PathpruneError:
        """The error for a tokenizer that ``what``, for example "has no chat template"."""
        return PathpruneError(f"the tokenizer of {self.model} {what}; give a model made as {self.published} is")
