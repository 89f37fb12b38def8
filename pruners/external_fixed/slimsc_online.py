"""Slim-SC with its own decision rule: a chain is aborted while it streams, at the first repeated thought."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import Check, Decision, Path
from pruners.external_fixed.similarity import by_index, comparable
from pruners.external_fixed.slimsc import PHRASES, Redundancy

BLOCK = 256  # thoughts whose cosines with all earlier ones are worked out at a time


class SlimSCOnline(Redundancy):
    """Abort one of two live chains when a new thought of one has cosine > ``threshold`` with a thought of the other.

    All chains generate one token per time step. A thought is complete when the phrase behind it is; it is then embedded
    and compared with the completed thoughts of the other live chains (neither aborted nor ended), of which the most
    similar decides. Which of the two goes is judged by their thoughts so far; one of a pair stays, so the last chain
    does. Nothing is aborted over the first ``delay`` thoughts of a chain. Survivors vote with weight 1; reading is
    charged for thoughts of chains that are live when they complete.

    arXiv 2509.13990. Its thresholds lie between 0.95 and 0.98; which one, the phrases and the delay could not be
    verified. With ``encoder="words"`` a cosine means something else: set ``threshold`` on problems not reported on.
    """

    warmup = 0

    def __init__(
        self,
        threshold: float = 0.98,
        delay: int = 0,
        rule: str = "diversity",
        encoder: str = "words",
        phrases: str = PHRASES,
        min_tokens: int = 25,
    ) -> None:
        super().__init__(rule, encoder, phrases, min_tokens)
        if not -1 <= threshold <= 1 or delay < 0:
            raise ValueError("threshold is a cosine, -1 to 1; delay is a number of thoughts, 0 or more")
        self.threshold, self.delay = threshold, delay

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        order = by_index(paths)
        spent = np.empty(len(paths), dtype=int)
        spent[order] = self._spent([paths[i] for i in order], check)
        return Decision(spent, (spent == [len(p.tokens) for p in paths]).astype(float))

    def _spent(self, chains: Sequence[Path], check: Check) -> np.ndarray:
        done = [self.split(p, check)[:-1] for p in chains]  # the last one never completes
        stream = sorted((t.completed, c, n, t.text) for c, split in enumerate(done) for n, t in enumerate(split))
        rows, costs = self.space.embed([text for *_, text in stream])
        owner = np.array([chain for _, chain, *_ in stream], dtype=int)
        spent = np.array([len(p.tokens) for p in chains])
        seen = np.zeros(len(stream), dtype=bool)
        space, block = comparable(rows), np.empty((0, 0))
        for row, (now, chain, number, _) in enumerate(stream):
            if row % BLOCK == 0:
                block = space.cosines(slice(row, row + BLOCK), slice(0, row + BLOCK))
            if now >= spent[chain]:
                continue
            check.charge(costs[row])
            rivals = seen & (owner != chain) & (spent[owner] > now)
            seen[row] = True
            if number < self.delay or not rivals.any():
                continue
            similarity = np.where(rivals[:row], block[row % BLOCK, :row], -np.inf)
            if similarity.max() > self.threshold:
                low, high = sorted((chain, int(owner[similarity.argmax()])))
                vectors = rows[(owner == low) & seen], rows[(owner == high) & seen]
                spent[self.loser((low, high), vectors, check)] = now
        return spent
