"""One-token verification (OTV, arXiv 2603.01025): the mechanism of STOP with a single token and labels from outcomes
alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.api import Check, LabelledPrefix, Origins
from pruners.internal_learned.stop import Stop


class OneToken(Stop):
    """s_i = sigma(w . h + b), with h the state of one learned token after the prefix

    h ``[d]`` is the last-layer state of the learned token, which reads the KV cache of the prefix through a LoRA, at
    any position. The label at position t of a path of T tokens is a pseudo-confidence from the path's outcome y: 1/2 +
    (y - 1/2) (t/T)^r, where r is ``ramp``.

    Adapted: the paper uses such a ramp from neutral to certain. Its form, the loss and the rank of the LoRA could not
    be verified, so they are options.

    Args:
        ramp: exponent of the ramp.
        cuts: random positions of each path that are trained on.
        paths: largest number of finished paths.
        rank: rank of the LoRA; -1 for that of the recipe.
        alpha: scale of the LoRA; 0 for twice its rank.
        dropout: dropout of the LoRA; -1 for that of the recipe.
        lr: learning rate; 0 for that of the recipe.
        epochs: passes over the examples.
        batch: examples per step.
        seed: random seed of the training.
        accumulate: forward passes per step.

    Raises:
        ValueError: if an option is outside its range.
    """

    labels = "outcome"

    def __init__(
        self,
        ramp: float = 1.0,
        cuts: int = 8,
        paths: int = 16384,
        rank: int = -1,
        alpha: float = 0.0,
        dropout: float = -1.0,
        lr: float = 0.0,
        epochs: int = 2,
        batch: int = 128,
        seed: int = 0,
        accumulate: int = 1,
    ) -> None:
        if ramp <= 0 or cuts < 1:
            raise ValueError("ramp is positive and cuts is 1 or more")
        super().__init__(1, rank, alpha, dropout, lr, epochs, batch, seed, accumulate)
        self.origins = Origins("adapted", "ours", "ours")
        self.ramp, self.cuts, self.paths = ramp, cuts, paths

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]:
        from harness.learn.fitting import drawn

        rng = np.random.default_rng(self.shape["seed"])
        chosen = drawn(examples, self.paths, self.shape["seed"])
        return super().fit([self.ramped(e, rng) for e in chosen for _ in range(self.cuts)], check, log)

    def ramped(self, example: LabelledPrefix, rng: np.random.Generator) -> LabelledPrefix:
        """The example cut at a random token, with the pseudo-confidence at that position as its label."""
        tokens = example.prefix.tokens
        at = int(rng.integers(1, len(tokens) + 1))
        label = 0.5 + (example.success - 0.5) * (at / len(tokens)) ** self.ramp
        return replace(example, prefix=replace(example.prefix, tokens=tokens[:at], text=""), success=label)
