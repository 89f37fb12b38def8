"""Slim-SC with its published decision rule (arXiv 2509.13990): a chain is aborted while it is generated, at its first
repeated thought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.api import Check, Cost, Decision, Path
from pruners.external_fixed.similarity import Space, by_index, comparable
from pruners.external_fixed.slimsc import PHRASES, Redundancy

BLOCK = 256  # thoughts per block: their cosines with all earlier thoughts are computed together


class SlimSCOnline(Redundancy):
    """Abort one of two live chains when a new thought of one has cosine > ``threshold`` with a thought of the other.

    All chains generate one token per time step. A thought is complete when the phrase that starts the next one is
    complete. It is then embedded and compared with the completed thoughts of all other live chains, that is, chains
    that have neither ended nor been aborted. The chain with the most similar thought forms the pair, and ``rule``
    decides which of the two is aborted from their thoughts so far. One chain of a pair always stays, so at least one
    chain finishes.

    Surviving chains vote with weight 1. Reading is charged for every thought of a chain that is live when the thought
    is complete.

    Adapted: the paper uses thresholds from 0.95 to 0.98. Its choice among them, the phrases and the delay could not be
    verified. Under ``encoder="words"`` cosines have another scale, so choose ``threshold`` on problems that you do not
    report on.

    Args:
        threshold: the cosine above which two thoughts count as the same, from -1 to 1.
        delay: thoughts at the start of each chain that never cause an abort.
        rule: see ``slimsc``.
        encoder: see ``slimsc``.
        phrases: see ``slimsc``.
        min_tokens: the shortest thought, in tokens.

    Raises:
        ValueError: if an option is outside its range.
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
        done = [self.split(p, check)[:-1] for p in chains]  # the last thought is unfinished
        stream = sorted((t.completed, c, n, t.text) for c, split in enumerate(done) for n, t in enumerate(split))
        self.space.load(check.device)
        texts = [text for *_, text in stream]
        vectors = (
            Ahead(self.space.read(texts, check)) if self.space.name == "words" else AtNeed(self.space, texts, check)
        )
        owner = np.array([chain for _, chain, *_ in stream], dtype=int)
        spent = np.array([len(p.tokens) for p in chains])
        seen = np.zeros(len(stream), dtype=bool)
        for row, (now, chain, number, _) in enumerate(stream):
            if now >= spent[chain]:
                continue
            cosines = vectors.cosines(row)
            rivals = seen & (owner != chain) & (spent[owner] > now)
            seen[row] = True
            if number < self.delay or not rivals.any():
                continue
            similarity = np.where(rivals[:row], cosines, -np.inf)
            if similarity.max() > self.threshold:
                low, high = sorted((chain, int(owner[similarity.argmax()])))
                both = vectors.rows[(owner == low) & seen], vectors.rows[(owner == high) & seen]
                spent[self.loser((low, high), both, check)] = now
        return spent


class Ahead:
    """Vectors of all thoughts, computed in advance because words cost nothing; ``rows`` ``[thoughts, d]``."""

    def __init__(self, rows: Any) -> None:
        self.rows, self._space, self._block, self._start = rows, comparable(rows), np.empty((0, 0)), 0

    def cosines(self, row: int) -> np.ndarray:
        """Cosines of one thought with all earlier thoughts, ``[row]``."""
        if not self._start <= row < self._start + len(self._block):
            self._start = row - row % BLOCK
            self._block = self._space.cosines(slice(self._start, self._start + BLOCK), slice(0, self._start + BLOCK))
        return np.asarray(self._block[row - self._start, :row])


class AtNeed:
    """Vectors of thoughts, read and charged when the thought is complete; ``rows`` ``[thoughts, d]``.

    Thoughts that a chain did not live to complete are never read.
    """

    def __init__(self, space: Space, texts: Sequence[str], check: Check) -> None:
        self._space, self._texts, self._check = space, texts, check
        self._known: dict[str, tuple[np.ndarray, Cost]] = {}
        self.rows = np.empty((len(texts), 0))

    def cosines(self, row: int) -> np.ndarray:
        """Cosines of one thought with all earlier thoughts, ``[row]``; 0 for thoughts that were never read."""
        text = self._texts[row]
        if text not in self._known:
            (vector,), (cost,) = self._space.embed([text])
            self._known[text] = vector, cost
            self._check.charge(cost, cold=0)
        vector, cost = self._known[text]
        self._check.charge(Cost(), cold=cost.reread)
        if not self.rows.shape[1]:
            self.rows = np.zeros((len(self._texts), len(vector)))
        self.rows[row] = vector
        return np.asarray(self.rows[:row] @ vector)
