"""The common end of rules that force answers from running paths: which paths vote for the answer at which the rule
stops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Decision, Path


def settled(paths: Sequence[Path], spent: Sequence[int], holders: Sequence[int]) -> Decision:
    """The decision of a rule that stops at an answer which running paths may have given only because they were forced.

    Finished paths with this answer vote. If there is none, the first holder finishes and votes alone, because an
    aborted path has no vote.

    Args:
        paths: the problem's paths, in the order of ``spent`` and of the decision.
        spent: tokens at which each path ended or was stopped.
        holders: positions of the paths with this answer, ordered by path index.
    """
    tokens, weights = np.array(spent, dtype=int), np.zeros(len(paths))
    voters = [i for i in holders if tokens[i] == len(paths[i].tokens)] or list(holders[:1])
    for i in voters:
        tokens[i], weights[i] = len(paths[i].tokens), 1.0
    return Decision(tokens, weights)
