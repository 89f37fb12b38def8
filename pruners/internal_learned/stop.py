"""STOP (arXiv 2604.16029, sec. 3): learned tokens read the cached prefix KV through a LoRA and a head.

Launch computes a prefix with the frozen model. Check appends T_s learned [STOP] tokens in one forward pass in which
a critique LoRA is active on them only; h is the last layer's state of the last [STOP] token and the score is
sigma(w . h + b). Resume continues from the base KV; the [STOP] branch is dropped. Trained are the embeddings, the
LoRA and the head, on soft BCE against Monte-Carlo success; the base is frozen.

The paper's Table 12 has rank 128 to 2048 and lr 2e-5 for models of 1.5B to 20B; the defaults here are for the
embedded model of one million parameters (rank 16, lr 2e-3). T_s distinct embeddings are learned (the official code
repeats one vector).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import Check, LabelledPrefix, Path
from pruners.checkpoint import load_tensors, save_tensors

HEAD = "head.safetensors"


class Stop:
    """``tokens`` = T_s, ``rank`` = LoRA rank on all linear layers (0: no adapter, tokens and head only)."""

    quadrant = "internal-learned"
    needs = frozenset({"hidden"})
    fidelity = "paper-specified"
    pointwise = True
    cost_class = "probe"
    vote = "weighted"
    labels = "monte-carlo"

    def __init__(
        self,
        tokens: int = 4,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        lr: float = 2e-3,
        epochs: int = 3,
        batch: int = 128,
        seed: int = 0,
        accumulate: int = 1,
    ) -> None:
        if tokens < 1 or rank < 0:
            raise ValueError("tokens is 1 or more and rank 0 or more")
        self.shape: dict[str, Any] = {"tokens": tokens, "rank": rank, "alpha": alpha, "dropout": dropout, "seed": seed}
        self.recipe: dict[str, Any] = {
            "learning_rate": lr,
            "epochs": epochs,
            "batch": batch,
            "seed": seed,
            "accumulate": accumulate,
        }
        self.folder: FilePath | None = None
        self.adapter: Any = None
        self.head: dict[str, np.ndarray] = {}

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        if self.adapter is None:
            self.adapter = check.engine.new_adapter(self.folder)
        states = check.engine.probe(prefixes, self.adapter)[:, -1].astype(np.float64)
        logits = states @ self.head["weight"][0].astype(np.float64) + float(self.head["bias"][0])
        return 1 / (1 + np.exp(-logits))

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]:
        import torch

        from harness.learn.fitting import Schedule, fit

        began = time.perf_counter()
        adapter = check.engine.new_adapter(None, **self.shape)
        torch.manual_seed(self.shape["seed"])
        head = torch.nn.Linear(adapter.embeddings.shape[1], 1)
        read = check.engine.reader([e.prefix for e in examples], adapter)
        schedule = Schedule(**self.recipe)
        metrics = fit([adapter, head], lambda i: head(read(i)[:, -1]).squeeze(-1), examples, schedule, check, log)
        metrics["encoding_share"] = round(read.seconds / (time.perf_counter() - began), 3)
        log(f"{metrics['encoding_share']:.0%} of the time went into the prefixes' KV")
        self.adapter = adapter.eval()
        self.head = {k: v.detach().numpy() for k, v in head.state_dict().items()}
        return metrics

    def save(self, folder: FilePath) -> None:
        self.adapter.save(folder)
        save_tensors(folder / HEAD, self.head)

    def load(self, folder: FilePath) -> None:
        self.folder, self.adapter = folder, None
        self.head = load_tensors(folder / HEAD, ("weight", "bias"))
