"""Which texts are alike: cosines of word sets or of an encoder's embeddings, and greedy orders made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any

import numpy as np
from scipy import sparse

from harness.api import Check, Cost, Path


def words(text: str) -> set[str]:
    """Lower-cased words between white space."""
    return set(text.lower().split())


def incidence(sets: Sequence[Set[Any]]) -> sparse.csr_array:
    """Sparse 0/1 matrix ``[sets, distinct words]``; words are whatever the sets hold."""
    column: dict[Any, int] = {}
    columns = [column.setdefault(w, len(column)) for members in sets for w in members]
    ends = np.concatenate([[0], np.cumsum([len(members) for members in sets])])
    ones = np.ones(len(columns), dtype=np.int32)
    return sparse.csr_array((ones, np.array(columns, dtype=np.int64), ends), shape=(len(sets), max(1, len(column))))


class WordCounts:
    """How many words sets share, as whole numbers in float32: exact, so that no order of words or paths changes a bit.

    A word in more than 1/16 of the sets would fill a sparse product; those words are multiplied as a dense matrix.
    """

    def __init__(self, rows: sparse.csr_array) -> None:
        often = np.bincount(rows.indices, minlength=rows.shape[1]) * 16 > rows.shape[0]
        self.dense = rows[:, often].toarray().astype(np.float32)
        self.sparse = rows[:, ~often].tocsr().astype(np.float32)
        self.sizes = np.asarray(rows.sum(1), dtype=np.float32)

    def shared(self, a: slice, b: slice) -> np.ndarray:
        """|A_i & B_j| float32 ``[len(a), len(b)]``."""
        counts: np.ndarray = self.dense[a] @ self.dense[b].T
        rare = (self.sparse[a] @ self.sparse[b].T).tocoo()
        counts[rare.row, rare.col] += rare.data
        return counts

    def cosines(self, a: slice, b: slice) -> np.ndarray:
        """Cosines of the word sets, float32 ``[len(a), len(b)]``."""
        counts = self.shared(a, b)
        counts /= np.sqrt(np.outer(self.sizes[a], self.sizes[b]))
        return counts


class UnitRows:
    """Cosines of unit rows, float64 ``[n, d]``."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def cosines(self, a: slice, b: slice) -> np.ndarray:
        """Cosines of two blocks of rows, float64 ``[len(a), len(b)]``."""
        return self.rows[a] @ self.rows[b].T


def comparable(rows: Any) -> WordCounts | UnitRows:
    """Blocks of cosines between rows: of 0/1 rows |A & B| / sqrt(|A| |B|), of unit rows their product."""
    return WordCounts(rows) if sparse.issparse(rows) else UnitRows(rows)


def cosines(rows: Any) -> np.ndarray:
    """Between all rows ``[n, n]``."""
    everything = slice(0, rows.shape[0])
    return comparable(rows).cosines(everything, everything)


def mean_cosine(rows: Any) -> float:
    """Between two different ones of these rows; 1 for a single row."""
    count = rows.shape[0]
    return float((cosines(rows).sum(dtype=float) - count) / (count * (count - 1))) if count > 1 else 1.0


class Space:
    """Vectors of texts. ``encoder="words"`` takes sets of lower-cased words and is free; an encoder is a folder or hub id.

    An encoder reads no more of a text than its own maximum (256 tokens for all-MiniLM-L6-v2, 384 for
    all-mpnet-base-v2) and ignores the rest: what a long prefix says later is not compared.
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
        """Rows for ``cosines`` (two texts without a word are identical), and what reading each text costs."""
        if self.name == "words" or not texts:
            return incidence([words(t) or {""} for t in texts]), [Cost()] * len(texts)
        self.load()
        return self._encoder.embed(texts)

    def load(self, device: str = "") -> None:
        """Open the encoder, if there is one and it is not open."""
        if self.name != "words" and self._encoder is None:
            from pruners.external_fixed.encoder import Encoder

            self._encoder = Encoder(self.name, device)

    def paths(self, paths: Sequence[Path], check: Check) -> np.ndarray:
        """Cosines between the paths' texts ``[n, n]``; what is read is charged."""
        self.load(check.device)
        return cosines(self.read([p.text for p in paths], check))

    def read(self, texts: Sequence[str], check: Check) -> Any:
        """``embed``, charged: equal texts are read once."""
        rows, costs = self.embed(texts)
        if self.name != "words":
            check.charge(sum(dict(zip(texts, costs, strict=True)).values(), Cost()), cold=sum(c.reread for c in costs))
        return rows


def by_index(paths: Sequence[Path]) -> list[int]:
    """Positions of the paths sorted by index: worked through in this order, ties cannot depend on list position."""
    return sorted(range(len(paths)), key=lambda i: (paths[i].index, paths[i].tokens, paths[i].text))


def in_order(score: Callable[[Sequence[Path]], np.ndarray], paths: Sequence[Path]) -> np.ndarray:
    """``score`` of the paths sorted by index, handed back in the order given."""
    order = by_index(paths)
    out = np.empty(len(paths))
    out[order] = score([paths[i] for i in order])
    return out


def centrality(similarity: np.ndarray) -> np.ndarray:
    """Mean similarity of each row to the others, ``[n]``; 0 for a single one."""
    return (similarity.sum(1) - np.diag(similarity)) / max(1, len(similarity) - 1)


def farthest_first(similarity: np.ndarray) -> np.ndarray:
    """Places 0, 1, ... ``[n]``: first the most central, then always the one whose nearest chosen neighbour is farthest.

    Max-min distance 1 - similarity; a tie goes to the lower row.
    """
    turn_of = np.full(len(similarity), -1)
    nearest = np.full(len(similarity), -np.inf)
    chosen = int(centrality(similarity).argmax())
    for turn in range(len(similarity)):
        turn_of[chosen] = turn
        nearest = np.maximum(nearest, similarity[chosen])
        chosen = int(np.where(turn_of < 0, nearest, np.inf).argmin())
    return turn_of
