"""ST-BoN (arXiv 2503.01422; code Alsace08/ST-BoN): prefers the path with the most typical chain of embeddings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.api import Check, Decision, Origins, Path


class StBoN:
    """s_i = -(mean over j != i of (F_i - F_j)^2), with F the chain-of-embedding feature

    With h_l the mean state of layer l = 0, ..., Y:

    ``F = mean_l [ ||h_l - h_{l+1}|| / ||h_0 - h_Y|| - angle(h_l, h_{l+1}) / angle(h_0, h_Y) ]``

    The mean is over the positions that produced the prefix: from the last token of the prompt to the second to last
    token of the prefix. A single path scores 0. The published decision is the row ``st-bon-online``. Here a single read
    at L ranks paths for top k.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"trace"})
    origins = Origins("code")
    cost_class = "probe"

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        features = np.array(check.engine.trace(prefixes, _feature, before=1))
        return -distances(features)


class StBoNOnline:
    """Generate all paths up to c + tau tokens, finish the most typical one, and abort the others.

    c is the first length at which all paths differ or at which one has ended. tau is ``tau`` times c, rounded down, and
    at least 1. At each of the last tau lengths, the path with the lowest mean distance (F_i - F_j)^2 gets one vote,
    with F as in ``st-bon`` over the tokens so far. The path with the most votes finishes. A tie goes to the lower
    index.

    A path that ends before c + tau keeps the F of its end. The authors' code continues to average over its padding.

    Args:
        tau: length of the voting phase, as a multiple of c.

    Raises:
        ValueError: if ``tau`` is not positive.
    """

    quadrant = "internal-fixed"
    needs = frozenset({"trace"})
    cost_class = "probe"
    warmup = 0

    def __init__(self, tau: float = 1.0) -> None:
        if tau <= 0:
            raise ValueError("tau is a multiple of c, above 0")
        self.tau = tau
        self.origins = Origins("code", "code")

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        order = sorted(range(len(paths)), key=lambda i: paths[i].index)
        split = first_split([paths[i] for i in order])
        stop = split + max(1, int(self.tau * split))
        spent = np.array([min(len(p.tokens), stop) for p in paths])
        cuts = [replace(paths[i], tokens=paths[i].tokens[:stop], text="", stats=None, finish="length") for i in order]
        lengths = range(split + 1, stop + 1)
        traced = check.engine.trace(cuts, lambda states, path: _features(states, lengths), before=1)
        winner = order[most_votes(np.array(traced))]
        spent[winner] = len(paths[winner].tokens)
        weights = np.zeros(len(paths))
        weights[winner] = 1.0
        return Decision(spent, weights)


def first_split(paths: Sequence[Path]) -> int:
    """The first length at which all paths differ, or at which one has ended."""
    most = min(len(p.tokens) for p in paths)
    different = (t for t in range(1, most) if len({p.tokens[:t] for p in paths}) == len(paths))
    return next(different, most)


def most_votes(features: np.ndarray) -> int:
    """The path that is the most typical at the most lengths; a tie goes to the lower index. ``features`` ``[N,
    lengths]``."""
    votes = Counter(int(distances(column).argmin()) for column in features.T)
    return min(votes, key=lambda i: (-votes[i], i))


def distances(features: np.ndarray) -> np.ndarray:
    """Mean squared distance of each feature to the others, ``[n]``; 0 for a single feature."""
    return np.asarray(((features[:, None] - features[None, :]) ** 2).sum(1) / max(1, len(features) - 1))


def _feature(states: np.ndarray, path: Path) -> np.ndarray:
    return chain_feature(states[:, :-1].astype(np.float64).mean(1))


def _features(states: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """F after each of the given numbers of tokens. ``states`` ``[layers + 1, 1 + T, d]`` start at the last token of the
    prompt."""
    sums = states[:, :-1].astype(np.float64).cumsum(1)
    ends = [min(length, sums.shape[1]) for length in lengths]
    return np.array([chain_feature(sums[:, end - 1] / end) for end in ends])


def chain_feature(means: np.ndarray) -> np.ndarray:
    """F of one path, a scalar array, from the mean states of its layers ``[layers + 1, d]``."""
    h = means.astype(np.float64)
    steps, turns = np.linalg.norm(h[:-1] - h[1:], axis=-1), _angles(h[:-1], h[1:])
    whole, turn = np.linalg.norm(h[0] - h[-1]), _angles(h[0], h[-1])
    # A chain whose first and last states are equal has no scale, so its terms are 0.
    return np.asarray((steps.mean() / whole if whole else 0.0) - (turns.mean() / turn if turn else 0.0))


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = np.divide((a * b).sum(-1), lengths, out=np.ones(np.shape(lengths)), where=lengths > 0)
    return np.asarray(np.arccos(np.clip(cosine, -1.0, 1.0)))
