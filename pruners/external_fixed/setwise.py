"""Set-wise selection by similarity: the most typical paths, or paths that are unlike each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.api import Check, Origins, Path
from pruners.external_fixed.similarity import Space, centrality, farthest_first, in_order


class Central:
    """s_i = mean over j != i of cos(v_i, v_j), in [-1, 1]; 0 for a single path.

    v_i is the vector of the prefix's text: its set of lower-cased words (``encoder="words"``, free) or the embedding
    by an encoder, which reads no more of it than its own maximum (see ``Space``). ``diverse`` is the opposite.
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
        """Scores ``[n]`` from the similarities of all pairs ``[n, n]``."""
        return centrality(similarity)


class Diverse(Central):
    """s_i = -(place of path i in a greedy max-min selection): 0 for the first chosen, -(N - 1) for the last.

    First the most central path, then always the one whose most similar chosen path is least similar (farthest-point
    traversal over 1 - cos); a tie goes to the lower path index. The top k are k paths that cover the pool, for any k.
    """

    ranked_by = "votes"

    def rank(self, similarity: np.ndarray) -> np.ndarray:
        """Scores ``[n]``: the earlier a path is chosen farthest-first, the higher."""
        return -farthest_first(similarity)
