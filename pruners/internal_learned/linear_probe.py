"""A linear probe on the last token's hidden state, after "Reasoning models know when they're right" (arXiv 2504.05419)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import Check, LabelledPrefix, Path
from pruners.checkpoint import load_tensors, save_tensors

PROBE = "probe.safetensors"


class LinearProbe:
    """s_i = sigma(w . (h - mean) / std + b), h the last-layer state ``[d]`` of the prefix's last token.

    The paper labels chunks that hold an intermediate answer; a prefix at L seldom does, so the label here is the
    prefix's Monte-Carlo success. Same signal as STOP without tokens and without adapter.
    """

    quadrant = "internal-learned"
    needs = frozenset({"hidden"})
    fidelity = "adapted"
    labels = "monte-carlo"

    def __init__(
        self, lr: float = 3e-3, epochs: int = 30, batch: int = 256, decay: float = 0.01, seed: int = 0
    ) -> None:
        self.recipe: dict[str, Any] = {
            "learning_rate": lr,
            "epochs": epochs,
            "batch": batch,
            "weight_decay": decay,
            "seed": seed,
        }
        self.weights: dict[str, np.ndarray] = {}

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        states = check.engine.probe(prefixes)[:, 0].astype(np.float64)
        logits = (states - self.weights["mean"]) / self.weights["std"] @ self.weights["weight"][0] + self.weights[
            "bias"
        ][0]
        return 1 / (1 + np.exp(-logits))

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]:
        import torch

        from pruners.learning import Schedule, fit

        states = torch.from_numpy(check.engine.probe([e.prefix for e in examples])[:, 0])
        trained = torch.tensor([not e.validation for e in examples])
        mean, std = states[trained].mean(0), states[trained].std(0).clamp(min=1e-6)
        states = (states - mean) / std
        torch.manual_seed(self.recipe["seed"])
        head = torch.nn.Linear(states.shape[1], 1)
        metrics = fit([head], lambda i: head(states[i]).squeeze(-1), examples, Schedule(**self.recipe), log)
        self.weights = {k: v.detach().numpy() for k, v in head.state_dict().items()}
        self.weights |= {"mean": mean.numpy(), "std": std.numpy()}
        return metrics

    def save(self, folder: FilePath) -> None:
        save_tensors(folder / PROBE, self.weights)

    def load(self, folder: FilePath) -> None:
        self.weights = load_tensors(folder / PROBE, ("weight", "bias", "mean", "std"))
