"""Slim-SC (arXiv 2509.13990; code hyscale-lab/slimsc): paths whose thoughts repeat another path's are redundant."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from harness.api import Check, Origins, Path
from pruners.external_fixed.similarity import Space, comparable, in_order, mean_cosine
from pruners.external_fixed.thoughts import Thought, thoughts

PHRASES = "wait|alternatively|another way|double-check|make sure|verify|to confirm"  # those of arXiv 2504.05419

TOGETHER = 8  # paths whose cosines with all later ones are worked out at a time


class Redundancy:
    """What both forms of Slim-SC share: options, thoughts, and which of two similar paths goes.

    ``rule`` "random" (RP) tosses a coin; "diversity" (DP) keeps the path whose own thoughts have the lower mean cosine
    among themselves (1 for a single thought), then the one with more thoughts, then the lower index. A thought has at
    least ``min_tokens`` tokens; the 25 are the method's own. Its list of ``phrases`` (separated by |) could not be
    verified: the default is that of another paper. Its encoder is sentence-transformers/all-mpnet-base-v2: to use it or
    any other, name it with ``encoder``; "words" compares sets of lower-cased words instead, and is free.
    """

    quadrant = "external-fixed"
    needs = frozenset({"text"})
    origins = Origins("adapted", "adapted")
    ranked_by = "votes"

    def __init__(
        self, rule: str = "diversity", encoder: str = "words", phrases: str = PHRASES, min_tokens: int = 25
    ) -> None:
        self.space = Space(encoder)
        self.cost_class = self.space.cost_class
        self.phrases = [p.strip() for p in str(phrases).split("|")]
        if rule not in ("random", "diversity"):
            raise ValueError("rule is random or diversity")
        if not all(self.phrases) or min_tokens < 1:
            raise ValueError("phrases are separated by |, none of them empty; min_tokens is 1 or more")
        self.rule, self.min_tokens = rule, min_tokens

    def identity(self) -> dict[str, Any]:
        return self.space.identity()

    def prepare(self, check: Check) -> None:
        self.space.load(check.device)

    def split(self, path: Path, check: Check) -> list[Thought]:
        """The thoughts of a path, in order; the last one is still running."""
        return thoughts(path.tokens, check.decode, self.phrases, self.min_tokens)

    def loser(self, pair: tuple[int, int], own: tuple[Any, Any], check: Check) -> int:
        """Which of two paths goes, given the vectors of their thoughts; the lower index comes first."""
        if self.rule == "random":
            return pair[int(check.rng.integers(2))]
        first, second = ((mean_cosine(v), -v.shape[0]) for v in own)
        return pair[0] if first > second else pair[1]


class SlimSC(Redundancy):
    """s_i = how long path i stays when the pool is thinned out: 0 for the first removed, N - 1 for the last left.

    The similarity of two paths is the largest cosine between a thought of one and a thought of the other. The most
    similar pair of remaining paths loses one of the two, until one path is left; ties go by index.

    Adapted: Slim-SC aborts chains above a threshold while they stream (``slimsc-online``); here the order serves top-k
    at the prefix. The thought still running there counts if it has ``min_tokens`` or the path has no other.
    """

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return in_order(lambda paths: self._places(paths, check), prefixes)

    def _places(self, paths: Sequence[Path], check: Check) -> np.ndarray:
        split = [self.split(p, check) for p in paths]
        kept = [[t.text for n, t in enumerate(s) if n == 0 or t.tokens >= self.min_tokens] for s in split]
        self.space.load(check.device)
        rows = self.space.read([text for texts in kept for text in texts], check)
        ends = np.cumsum([0, *map(len, kept)])
        vectors = [rows[a:b] for a, b in pairwise(ends)]
        first, second = np.triu_indices(len(paths), 1)
        nearest = nearest_thoughts(rows, ends)
        removal = np.full(len(paths), len(paths) - 1)
        gone: set[int] = set()
        for pair in np.argsort(-nearest, kind="stable"):
            i, j = int(first[pair]), int(second[pair])
            if i not in gone and j not in gone:
                loser = self.loser((i, j), (vectors[i], vectors[j]), check)
                removal[loser] = len(gone)
                gone.add(loser)
        return removal


def nearest_thoughts(rows: Any, ends: np.ndarray) -> np.ndarray:
    """Largest cosine between a thought of path i and one of path j, of every i < j in order, ``[n (n - 1) / 2]``.

    ``rows`` ``[thoughts, d]`` are path after path, those of path i from ``ends[i]`` to ``ends[i + 1]``.
    """
    space, last, pairs = comparable(rows), int(ends[-1]), []
    for start in range(0, len(ends) - 2, TOGETHER):
        stop = min(start + TOGETHER, len(ends) - 2)
        block = space.cosines(slice(ends[start], ends[stop]), slice(ends[start], last))
        by_path = np.maximum.reduceat(block, ends[start:-1] - ends[start], axis=1)
        by_pair = np.maximum.reduceat(by_path, ends[start:stop] - ends[start], axis=0)
        pairs += [row[i + 1 :] for i, row in enumerate(by_pair)]
    return np.concatenate(pairs) if pairs else np.empty(0)
