"""A trained verifier: the "Type II-retrain" baseline of the STOP paper (arXiv 2604.16029, App. D), on any small model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import Check, LabelledPrefix, Origins, Path

if TYPE_CHECKING:
    import torch

    from pruners.external_learned.text_model import TextModel


class Verifier:
    """s_i = sigma(logit at the last token of problem + prefix)

    All weights are trained on the Monte-Carlo success of prefixes. The method is external: it re-reads the text with
    separate weights, and every token it reads is charged.

    Args:
        base: folder or hub id of the initial weights; by default those of the generator.
        lr: learning rate.
        epochs: passes over the examples.
        batch: examples per step.
        examples: largest number of training examples.
        seed: random seed of the training.
    """

    quadrant = "external-learned"
    needs = frozenset({"text"})
    origins = Origins("adapted", "paper", "ours")
    pointwise = True
    cost_class = "re-read"
    vote = "weighted"
    labels = "monte-carlo"

    def __init__(
        self, base: str = "", lr: float = 3e-4, epochs: int = 1, batch: int = 128, examples: int = 49152, seed: int = 0
    ) -> None:
        self.base, self.where, self.most = base, "", examples
        self.recipe: dict[str, Any] = {"learning_rate": lr, "epochs": epochs, "batch": batch, "seed": seed}
        self.text_model: TextModel | None = None

    def prepare(self, check: Check) -> None:
        _ = self.opened(check).reading

    def opened(self, check: Check) -> TextModel:
        """The trained model, on the engine's device."""
        if self.text_model is None:
            from pruners.external_learned.text_model import TextModel

            self.text_model = TextModel(self.where, device=check.device)
        return self.text_model

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return self.opened(check).score(prefixes, check)

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]:
        import torch

        from harness.learn.fitting import Schedule, drawn, fit
        from pruners.external_learned.text_model import trainable

        examples = drawn(examples, self.most, self.recipe["seed"])
        torch.manual_seed(self.recipe["seed"])
        self.text_model = trainable(check.engine, self.base, check.device)
        logits = self.trained_on(self.text_model, examples)
        return fit([self.text_model.model], logits, examples, Schedule(**self.recipe), check, log)

    def trained_on(
        self, model: TextModel, examples: Sequence[LabelledPrefix]
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """The logits ``[b]`` that a batch of examples is trained on: those at the last tokens of the prefixes."""
        ids = model.encode([e.prefix for e in examples])
        return lambda batch: model.last_logits([ids[i] for i in batch.tolist()])

    def save(self, folder: FilePath) -> None:
        assert self.text_model is not None
        self.text_model.save(folder)

    def load(self, folder: FilePath) -> None:
        self.where, self.text_model = str(folder), None
