"""Slim-SC (arXiv 2509.13990; code hyscale-lab/slimsc): removes paths whose thoughts repeat those of another path."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from harness.api import Check, Origins, Path
from pruners.external_fixed.similarity import Space, comparable, in_order, mean_cosine
from pruners.external_fixed.thoughts import Thought, thoughts

PHRASES = "wait|alternatively|another way|double-check|make sure|verify|to confirm"  # from arXiv 2504.05419

TOGETHER = 8  # paths per block: their cosines with all later paths are computed together


class Redundancy:
    """The common part of both forms of Slim-SC: options, thoughts, and the choice between two similar paths.

    The default of 25 tokens for ``min_tokens`` is the paper's. The paper's list of phrases could not be verified, so
    the default is that of arXiv 2504.05419. The paper's encoder is sentence-transformers/all-mpnet-base-v2.

    Args:
        rule: which of two similar paths is removed. "random" (RP in the paper) draws one. "diversity" (DP) keeps the
            path whose thoughts have the lower mean cosine to each other (1 for a single thought). A tie goes to the
            path with more thoughts, then to the lower index.
        encoder: "words" compares sets of lower-cased words and costs nothing. Otherwise the folder or hub id of a
            sentence encoder.
        phrases: phrases that start a thought, separated by ``|``.
        min_tokens: the shortest thought, in tokens.

    Raises:
        ValueError: if an option is outside its range.
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
        """The thoughts of a path, in order. The last one is unfinished."""
        return thoughts(path.tokens, check.decode, self.phrases, self.min_tokens)

    def loser(self, pair: tuple[int, int], own: tuple[Any, Any], check: Check) -> int:
        """The path of a pair that is removed, given the vectors of the thoughts of both; the lower index comes first."""
        if self.rule == "random":
            return pair[int(check.rng.integers(2))]
        first, second = ((mean_cosine(v), -v.shape[0]) for v in own)
        return pair[0] if first > second else pair[1]


class SlimSC(Redundancy):
    """s_i = place of path i in the order of removal: 0 for the first removed, N - 1 for the last one left

    The similarity of two paths is the largest cosine between a thought of one and a thought of the other. Of the most
    similar pair of remaining paths, one is removed (``rule``), until one path is left. Ties go by index.

    Adapted: Slim-SC aborts chains above a similarity threshold while they are generated, which is the row
    ``slimsc-online``. Here the order of removal ranks paths for top k at L. The unfinished thought at L counts if it
    has at least ``min_tokens`` tokens or is the only one of its path.
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
    """Largest cosine between a thought of path i and a thought of path j, for all i < j in order, ``[n (n - 1) / 2]``.

    Args:
        rows: vectors of all thoughts, ``[thoughts, d]``, sorted by path.
        ends: the thoughts of path i are ``rows[ends[i] : ends[i + 1]]``.
    """
    space, last, pairs = comparable(rows), int(ends[-1]), []
    for start in range(0, len(ends) - 2, TOGETHER):
        stop = min(start + TOGETHER, len(ends) - 2)
        block = space.cosines(slice(ends[start], ends[stop]), slice(ends[start], last))
        by_path = np.maximum.reduceat(block, ends[start:-1] - ends[start], axis=1)
        by_pair = np.maximum.reduceat(by_path, ends[start:stop] - ends[start], axis=0)
        pairs += [row[i + 1 :] for i, row in enumerate(by_pair)]
    return np.concatenate(pairs) if pairs else np.empty(0)
