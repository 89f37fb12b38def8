"""ST-BoN (arXiv 2503.01422; code Alsace08/ST-BoN): which path's chain of embeddings is the most typical?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from harness.api import Check, Path


class StBoN:
    """s_i = -mean over j != i of (F_i - F_j)^2, F the chain-of-embedding feature of the prefix; 0 for a single path.

    With h_l the mean over generated tokens of layer l's states (l = 0..Y): F = mean_l [ ||h_l - h_{l+1}|| / ||h_0 - h_Y|| -
    angle(h_l, h_{l+1}) / angle(h_0, h_Y) ]. Published: the argmin is taken at every step of a buffer after all samples
    differ, and one path of N is kept by their majority; here one read at L keeps k.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"trace"})
    fidelity = "adapted"
    cost_class = "probe"

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        features = np.array(check.engine.trace(prefixes, lambda states, path: chain_feature(states.mean(1))))
        others = max(1, len(features) - 1)
        return -((features[:, None] - features[None, :]) ** 2).sum(1) / others


def chain_feature(means: np.ndarray) -> np.ndarray:
    """F of one path, a scalar array, from its layers' mean states ``[layers + 1, d]``."""
    h = means.astype(np.float64)
    steps = [np.linalg.norm(a - b) for a, b in pairwise(h)]
    turns = [_angle(a, b) for a, b in pairwise(h)]
    whole, turn = np.linalg.norm(h[0] - h[-1]), _angle(h[0], h[-1])
    # A chain that ends where it began has no scale: its terms count as nothing.
    return np.asarray((np.mean(steps) / whole if whole else 0.0) - (np.mean(turns) / turn if turn else 0.0))


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    cosine = a @ b / lengths if lengths else 1.0
    return float(np.arccos(np.clip(cosine, -1.0, 1.0)))
