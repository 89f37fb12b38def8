"""Selection by pairwise similarity: the most typical paths, or paths that differ from each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.api import Check, Origins, Path
from pruners.external_fixed.similarity import Space, centrality, farthest_first, in_order


class Central:
    """s_i = mean over j != i of cos(v_i, v_j), in [-1, 1]

    v_i represents the text of prefix i. A single path scores 0. ``diverse`` is the opposite rule.

    Args:
        encoder: "words" represents a text by its set of lower-cased words and costs nothing. Otherwise the folder or
            hub id of a sentence encoder, which truncates a text to its maximum input length.

    Raises:
        ValueError: if ``encoder`` is not a string.
    """

    quadrant = "external-fixed"
    needs = frozenset({"text"})
    origins = Origins()

    def __init__(self, encoder: str = "words") -> None:
        self.space = Space(encoder)
        self.cost_class = self.space.cost_class

    def identity(self) -> dict[str, Any]:
        return self.space.identity()

    def prepare(self, check: Check) -> None:
        self.space.load(check.device)

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return in_order(lambda paths: self.rank(self.space.paths(paths, check)), prefixes)

    def rank(self, similarity: np.ndarray) -> np.ndarray:
        """Scores ``[n]`` from pairwise similarities ``[n, n]``."""
        return centrality(similarity)


class Diverse(Central):
    """s_i = -(place of path i in a greedy max-min selection)

    The first chosen path scores 0, the last one -(N - 1). The selection starts with the most central path. It then
    adds, one at a time, the path with the lowest similarity to its nearest chosen path (farthest-point traversal with
    distance 1 - cos). A tie goes to the lower path index. For every k, the top k are a selection that covers the pool.
    """

    ranked_by = "votes"

    def rank(self, similarity: np.ndarray) -> np.ndarray:
        """Scores ``[n]``: a path scores higher the earlier the farthest-point traversal chooses it."""
        return -farthest_first(similarity)
