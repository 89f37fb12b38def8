"""Checks a path for consistency: one number of each kind per token, and the offsets at which tokens end in the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from harness.api import STATISTICS, PathpruneError
from harness.imports import measure
from harness.imports.pool import TOKENS, WORDS, word_ends
from harness.imports.rows import ImportedPath
from harness.imports.schema import StoredPath
from harness.imports.values import MOST
from harness.store.given import are_spans
from harness.text import is_utf8, shown, unknown

MEASURED = "measured"  # unit of texts counted by a tokenizer
LARGEST = float(np.finfo(np.float16).max)


class Held(NamedTuple):
    """A path that was checked: its row, still without answer and grade, and the unit of its length.

    ``clipped``: by statistic, how many of its numbers float16 cannot hold; they stand at the end of its range.
    """

    path: StoredPath
    unit: str
    clipped: Mapping[str, int]


@dataclass(frozen=True)
class Holder:
    """Checks paths for consistency; with a tokenizer it also counts and cuts texts, and decodes ids."""

    measure_text: Callable[[str], np.ndarray] | None = None
    decode: Callable[[Sequence[int]], str] | None = None

    def held(self, path: ImportedPath, where: str) -> Held:
        """Check a path, and derive its length and where its tokens end.

        Raises:
            PathpruneError: contradictory numbers of tokens, or no data with a length.
        """
        text = path.text
        if text is not None and not is_utf8(text):
            raise PathpruneError(f"{where}: its text contains a lone surrogate")
        ids = _ids(path.tokens, where)
        if text is None and ids is not None and self.decode is not None:
            text = self.decode(ids.tolist())
        numbers = {name: _numbers(name, values, where) for name, values in path.statistics.items()}
        statistics = {name: _halves(values) for name, values in numbers.items()}
        beyond = {name: int((np.abs(values) > LARGEST).sum()) for name, values in numbers.items()}
        drawn = _drawn(path, ids, where)
        length = _length(path, {"token ids": drawn, "pieces": path.pieces, **statistics}, where)
        ends, unit = self._ends(path, text, ids, length)
        if length is None:
            if ends is None:
                raise PathpruneError(
                    f"{where}: it has neither text nor length; map one: --map text=FIELD or length=FIELD"
                )
            length = len(ends)
        if not 0 <= length <= MOST:
            raise PathpruneError(f"{where}: its length is {length}, not an integer from 0 to {MOST:,}")
        rewards = _rewards(path, where)
        told = (ends, statistics, path.probes, rewards, path.given)
        row = StoredPath(text, ids, length, path.finish, None, False, *told)
        return Held(row, unit, {name: count for name, count in beyond.items() if count})

    def _ends(
        self, path: ImportedPath, text: str | None, ids: np.ndarray | None, length: int | None
    ) -> tuple[np.ndarray | None, str]:
        """(the end offset of each token in the text, None if unknown; the unit of the tokens)."""
        if length is None:
            if text is None:
                return None, TOKENS
            return (self.measure_text(text), MEASURED) if self.measure_text else (word_ends(text), WORDS)
        if text is None:
            return None, TOKENS
        if path.ends is not None:
            return np.asarray(path.ends, np.int32), TOKENS
        if path.pieces is not None:
            return measure.ends_of_pieces(path.pieces, text), TOKENS
        if ids is not None and self.decode is not None:
            return measure.ends_of_ids(ids.tolist(), text, self.decode), TOKENS
        if self.measure_text is not None and len(measured := self.measure_text(text)) == length:
            return measured, TOKENS
        return None, TOKENS


def _length(path: ImportedPath, told: Mapping[str, Any], where: str) -> int | None:
    """The number of tokens, on which all data of the path have to agree; None if no data imply one."""
    lengths = {what: len(values) for what, values in told.items() if values is not None}
    if path.length is not None:
        lengths["tokens by its length"] = path.length
    if len(set(lengths.values())) > 1:
        (one, a), (two, b) = sorted(lengths.items(), key=lambda item: item[1])[:: max(1, len(lengths) - 1)][:2]
        raise PathpruneError(f"{where}: it has {b} {two} and {a} {one}; a path has one of each per token")
    return next(iter(lengths.values()), None)


def _ids(tokens: Any, where: str) -> np.ndarray | None:
    if tokens is None:
        return None
    values = np.asarray(tokens)
    if len(values) and (values.ndim != 1 or values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= 2**31):
        raise PathpruneError(f"{where}: its token ids are not whole numbers from 0 on but {shown(list(tokens)[:5])}")
    return values.astype(np.int32)


def _drawn(path: ImportedPath, ids: np.ndarray | None, where: str) -> np.ndarray | None:
    """The ids of generated tokens."""
    if not path.given:
        return ids
    if ids is None or path.ends is None or len(path.ends) != len(ids) or not are_spans(path.given, len(ids)):
        raise PathpruneError(f"{where}: what it was given is no list of spans of its tokens: {shown(path.given)}")
    return np.delete(ids, np.concatenate([np.arange(*span) for span in path.given]))


def _numbers(name: str, values: Any, where: str) -> np.ndarray:
    """A token statistic, float64 ``[T]``; numbers may be infinite."""
    if name not in STATISTICS:
        raise PathpruneError(f"{where}: {unknown('token statistic', name, list(STATISTICS))}")
    array = np.asarray(values)
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "fiu") or np.isnan(array.astype(np.float64)).any():
        raise PathpruneError(f"{where}: its {name} is not one number per token")
    return array.astype(np.float64)


def _halves(numbers: np.ndarray) -> np.ndarray:
    """Numbers as float16, those beyond its range at its end."""
    return np.clip(numbers, -LARGEST, LARGEST).astype(np.float16)


def _rewards(path: ImportedPath, where: str) -> list[tuple[str, list[float]]]:
    rewards = []
    for name, given in path.rewards.items():
        scores = [float(v) for v in np.atleast_1d(np.asarray(given, dtype=np.float64))]
        if not np.isfinite(scores).all():
            raise PathpruneError(f"{where}: its reward {shown(name)} is not finite")
        rewards.append((name, scores))
    return rewards
