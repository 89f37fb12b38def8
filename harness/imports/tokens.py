"""The tokens of a stored path: recorded ids if there are any, else only their number and where each ends in the text.

``Path.tokens`` of an imported path is a ``Tokens``. A slice of it still knows its text, so ``Path.cut`` needs no tokenizer.
Reading ids that were never recorded raises an error.
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
    """One finished path: ``length`` tokens, their ``ids``, and the offset in ``text`` at which each ends.

    ``rate``: characters per token, used if ``ends`` is None. It is the same for all paths of a pool, because a rate per path
    would leak the path's final length into its prefix.
    """

    name: str
    length: int
    text: str | None = None
    ids: np.ndarray | None = None
    ends: np.ndarray | None = None
    rate: float | None = None

    def end(self, count: int) -> int:
        """Number of characters of the first ``count`` tokens."""
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
        """The text of these tokens."""
        document = self.document
        return (document.text or "")[document.end(self.start) : document.end(self.stop)]

    @property
    def ids(self) -> np.ndarray:
        """Token ids, int32.

        Raises:
            UnavailableError: no ids were recorded.
        """
        if self.document.ids is None:
            raise UnavailableError(
                f"path {self.document.name} has no token ids, which this method reads; import a file with token ids, and cut at recorded tokens"
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
            UnavailableError: no text was recorded.
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
    """Are these the tokens of a whole stored path?"""
    return isinstance(tokens, Tokens) and (tokens.start, tokens.stop) == (0, tokens.document.length)


def content(tokens: Sequence[int]) -> str:
    """SHA-256 of the token ids, or of text and length if no ids were recorded."""
    if isinstance(tokens, Tokens) and tokens.document.ids is None:
        said = f"{len(tokens)} {tokens.document.text}".encode(errors="surrogatepass")
        return hashlib.sha256(said).hexdigest()
    ids = tokens.ids if isinstance(tokens, Tokens) else np.asarray(tokens, np.int32)
    return hashlib.sha256(np.asarray(ids, np.int32).tobytes()).hexdigest()
