"""A path as a stream of text, and its thoughts: what lies between trigger phrases."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Decode = Callable[[Sequence[int]], str]

STRIDE, CONTEXT = 64, 8  # tokens between anchors, and before one: enough for a character's bytes and a leading space
PARTIAL = "\ufffd"  # how an unfinished character is decoded


@dataclass(frozen=True)
class Thought:
    """``completed`` is how many tokens had been generated when the phrase that ends it was complete."""

    text: str
    tokens: int
    completed: int


class Stream:
    """The text that a reader has seen after each token, unfinished characters held back.

    Decoded piece by piece from the anchors, so that a long path costs time in proportion to its length.
    """

    def __init__(self, tokens: Sequence[int], decode: Decode) -> None:
        self._tokens, self._decode = tokens, decode
        self._counts, self._ends = range(len(tokens) + 1), [0]
        self.text = ""
        for stop in [*range(STRIDE, len(tokens), STRIDE), len(tokens)]:
            self.text += self._piece(len(self._ends) - 1, stop)
            self._ends.append(len(self.text))

    def _piece(self, anchor: int, stop: int) -> str:
        at = anchor * STRIDE
        start = max(0, at - CONTEXT)
        known = self._decode(self._tokens[start:at]).rstrip(PARTIAL) if at else ""
        return self._decode(self._tokens[start:stop])[len(known) :].rstrip(PARTIAL)

    def length(self, count: int) -> int:
        """Characters after ``count`` tokens."""
        anchor = min(count // STRIDE, len(self._ends) - 2)
        return self._ends[anchor] + len(self._piece(anchor, count))

    def tokens_before(self, character: int) -> int:
        """Tokens that end at or before this character."""
        return bisect_right(self._counts, character, *self._between(bisect_right, character), key=self.length) - 1

    def tokens_until(self, character: int) -> int:
        """Tokens after which this many characters are there."""
        return bisect_left(self._counts, character, *self._between(bisect_left, character), key=self.length)

    def _between(self, bisect: Callable[[list[int], int], int], character: int) -> tuple[int, int]:
        """Where to search: between two anchors, whose lengths are known."""
        anchor = bisect(self._ends, character)
        low, high = (min(a * STRIDE, len(self._tokens)) for a in (max(0, anchor - 1), anchor))
        return low, high + 1


def thoughts(tokens: Sequence[int], decode: Decode, phrases: Sequence[str], minimum: int) -> list[Thought]:
    """Thoughts in order; the last one is still running, ``completed`` at the path's last token.

    A thought starts with a phrase (any case, at the beginning of a word) and ends before the next; one of fewer than
    ``minimum`` tokens goes on to the phrase after it. Phrases count in the order in which they are complete in the
    stream, so nothing that follows can move an earlier border.
    """
    stream = Stream(tokens, decode)
    spans = (m.span() for p in phrases for m in re.finditer(rf"(?<!\w){re.escape(p)}", stream.text, re.IGNORECASE))
    out: list[Thought] = []
    start, before = 0, 0
    for stop, end in sorted(spans, key=lambda span: (span[1], span[0])):
        after = stream.tokens_before(stop)
        if stop > start and after - before >= minimum:
            out.append(Thought(stream.text[start:stop], after - before, stream.tokens_until(end)))
            start, before = stop, after
    return [*out, Thought(stream.text[start:], len(tokens) - before, len(tokens))]
