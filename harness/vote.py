"""Votes over canonical answers: each turns answers and scores into weights, and the heaviest answer wins.

A path without an answer does not vote; a tie goes to the answer seen first. A vote is a function of the kept paths in
index order and of their scores, so it is replayed, never recorded with the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.api import PathpruneError

Weigh = Callable[[np.ndarray], np.ndarray]  # scores [..., k] of the paths that vote -> weights [..., k]

BORDA_POWER = 0.5  # the default of Self-Certainty's code (arXiv 2502.18581)
FILTERED_SHARE = 0.1  # DeepConf's eta (arXiv 2508.15260): the top 10 % by confidence vote, weighted


def _weighted(scores: np.ndarray) -> np.ndarray:
    if (scores < 0).any():
        raise PathpruneError("vote 'weighted' needs scores of 0 or more, as probabilities are; use borda")
    return scores


def _borda(scores: np.ndarray) -> np.ndarray:
    """(k - rank)^p with rank 0 the best (Self-Certainty, arXiv 2502.18581); ties to the lower index."""
    return (scores.shape[-1] - _ranks(scores)) ** BORDA_POWER


def _filtered(scores: np.ndarray) -> np.ndarray:
    """DeepConf's filtered vote: paths at or above the percentile vote, weighted by their scores."""
    if not scores.shape[-1]:
        return scores
    bar = np.quantile(scores, 1 - FILTERED_SHARE, axis=-1, keepdims=True)
    return np.where(scores >= bar, _weighted(scores), 0.0)


def _best(scores: np.ndarray) -> np.ndarray:
    """Best of N: the answer of the highest score."""
    return (_ranks(scores) == 0).astype(float)


def _ranks(scores: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(-scores, axis=-1, kind="stable"), axis=-1, kind="stable")


VOTES: dict[str, Weigh] = {
    "majority": lambda scores: np.ones(scores.shape),
    "weighted": _weighted,
    "borda": _borda,
    "filtered": _filtered,
    "best": _best,
}


def weights(rule: str, scores: np.ndarray) -> np.ndarray:
    """Weights ``[..., k]`` of k voters with these scores, float64."""
    return np.asarray(VOTES[rule](np.asarray(scores, dtype=np.float64)), dtype=np.float64)


def vote(rule: str, answers: Sequence[str | None], scores: np.ndarray) -> str | None:
    """The winning answer. Only paths with an answer are ranked."""
    voters = [i for i, answer in enumerate(answers) if answer is not None]
    return heaviest([answers[i] for i in voters], weights(rule, np.asarray(scores)[voters]))


def majority(answers: Sequence[str | None]) -> str | None:
    """The most frequent answer."""
    return vote("majority", answers, np.zeros(len(answers)))


def heaviest(answers: Sequence[str | None], weight: np.ndarray) -> str | None:
    """The answer of the largest total weight, ties to the one seen first; None where nobody votes."""
    totals: dict[str, float] = {}
    for answer, w in zip(answers, weight, strict=True):
        if answer is not None and w > 0:
            totals[answer] = totals.get(answer, 0.0) + float(w)
    return max(totals, key=totals.__getitem__) if totals else None
