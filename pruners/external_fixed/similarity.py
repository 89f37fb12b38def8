"""Similarity of texts: cosines of word sets or of encoder embeddings, and greedy selections based on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any

import numpy as np
from scipy import sparse

from harness.api import Check, Cost, Path


def words(text: str) -> set[str]:
    """The set of lower-cased words of a text, separated by white space."""
    return set(text.lower().split())


def incidence(sets: Sequence[Set[Any]]) -> sparse.csr_array:
    """Sparse 0/1 matrix ``[sets, distinct members]``."""
    column: dict[Any, int] = {}
    columns = [column.setdefault(w, len(column)) for members in sets for w in members]
    ends = np.concatenate([[0], np.cumsum([len(members) for members in sets])])
    ones = np.ones(len(columns), dtype=np.int32)
    return sparse.csr_array((ones, np.array(columns, dtype=np.int64), ends), shape=(len(sets), max(1, len(column))))


class WordCounts:
    """Numbers of shared words between sets, computed as whole numbers in float32.

    The numbers are exact, so the order of words and of paths has no effect. Words that occur in more than 1/16 of the
    sets are multiplied as a dense matrix, because they would fill a sparse product.
    """

    def __init__(self, rows: sparse.csr_array) -> None:
        often = np.bincount(rows.indices, minlength=rows.shape[1]) * 16 > rows.shape[0]
        self.dense = rows[:, often].toarray().astype(np.float32)
        self.sparse = rows[:, ~often].tocsr().astype(np.float32)
        self.sizes = np.asarray(rows.sum(1), dtype=np.float32)

    def shared(self, a: slice, b: slice) -> np.ndarray:
        """|A_i & B_j|, float32 ``[len(a), len(b)]``."""
        counts: np.ndarray = self.dense[a] @ self.dense[b].T
        rare = (self.sparse[a] @ self.sparse[b].T).tocoo()
        counts[rare.row, rare.col] += rare.data
        return counts

    def cosines(self, a: slice, b: slice) -> np.ndarray:
        """|A_i & B_j| / sqrt(|A_i| |B_j|), float32 ``[len(a), len(b)]``."""
        counts = self.shared(a, b)
        counts /= np.sqrt(np.outer(self.sizes[a], self.sizes[b]))
        return counts


class UnitRows:
    """Cosines between rows of unit length, float64 ``[n, d]``."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def cosines(self, a: slice, b: slice) -> np.ndarray:
        """Cosines between two blocks of rows, float64 ``[len(a), len(b)]``."""
        return self.rows[a] @ self.rows[b].T


def comparable(rows: Any) -> WordCounts | UnitRows:
    """Blockwise cosines between rows: of sparse 0/1 rows as sets, of dense rows of unit length as vectors."""
    return WordCounts(rows) if sparse.issparse(rows) else UnitRows(rows)


def cosines(rows: Any) -> np.ndarray:
    """Cosines between all rows, ``[n, n]``."""
    everything = slice(0, rows.shape[0])
    return comparable(rows).cosines(everything, everything)


def mean_cosine(rows: Any) -> float:
    """Mean cosine between different rows; 1 for a single row."""
    count = rows.shape[0]
    return float((cosines(rows).sum(dtype=float) - count) / (count * (count - 1))) if count > 1 else 1.0


class Space:
    """A vector representation of texts: sets of lower-cased words, or embeddings.

    An encoder truncates a text to its maximum input length (256 tokens for all-MiniLM-L6-v2, 384 for
    all-mpnet-base-v2). The part of a long prefix after that length is not compared.

    Args:
        encoder: "words", which costs nothing, or the folder or hub id of an encoder.

    Raises:
        ValueError: if ``encoder`` is not a string.
    """

    def __init__(self, encoder: str) -> None:
        if not isinstance(encoder, str):
            raise ValueError("encoder is words, or a folder or hub id of an encoder")
        self.name = encoder
        self._encoder: Any = None
        self.cost_class = "free" if encoder == "words" else "re-read"

    def identity(self) -> dict[str, Any]:
        if self.name == "words":
            return {}
        from pruners.external_fixed.encoder import identity

        return identity(self.name)

    def embed(self, texts: Sequence[str]) -> tuple[Any, list[Cost]]:
        """Rows for ``cosines``, and the cost of reading each text. Two texts without words are identical."""
        if self.name == "words" or not texts:
            return incidence([words(t) or {""} for t in texts]), [Cost()] * len(texts)
        self.load()
        return self._encoder.embed(texts)

    def load(self, device: str = "") -> None:
        """Load the encoder, if the space has one that is not loaded yet."""
        if self.name != "words" and self._encoder is None:
            from pruners.external_fixed.encoder import Encoder

            self._encoder = Encoder(self.name, device)

    def paths(self, paths: Sequence[Path], check: Check) -> np.ndarray:
        """Cosines between the texts of paths, ``[n, n]``. The tokens read are charged to ``check``."""
        self.load(check.device)
        return cosines(self.read([p.text for p in paths], check))

    def read(self, texts: Sequence[str], check: Check) -> Any:
        """As ``embed``, with the cost charged to ``check``. Equal texts are read and charged once."""
        rows, costs = self.embed(texts)
        if self.name != "words":
            check.charge(sum(dict(zip(texts, costs, strict=True)).values(), Cost()), cold=sum(c.reread for c in costs))
        return rows


def by_index(paths: Sequence[Path]) -> list[int]:
    """Positions of the paths in the order of their indices, so that ties do not depend on the order of the list."""
    return sorted(range(len(paths)), key=lambda i: (paths[i].index, paths[i].tokens, paths[i].text))


def in_order(score: Callable[[Sequence[Path]], np.ndarray], paths: Sequence[Path]) -> np.ndarray:
    """Apply ``score`` to the paths in the order of their indices, and return the scores in the order given."""
    order = by_index(paths)
    out = np.empty(len(paths))
    out[order] = score([paths[i] for i in order])
    return out


def centrality(similarity: np.ndarray) -> np.ndarray:
    """Mean similarity of each row to the others, ``[n]``; 0 for a single row."""
    return (similarity.sum(1) - np.diag(similarity)) / max(1, len(similarity) - 1)


def farthest_first(similarity: np.ndarray) -> np.ndarray:
    """Places 0, 1, ... of a farthest-point traversal with distance 1 - similarity, int ``[n]``.

    The first place goes to the most central row. Each following place goes to the row with the lowest similarity to its
    nearest chosen row. A tie goes to the lower row.
    """
    turn_of = np.full(len(similarity), -1)
    nearest = np.full(len(similarity), -np.inf)
    chosen = int(centrality(similarity).argmax())
    for turn in range(len(similarity)):
        turn_of[chosen] = turn
        nearest = np.maximum(nearest, similarity[chosen])
        chosen = int(np.where(turn_of < 0, nearest, np.inf).argmin())
    return turn_of
