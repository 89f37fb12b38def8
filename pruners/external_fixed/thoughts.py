"""Splits a stream of tokens into thoughts: pieces of text that start with a trigger phrase."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Decode = Callable[[Sequence[int]], str]

STRIDE, CONTEXT = 64, 8  # tokens between anchors, and of context before each (a character's bytes, a space)
PARTIAL = "\ufffd"  # stands for an unfinished character in decoded text


@dataclass(frozen=True)
class Thought:
    """A piece of a path's text. ``completed`` is the number of generated tokens at which the phrase that ends it is
    complete."""

    text: str
    tokens: int
    completed: int


class Stream:
    """The text after each generated token. Unfinished characters are held back.

    The text is decoded piece by piece from anchors, so the time is linear in the length of the path.
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
        """Number of characters after ``count`` tokens."""
        anchor = min(count // STRIDE, len(self._ends) - 2)
        return self._ends[anchor] + len(self._piece(anchor, count))

    def tokens_before(self, character: int) -> int:
        """Number of tokens that end at or before this character."""
        return bisect_right(self._counts, character, *self._between(bisect_right, character), key=self.length) - 1

    def tokens_until(self, character: int) -> int:
        """Smallest number of tokens whose text has this many characters."""
        return bisect_left(self._counts, character, *self._between(bisect_left, character), key=self.length)

    def _between(self, bisect: Callable[[list[int], int], int], character: int) -> tuple[int, int]:
        """Range of the search: between two anchors, at which the length of the text is known."""
        anchor = bisect(self._ends, character)
        low, high = (min(a * STRIDE, len(self._tokens)) for a in (max(0, anchor - 1), anchor))
        return low, high + 1


def thoughts(tokens: Sequence[int], decode: Decode, phrases: Sequence[str], minimum: int) -> list[Thought]:
    """The thoughts of a path, in order. The last one is unfinished, and its ``completed`` is the length of the path.

    A thought starts with a phrase at the beginning of a word, regardless of case, and ends before the next phrase. A
    thought of fewer than ``minimum`` tokens continues to the phrase after that. Phrases take effect in the order in
    which they are complete in the stream, so later text never moves an earlier border.

    Args:
        tokens: token ids of the path.
        decode: token ids to text.
        phrases: trigger phrases.
        minimum: the shortest thought, in tokens.
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
