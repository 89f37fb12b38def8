"""The tokens of a stored path: ids where somebody recorded them, and otherwise their number and where each ends in the text.

``Tokens`` is what ``Path.tokens`` holds for imported paths. A slice of it still knows the text that it stands for, so
``Path.cut`` cuts text without a tokenizer. Whoever wants ids that nobody recorded gets an error, never a number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, overload

import numpy as np

from harness.api import UnavailableError


@dataclass(frozen=True, eq=False)
class Document:
    """One finished path: ``length`` tokens, their ``ids``, and where in ``text`` each of them ends.

    ``rate``: characters per token, used where ``ends`` is None: the same for all paths of a pool, so that a prefix does
    not tell how long its path will be.
    """

    name: str
    length: int
    text: str | None = None
    ids: np.ndarray | None = None
    ends: np.ndarray | None = None
    rate: float | None = None

    def end(self, count: int) -> int:
        """Characters of the first ``count`` tokens."""
        text = self.text or ""
        if count <= 0:
            return 0
        if count >= self.length:
            return len(text)
        if self.ends is not None:
            return int(self.ends[count - 1])
        return min(len(text), round((self.rate or 0.0) * count))


class Tokens(Sequence[int]):
    """Tokens ``start`` to ``stop`` of a document."""

    __slots__ = ("document", "start", "stop")

    def __init__(self, document: Document, start: int = 0, stop: int | None = None) -> None:
        self.document, self.start = document, start
        self.stop = document.length if stop is None else stop

    @property
    def text(self) -> str:
        """The text that these tokens stand for."""
        document = self.document
        return (document.text or "")[document.end(self.start) : document.end(self.stop)]

    @property
    def ids(self) -> np.ndarray:
        """Ids, int32.

        Raises:
            UnavailableError: nobody recorded them.
        """
        if self.document.ids is None:
            raise UnavailableError(
                f"path {self.document.name} stands without token ids, which this reads; import a file that has them, and cut at recorded tokens"
            )
        return self.document.ids[self.start : self.stop]

    def chosen(self, which: np.ndarray) -> Tokens:
        """Those that a mask chooses, as a document of their own, whose text is that of each of them."""
        document = self.document
        bounds = [document.end(count) for count in range(self.start, self.stop + 1)]
        pieces = [
            (document.text or "")[a:b] for (a, b), is_chosen in zip(pairwise(bounds), which, strict=True) if is_chosen
        ]
        ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64).astype(np.int32)
        return Tokens(Document(document.name, len(pieces), "".join(pieces), self.ids[which], ends))

    @property
    def words(self) -> tuple[str, ...]:
        """Lower-cased words of the text.

        Raises:
            UnavailableError: nobody recorded a text.
        """
        if self.document.text is None:
            raise UnavailableError(f"path {self.document.name} has neither token ids nor a text; import one of them")
        return tuple(self.text.lower().split())

    def __len__(self) -> int:
        return self.stop - self.start

    @overload
    def __getitem__(self, which: int) -> int: ...
    @overload
    def __getitem__(self, which: slice) -> Sequence[int]: ...
    def __getitem__(self, which: int | slice) -> Any:
        if not isinstance(which, slice):
            return int(self.ids[which])
        start, stop, step = which.indices(len(self))
        if step != 1:
            return tuple(self)[which]
        return Tokens(self.document, self.start + start, self.start + max(start, stop))

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids.tolist())

    def __add__(self, other: Sequence[int]) -> tuple[int, ...]:
        return (*self, *other)

    def __radd__(self, other: Sequence[int]) -> tuple[int, ...]:
        return (*other, *self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        if not len(self):
            return True
        if isinstance(other, Tokens):
            if self.document is other.document and self.start == other.start:
                return True
            if self.document.ids is None or other.document.ids is None:
                return self.document.ids is other.document.ids and self.text == other.text
            return bool(np.array_equal(self.ids, other.ids))
        return self.document.ids is not None and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self)) if self.document.ids is not None else hash((len(self), self.text))

    def __repr__(self) -> str:
        return f"<{len(self)} tokens of {self.document.name}>"


def is_whole(tokens: Sequence[int]) -> bool:
    """Are these all tokens of a stored path?"""
    return isinstance(tokens, Tokens) and (tokens.start, tokens.stop) == (0, tokens.document.length)


def content(tokens: Sequence[int]) -> str:
    """SHA-256 of tokens, or where nobody recorded ids of their text and number."""
    if isinstance(tokens, Tokens) and tokens.document.ids is None:
        said = f"{len(tokens)} {tokens.document.text}".encode(errors="surrogatepass")
        return hashlib.sha256(said).hexdigest()
    ids = tokens.ids if isinstance(tokens, Tokens) else np.asarray(tokens, np.int32)
    return hashlib.sha256(np.asarray(ids, np.int32).tobytes()).hexdigest()
