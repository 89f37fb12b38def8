"""Probes of the last token's hidden state, after "Reasoning models know when they're right" (arXiv 2504.05419)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import Check, LabelledPrefix, Origins, Path
from pruners.internal_learned.head import Head


class LinearProbe:
    """s_i = sigma(w . (h - mean) / std + b), with h the state of the prefix's last token

    h ``[d]`` is the last-layer state, and mean and std are those of the training states.
    STOP without learned tokens and without an adapter reads the same signal.

    Adapted: the paper labels chunks of a path that contain an intermediate answer. A prefix of L tokens seldom contains
    one, so the label here is the prefix's Monte-Carlo success.

    Args:
        hidden: number of hidden units; 0 for a linear probe.
        lr: learning rate.
        epochs: passes over the prefixes.
        batch: prefixes per step.
        decay: weight decay.
        prefixes: largest number of labelled prefixes.
        seed: random seed of the training.

    Raises:
        ValueError: if ``hidden`` is negative.
    """

    quadrant = "internal-learned"
    needs = frozenset({"hidden"})
    origins = Origins("paper", "ours", "adapted")
    pointwise = True
    cost_class = "probe"
    vote = "weighted"
    labels = "monte-carlo"

    def __init__(
        self,
        hidden: int = 0,
        lr: float = 3e-3,
        epochs: int = 30,
        batch: int = 256,
        decay: float = 0.01,
        prefixes: int = 49152,
        seed: int = 0,
    ) -> None:
        self.prefixes = prefixes
        self.recipe: dict[str, Any] = {
            "learning_rate": lr,
            "epochs": epochs,
            "batch": batch,
            "weight_decay": decay,
            "seed": seed,
        }
        self.head = Head(hidden)

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return self.head.score(check.engine.probe(prefixes)[:, 0])

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]:
        from harness.learn.fitting import drawn

        examples = drawn(examples, self.prefixes, self.recipe["seed"])
        states = check.engine.probe([e.prefix for e in examples])[:, 0]
        return self.head.fit(states, examples, self.recipe, check, log)

    def save(self, folder: FilePath) -> None:
        self.head.save(folder)

    def load(self, folder: FilePath) -> None:
        self.head.load(folder)


class MLPProbe(LinearProbe):
    """s_i = sigma(w2 . relu(W1 x + b1) + b2), with x the standardised state of the prefix's last token

    The default of 32 hidden units is the largest of the paper's grid.
    """

    def __init__(
        self,
        hidden: int = 32,
        lr: float = 1e-3,
        epochs: int = 20,
        batch: int = 256,
        decay: float = 0.1,
        prefixes: int = 49152,
        seed: int = 0,
    ) -> None:
        super().__init__(hidden, lr, epochs, batch, decay, prefixes, seed)
