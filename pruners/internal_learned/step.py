"""STEP (arXiv 2601.09093; code Supercomputing-System-AI-Lab/STEP): scores the hidden states at step boundaries."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import Check, LabelledPrefix, Origins, Path, PathpruneError
from pruners.internal_learned.head import Head

END = "</think>"


class Step:
    """s_i = mean of sigma(MLP(h_t)) over the prefix's step boundaries t, with h_t the state there

    As published, a prefix without a step boundary scores 0. h_t is the last-layer state ``[d]`` at a token that ends a
    step, that is, a token whose text contains ``boundary``. The MLP has layers d - 512 - 1 with ReLU, and reads states
    without standardisation.

    The label of every step of a finished path is the path's outcome, so labels cost nothing. Steps after "</think>" and
    paths without an answer are omitted. The loss is BCE, weighted by the ratio of incorrect to correct steps. The
    recipe is that of the authors' code: a constant learning rate of 1e-4 and at most 20 epochs, of which the one with
    the highest 0.75 AUC + 0.25 F1 is kept.

    Adapted: the paper aborts the running request with the lowest score when the KV cache is full. Its validation split
    is by step, so that steps of one path fall on both sides. Here the scores rank paths for top k at L, and the split
    is by problem.

    Args:
        boundary: text that ends a step; by default the task's, which is a blank line for reasoning models.
        hidden: number of hidden units; 0 for a linear head.
        lr: learning rate.
        epochs: most passes over the steps.
        batch: steps per update.
        decay: weight decay.
        paths: largest number of finished paths.
        seed: random seed of the training.

    Raises:
        ValueError: if ``hidden`` is negative.
        PathpruneError: in training, if no path has a step boundary.
    """

    quadrant = "internal-learned"
    needs = frozenset({"trace", "text"})
    origins = Origins("paper", "ours", "adapted")
    pointwise = True
    cost_class = "probe"
    vote = "weighted"
    labels = "outcome"

    def __init__(
        self,
        boundary: str = "",
        hidden: int = 512,
        lr: float = 1e-4,
        epochs: int = 20,
        batch: int = 128,
        decay: float = 1e-5,
        paths: int = 8192,
        seed: int = 0,
    ) -> None:
        self.boundary, self.paths = str(boundary), paths
        self.recipe: dict[str, Any] = {
            "learning_rate": lr,
            "epochs": epochs,
            "batch": batch,
            "weight_decay": decay,
            "seed": seed,
            "balanced": True,
            "rate": "constant",
            "clip": 0.0,
            "patience": 5,
            "select": "auc-f1",
        }
        self.head = Head(hidden, standardise=False)

    def states(self, paths: Sequence[Path], check: Check) -> list[np.ndarray]:
        """Last-layer states at the step boundaries of every path, ``[steps, d]`` each."""
        mark = self.boundary or check.step
        ends = {t: mark in check.decode([t]) for t in {t for p in paths for t in p.tokens}}
        boundary_states: list[np.ndarray] = check.engine.trace(
            paths, lambda states, path: states[-1][[i for i, t in enumerate(path.tokens) if ends[t]]]
        )
        return boundary_states

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        steps = self.states(prefixes, check)
        scores = self.head.score(np.concatenate(steps))
        parts = np.split(scores, np.cumsum([len(s) for s in steps])[:-1])
        return np.array([part.mean() if len(part) else 0.0 for part in parts])

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]:
        from harness.learn.fitting import drawn

        answered = [e for e in examples if check.answer(e.prefix.text) is not None]
        chosen = [
            replace(e, prefix=thinking(e.prefix, check)) for e in drawn(answered, self.paths, self.recipe["seed"])
        ]
        steps = self.states([e.prefix for e in chosen], check) if chosen else []
        labelled = [e for e, s in zip(chosen, steps, strict=True) for _ in range(len(s))]
        if not labelled:
            raise PathpruneError(
                f"no path of {len(chosen)} that answer has a step that ends in {self.boundary or check.step!r}; set boundary="
            )
        return self.head.fit(np.concatenate(steps), labelled, self.recipe, check, log) | {"paths": len(chosen)}

    def save(self, folder: FilePath) -> None:
        self.head.save(folder)

    def load(self, folder: FilePath) -> None:
        self.head.load(folder)


def thinking(path: Path, check: Check) -> Path:
    """The path up to, but without, the token that completes its first "</think>"; the whole path if it has none."""
    if END not in path.text:
        return path
    whole = bisect_left(range(len(path.tokens)), True, key=lambda count: END in check.decode(path.tokens[:count]))
    return replace(path, tokens=path.tokens[: max(1, whole - 1)])
