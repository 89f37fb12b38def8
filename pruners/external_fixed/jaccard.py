"""Word overlap between prefixes: the Type I baseline of the STOP paper (arXiv 2604.16029, App. C.5)."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from harness.api import Check, Path
from pruners.external_fixed.similarity import WordCounts, incidence, words


class Jaccard:
    """s_i = -mean over j != i of |A_i & A_j| / |A_i | A_j| over sets of lower-cased words; higher = less redundant.

    The paper gives neither tokenisation nor aggregation; this reading is the harness's. ``keep="central"`` turns the
    sign and keeps the most typical prefixes instead. One sparse product, O(N^2) memory whatever the vocabulary.
    """

    quadrant = "external-fixed"
    needs = frozenset({"text"})
    fidelity = "as re-implemented by STOP"
    cost_class = "free"

    def __init__(self, keep: str = "diverse") -> None:
        if keep not in ("diverse", "central"):
            raise ValueError("keep is diverse or central")
        self.sign = -1.0 if keep == "diverse" else 1.0

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        if len(prefixes) == 1:
            return np.zeros(1)
        return self.sign * mean_similarity([words(p.text) for p in prefixes])


def mean_similarity(sets: Sequence[Set[str]]) -> np.ndarray:
    """Mean Jaccard similarity of each set to the others, ``[n]``; two empty sets are identical."""
    everything = slice(0, len(sets))
    shared = WordCounts(incidence(sets)).shared(everything, everything).astype(np.float64)
    sizes = np.diag(shared)
    union = sizes[:, None] + sizes[None, :] - shared
    similarity = np.where(union > 0, shared / np.maximum(union, 1), 1.0)
    return (similarity.sum(1) - 1) / (len(sets) - 1)
