"""STOP (arXiv 2604.16029, sec. 3): learned tokens read the KV cache of the prefix through a LoRA, and a linear head
scores it.

Launch computes a prefix with the frozen model. Check appends T_s learned [STOP] tokens in one forward pass, in which a
LoRA is active on these tokens only. h is the last-layer state of the last [STOP] token, and the score is sigma(w . h +
b). Resume continues from the KV cache of the base model without the [STOP] tokens. The token embeddings, the LoRA and
the head are trained with soft BCE on the Monte-Carlo success of prefixes. The base model is frozen.

``recipe`` selects the training. "pathprune" is ours: its rank and learning rate depend on the model's width (16 and
2e-3 for the embedded models). "paper" is Table 12 of the paper (rank 128 to 2,048, learning rate 2e-5, 15 epochs, K =
32, one L). "official" is the script of the authors' repository. The values in use are printed. T_s distinct embeddings
are learned, whereas the official code repeats one vector.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import Check, LabelledPrefix, Origins, Path
from pruners.checkpoint import load_tensors, save_tensors
from pruners.internal_learned.recipes import OURS, Asked

HEAD = "head.safetensors"


class Stop:
    """s_i = sigma(w . h + b), with h the state of the last learned [STOP] token after the prefix

    h ``[d]`` is the last-layer state of the last of T_s learned tokens after the cached prefix. An option with its
    default of -1, 0 or "" has the value of the ``recipe``.

    Args:
        tokens: T_s, the number of learned tokens.
        rank: rank of the LoRA; 0 for no adapter, so that only tokens and head are trained.
        alpha: scale of the LoRA; by default twice its rank.
        dropout: dropout of the LoRA.
        lr: learning rate.
        epochs: passes over the prefixes.
        batch: prefixes per step.
        seed: random seed of the training.
        accumulate: forward passes per step.
        recipe: "pathprune", "paper" or "official".
        rate: "linear" or "constant" learning rate.
        clip: largest norm of the gradient; 0 for no clipping.
        patience: epochs without improvement before training stops.
        select: metric that selects the epoch: "bce", "mse" or "auc-f1".
        targets: linear layers that get a LoRA, joined by ``+``; by default all.
        experts: whether fused experts get a LoRA as well.

    Raises:
        ValueError: if an option is outside its range.
    """

    quadrant = "internal-learned"
    needs = frozenset({"hidden"})
    pointwise = True
    cost_class = "probe"
    vote = "weighted"
    labels = "monte-carlo"

    def __init__(
        self,
        tokens: int = 4,
        rank: int = -1,
        alpha: float = 0.0,
        dropout: float = -1.0,
        lr: float = 0.0,
        epochs: int = 0,
        batch: int = 0,
        seed: int = 0,
        accumulate: int = 1,
        recipe: str = "pathprune",
        rate: str = "",
        clip: float = -1.0,
        patience: int = 0,
        select: str = "",
        targets: str = "",
        experts: bool = False,
    ) -> None:
        if tokens < 1 or rank < -1 or alpha < 0:
            raise ValueError(
                "tokens is 1 or more, rank 0 or more (-1: the recipe's), alpha above 0 (0: twice the rank)"
            )
        self.asked = Asked(recipe, rank, alpha, dropout, lr, epochs, batch, rate, clip, patience, select, targets)
        self.origins = Origins("code", "paper", self.asked.origin)
        self.shape: dict[str, Any] = {"tokens": tokens, "seed": seed} | ({"experts": True} if experts else {})
        self.parts = {"seed": seed, "accumulate": accumulate}
        self.recipe: dict[str, Any] = (
            self.asked.schedule(OURS) | self.parts
        )  # checks the ranges before a model is loaded
        self.folder: FilePath | None = None
        self.adapter: Any = None
        self.head: dict[str, np.ndarray] = {}

    def prepare(self, check: Check) -> None:
        if self.adapter is None:
            self.adapter = check.engine.new_adapter(self.folder)

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        self.prepare(check)
        states = check.engine.probe(prefixes, self.adapter)[:, -1].astype(np.float64)
        logits = states @ self.head["weight"][0].astype(np.float64) + float(self.head["bias"][0])
        return 1 / (1 + np.exp(-logits))

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]:
        import torch

        from harness.learn.fitting import Schedule, fit

        began = time.perf_counter()
        examples = self._of_the_recipe(examples, log)
        width = int(check.engine.probe([examples[0].prefix]).shape[-1])
        shape, self.recipe = self.shape | self.asked.adapter(width), self.asked.schedule(width) | self.parts
        log(f"recipe {self.asked.recipe}, width {width}: {told(shape | self.recipe)}")
        adapter = check.engine.new_adapter(None, **shape)
        torch.manual_seed(self.shape["seed"])
        head = torch.nn.Linear(adapter.embeddings.shape[1], 1)
        read = check.engine.reader([e.prefix for e in examples], adapter)
        schedule = Schedule(**self.recipe)
        metrics = fit([adapter, head], lambda i: head(read(i)[:, -1]).squeeze(-1), examples, schedule, check, log)
        metrics["recipe"] = {"name": self.asked.recipe, **shape, **self.recipe}
        metrics["encoding_share"] = round(read.seconds / (time.perf_counter() - began), 3)
        log(f"{metrics['encoding_share']:.0%} of the time went into the prefixes' KV")
        self.adapter = adapter.eval()
        self.head = {k: v.detach().numpy() for k, v in head.state_dict().items()}
        return metrics

    def _of_the_recipe(
        self, examples: Sequence[LabelledPrefix], log: Callable[[str], None]
    ) -> Sequence[LabelledPrefix]:
        """The labels that the recipe trains on: those of the most frequent L if it uses a single L, else all."""
        known = self.asked.known
        lengths = Counter(len(e.prefix.tokens) for e in examples)
        if known.one_length and len(lengths) > 1:
            length = min(lengths, key=lambda n: (-lengths[n], n))
            log(
                f"recipe {self.asked.recipe}: one L, {length} tokens, {lengths[length]:,} of {len(examples):,} prefixes"
            )
            examples = [e for e in examples if len(e.prefix.tokens) == length]
        if known.continuations and (most := max((e.continuations for e in examples), default=0)) != known.continuations:
            log(f"recipe {self.asked.recipe} has K = {known.continuations}; these labels have K = {most}")
        return examples

    def save(self, folder: FilePath) -> None:
        self.adapter.save(folder)
        save_tensors(folder / HEAD, self.head)

    def load(self, folder: FilePath) -> None:
        self.folder, self.adapter = folder, None
        self.head = load_tensors(folder / HEAD, ("weight", "bias"))


def told(options: dict[str, Any]) -> str:
    """Options as one line of text."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in options.items()
    )
