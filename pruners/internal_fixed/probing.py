"""What rules share that force answers of running paths: where the answer they stop at comes from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Decision, Path


def settled(paths: Sequence[Path], spent: Sequence[int], holders: Sequence[int]) -> Decision:
    """The decision of a rule that stops at an answer which running paths may hold only because they were forced.

    Finished paths that hold it vote. Where none does, the first of the holders goes on to its end and votes alone: a path
    that is aborted has no vote.

    Args:
        paths: of the problem, in the order of ``spent`` and of the decision.
        spent: tokens at which each of them ended or was stopped.
        holders: places of the paths that hold the answer, by index.
    """
    tokens, weights = np.array(spent, dtype=int), np.zeros(len(paths))
    voters = [i for i in holders if tokens[i] == len(paths[i].tokens)] or list(holders[:1])
    for i in voters:
        tokens[i], weights[i] = len(paths[i].tokens), 1.0
    return Decision(tokens, weights)
