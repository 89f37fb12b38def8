"""A head of one or two layers over hidden states, as trained by every probe, and its file format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import Check, LabelledPrefix
from pruners.checkpoint import load_tensors, save_tensors

FILE = "probe.safetensors"


class Head:
    """z = w2 . relu(W1 x + b1) + b2, or w . x + b if ``hidden`` is 0

    x is the hidden state ``[d]``, standardised by default.

    Args:
        hidden: number of hidden units; 0 for a linear head.
        standardise: whether states are standardised with the mean and standard deviation of the training states.

    Raises:
        ValueError: if ``hidden`` is negative.
    """

    def __init__(self, hidden: int, standardise: bool = True) -> None:
        if hidden < 0:
            raise ValueError("hidden is 0 (linear) or a number of units")
        self.hidden, self.standardise = hidden, standardise
        self.weights: dict[str, np.ndarray] = {}
        self.names = ["mean", "std", "last.weight", "last.bias"] + ["first.weight", "first.bias"] * bool(hidden)

    def fit(
        self,
        states: np.ndarray,
        examples: Sequence[LabelledPrefix],
        recipe: dict[str, Any],
        check: Check,
        log: Callable[[str], None],
    ) -> dict[str, Any]:
        """Train the head on labelled states.

        Args:
            states: ``[n, d]``, one per example.
            examples: labelled prefixes.
            recipe: options of ``harness.learn.fitting.Schedule``.
            check: access to the engine.
            log: called with lines of progress.

        Returns:
            The metrics of the checkpoint's card.
        """
        import torch

        from harness.learn.fitting import Schedule, fit

        x = torch.from_numpy(states)
        trained = torch.tensor([not e.validation for e in examples])
        mean, std = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
        if self.standardise:
            mean, std = x[trained].mean(0), x[trained].std(0).clamp(min=1e-6)
        x = (x - mean) / std
        torch.manual_seed(recipe["seed"])
        layers = torch.nn.ModuleDict({"last": torch.nn.Linear(self.hidden or x.shape[1], 1)})
        if self.hidden:
            layers["first"] = torch.nn.Linear(x.shape[1], self.hidden)

        def logits(indices: torch.Tensor) -> torch.Tensor:
            inner = layers["first"](x[indices]).relu() if self.hidden else x[indices]
            return layers["last"](inner).squeeze(-1)

        metrics = fit([layers], logits, examples, Schedule(**recipe), check, log)
        self.weights = {k: v.detach().numpy() for k, v in layers.state_dict().items()}
        self.weights |= {"mean": mean.numpy(), "std": std.numpy()}
        return metrics

    def score(self, states: np.ndarray) -> np.ndarray:
        """sigma(z) of ``states`` ``[n, d]``, float64 ``[n]``."""
        w = self.weights
        x = (states.astype(np.float64) - w["mean"]) / w["std"]
        if self.hidden:
            x = np.maximum(0.0, x @ w["first.weight"].T + w["first.bias"])
        return 1 / (1 + np.exp(-(x @ w["last.weight"][0] + w["last.bias"][0])))

    def save(self, folder: FilePath) -> None:
        save_tensors(folder / FILE, self.weights)

    def load(self, folder: FilePath) -> None:
        self.weights = load_tensors(folder / FILE, self.names)
