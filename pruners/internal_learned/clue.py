"""CLUE (arXiv 2510.01591): compares the change of the hidden states with that of successful and of failed prefixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu

from harness.api import Check, LabelledPrefix, Origins, Path, PathpruneError
from pruners.checkpoint import load_tensors, save_tensors

FILE = "centroids.safetensors"


class Clue:
    """s_i = D(delta_i, failure) - D(delta_i, success), with delta the change of the hidden states

    D is the mean over layers of the Euclidean distance. delta ``[layers + 1, d]`` is the states at the last token of
    the prefix minus the states where thinking starts. Thinking starts at the ``<think>`` of the prompt if the model's
    template ends a prompt with it, and otherwise at the first generated token. The two centroids are means of delta
    over labelled prefixes, weighted by success and by failure. Nothing is optimised.

    Adapted: the paper takes the states at the end of the finished reasoning, and re-ranks complete solutions.

    Args:
        prefixes: largest number of labelled prefixes.
        seed: random seed of their selection.
    """

    quadrant = "internal-learned"
    needs = frozenset({"trace"})
    origins = Origins("adapted", "ours", "adapted")
    pointwise = True
    cost_class = "probe"
    labels = "monte-carlo"

    def __init__(self, prefixes: int = 32768, seed: int = 0) -> None:
        self.prefixes, self.seed = prefixes, seed
        self.centroids: dict[str, np.ndarray] = {}

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return self._nearer(_deltas(prefixes, check))

    def _nearer(self, deltas: np.ndarray) -> np.ndarray:
        far = {k: np.linalg.norm(deltas - c, axis=-1).mean(-1) for k, c in self.centroids.items()}
        return far["failure"] - far["success"]

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]:
        from harness.learn.fitting import drawn

        examples = drawn(examples, self.prefixes, self.seed)
        deltas = _deltas([e.prefix for e in examples], check)
        success = np.array([e.success for e in examples])
        held = np.array([e.validation for e in examples])
        if not 0 < success[~held].mean() < 1:
            raise PathpruneError("all labelled prefixes have the same success: there is nothing to tell apart")
        for name, weight in (("success", success), ("failure", 1 - success)):
            weight = np.where(held, 0.0, weight)
            self.centroids[name] = (np.einsum("n,nld->ld", weight, deltas) / weight.sum()).astype(np.float32)
        scores, good = self._nearer(deltas[held]), success[held] > 0.5
        pairs = good.sum() * (~good).sum()
        auroc = float(mannwhitneyu(scores[good], scores[~good]).statistic / pairs) if pairs else None
        log(f"{int((~held).sum()):,} prefixes, validation AUROC {auroc if auroc is None else round(auroc, 4)}")
        return {"prefixes": int((~held).sum()), "validation_auroc": auroc}

    def save(self, folder: FilePath) -> None:
        save_tensors(folder / FILE, self.centroids)

    def load(self, folder: FilePath) -> None:
        self.centroids = load_tensors(folder / FILE, ("success", "failure"))


def _deltas(paths: Sequence[Path], check: Check) -> np.ndarray:
    """Change of the states of every layer during thinking, ``[n, layers + 1, d]``."""
    opened = {p.problem.prompt: check.engine.thinking(p.problem) for p in paths}
    before = max(opened.values())

    def delta(states: np.ndarray, path: Path) -> np.ndarray:
        return states[:, -1] - states[:, before - opened[path.problem.prompt]]

    return np.stack(check.engine.trace(paths, delta, before=before))
