"""Early answers: does the prefix already state an answer?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Origins, Path


class Answered:
    """s_i = 1 if the task's parser finds an answer in the prefix, else 0."""

    quadrant = "control"
    needs = frozenset({"text"})
    origins = Origins()
    pointwise = True

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return np.array([float(check.answer(p.text) is not None) for p in prefixes])
