"""One-token verification (OTV, arXiv 2603.01025): STOP's mechanism with one token and labels that cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.api import Check, LabelledPrefix, Origins
from pruners.internal_learned.stop import Stop


class OneToken(Stop):
    """One learned token reads the prefix KV through a LoRA of its own, at any position; s_i = sigma(w . h + b).

    The label at position t of a path of T tokens is a pseudo-confidence from the path's outcome y alone:
    1/2 + (y - 1/2) (t/T)^``ramp``. The paper has such a ramp from neutral to certain; its form, the loss and the rank
    could not be verified, so ``ramp`` and the LoRA's options are parameters. ``cuts`` random positions of each of at most
    ``paths`` finished paths are trained on.
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
        """The example cut at a random token, with the pseudo-confidence of that position."""
        tokens = example.prefix.tokens
        at = int(rng.integers(1, len(tokens) + 1))
        label = 0.5 + (example.success - 0.5) * (at / len(tokens)) ** self.ramp
        return replace(example, prefix=replace(example.prefix, tokens=tokens[:at], text=""), success=label)
