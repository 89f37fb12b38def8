"""Word overlap between prefixes: the Type I baseline of the STOP paper (arXiv 2604.16029, App. C.5)."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np

from harness.api import Check, Origins, Path, pieces
from pruners.external_fixed.similarity import WordCounts, incidence, words


class Jaccard:
    """s_i = -(mean over j != i of |A_i & A_j| / |A_i | A_j|)

    A_i is the set of token ids of prefix i, or the set of its lower-cased words. A high score means little redundancy.
    A single path scores 0. Imported texts without token ids are compared by words.

    Adapted: the paper specifies neither the tokenisation nor the aggregation. Both are choices of this benchmark. The
    scores of N paths take one sparse matrix product and O(N^2) memory, whatever the size of the vocabulary.

    Args:
        keep: "diverse" keeps the prefixes that overlap least. "central" changes the sign and keeps the most typical
            ones; no paper publishes this variant.
        units: "tokens" or "words".

    Raises:
        ValueError: if an option has none of these values.
    """

    quadrant = "external-fixed"
    cost_class = "free"

    def __init__(self, keep: str = "diverse", units: str = "tokens") -> None:
        if keep not in ("diverse", "central") or units not in ("tokens", "words"):
            raise ValueError("keep is diverse or central, units are tokens or words")
        self.sign, self.units = (-1.0 if keep == "diverse" else 1.0), units
        self.needs = frozenset({"text"}) if units == "words" else frozenset[str]()
        self.origins = Origins("adapted", "paper", by="STOP") if keep == "diverse" else Origins()

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        if len(prefixes) == 1:
            return np.zeros(1)
        sets = [words(p.text) for p in prefixes] if self.units == "words" else [*map(set, pieces(prefixes))]
        return self.sign * mean_similarity(sets)


def mean_similarity(sets: Sequence[Set[Any]]) -> np.ndarray:
    """Mean Jaccard similarity of each set to the others, float64 ``[n]``. Two empty sets have similarity 1."""
    everything = slice(0, len(sets))
    shared = WordCounts(incidence(sets)).shared(everything, everything).astype(np.float64)
    sizes = np.diag(shared)
    union = sizes[:, None] + sizes[None, :] - shared
    similarity = np.where(union > 0, shared / np.maximum(union, 1), 1.0)
    return (similarity.sum(1) - 1) / (len(sets) - 1)
