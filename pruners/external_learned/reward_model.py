"""A frozen reward model: trained once on outcomes of finished paths, applied to prefixes as it is.

The stand-in, on the embedded benchmark, for Qwen2.5-Math-PRM and its like (STOP's Type II): it never saw a prefix's
success rate, only whether whole paths were right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import Check, LabelledPrefix, Path

if TYPE_CHECKING:
    from pruners.external_learned.text_model import TextModel


class RewardModel:
    """s_i = sigma(logit at the prefix's last token) of any token-classification model with one label.

    ``model`` is a folder or hub id; by default the one that ships for the generator. Training gives every token of a
    finished path the path's outcome (Math-Shepherd's hard labels, arXiv 2312.08935, with one completion).
    """

    quadrant = "external-learned"
    needs = frozenset({"text"})
    fidelity = "adapted"
    cost_class = "re-read"
    vote = "weighted"
    labels = "outcome"

    def __init__(self, model: str = "", lr: float = 3e-4, epochs: int = 1, batch: int = 64, seed: int = 0) -> None:
        self.where = model
        self.recipe: dict[str, Any] = {"learning_rate": lr, "epochs": epochs, "batch": batch, "seed": seed}
        self.text_model: TextModel | None = None

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        if self.text_model is None:
            from pruners.external_learned.text_model import TextModel

            self.text_model = TextModel(self.where)
        return self.text_model.score(prefixes, check)

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]:
        import torch

        from pruners.external_learned.text_model import trainable
        from pruners.learning import Schedule, fit

        torch.manual_seed(self.recipe["seed"])
        model = trainable(check.engine, self.where)
        ids = model.encode([e.prefix for e in examples])
        heads = [len(row) - len(e.prefix.tokens) for row, e in zip(ids, examples, strict=True)]

        def one_position_each(batch: torch.Tensor) -> torch.Tensor:
            """A logit at a random position of each path: over the epochs, every step is trained on the outcome."""
            rows = [ids[i] for i in batch.tolist()]
            starts = [max(1, heads[i]) for i in batch.tolist()]
            at = torch.tensor([int(torch.randint(s, len(r), ())) for s, r in zip(starts, rows, strict=True)])
            return model.logits(rows).gather(1, at.unsqueeze(-1)).squeeze(-1)

        metrics = fit([model.model], one_position_each, examples, Schedule(**self.recipe), log)
        self.text_model = model
        return metrics

    def save(self, folder: FilePath) -> None:
        assert self.text_model is not None
        self.text_model.save(folder)

    def load(self, folder: FilePath) -> None:
        if not self.where:
            self.where = str(folder)
