"""Votes over canonical answers: each vote turns scores into weights, and the answer with the largest total weight wins.

A path without an answer has no vote, although some votes include it in the ranking. Ties go to the answer seen first. A
vote is a function of the kept paths in index order and their scores, so it is replayed and never recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.api import PathpruneError

Weigh = Callable[[np.ndarray, np.ndarray], np.ndarray]  # scores [k], which paths have an answer [k] -> weights [k]

BORDA_POWER = 0.5  # the default of Self-Certainty's code (arXiv 2502.18581)
FILTERED_SHARE = 0.1  # DeepConf's eta (arXiv 2508.15260): the top 10 % by confidence vote, weighted


def _weighted(scores: np.ndarray, answered: np.ndarray) -> np.ndarray:
    if (scores[answered] < 0).any():
        raise PathpruneError("vote 'weighted' needs scores of 0 or more, such as probabilities; use borda")
    return scores


def _borda(scores: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """(k - rank)^p, with rank 0 for the best of all k paths, answered or not (Self-Certainty, arXiv 2502.18581)."""
    return np.asarray((len(scores) - _ranks(scores)) ** BORDA_POWER)


def _filtered(scores: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """DeepConf's filtered vote: paths with an answer and a score in the top share vote, weighted by their scores."""
    bar = np.quantile(scores[answered], 1 - FILTERED_SHARE)
    return np.where(scores >= bar, _weighted(scores, answered), 0.0)


def _best(scores: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Best of N: the answer of the highest score among the paths that have one."""
    return np.asarray(_ranks(np.where(answered, scores, -np.inf)) == 0, dtype=float)


def _ranks(scores: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(-scores, kind="stable"), kind="stable")


VOTES: dict[str, Weigh] = {
    "majority": lambda scores, answered: np.ones(scores.shape),
    "weighted": _weighted,
    "borda": _borda,
    "filtered": _filtered,
    "best": _best,
}


def weights(rule: str, scores: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """The vote weights of k kept paths, float64 ``[k]``; 0 for a path without an answer.

    Args:
        rule: a name in ``VOTES``.
        scores: ``[k]``, of paths in index order.
        answered: bool ``[k]``, which paths have an answer.

    Raises:
        PathpruneError: the vote does not accept negative scores.
    """
    if not answered.any():
        return np.zeros(len(scores))
    return np.where(answered, VOTES[rule](np.asarray(scores, dtype=np.float64), answered), 0.0)


def vote(rule: str, answers: Sequence[str | None], scores: np.ndarray) -> str | None:
    """The winning answer, None if no path votes. For the arguments see ``weights``."""
    answered = np.array([answer is not None for answer in answers], dtype=bool)
    return heaviest(answers, weights(rule, np.asarray(scores), answered))


def majority(answers: Sequence[str | None]) -> str | None:
    """The majority vote: the most frequent answer."""
    return vote("majority", answers, np.zeros(len(answers)))


def heaviest(answers: Sequence[str | None], weight: np.ndarray) -> str | None:
    """The answer with the largest total weight, ties to the one seen first; None if no path votes."""
    totals: dict[str, float] = {}
    for answer, w in zip(answers, weight, strict=True):
        if answer is not None and w > 0:
            totals[answer] = totals.get(answer, 0.0) + float(w)
    return max(totals, key=totals.__getitem__) if totals else None
