"""Log-probabilities as servers and libraries write them, and the token statistics that they determine.

``logprob`` is the log-probability of the sampled token. The K most likely tokens determine ``confidence`` over the 20 largest, or over K
if fewer are given; ``margin`` if K is at least 2; and ``top_entropy`` if K is at least 20. Statistics over the full vocabulary
cannot be derived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.imports.values import Flaw, as_list, is_list, per_token
from harness.text import shown

LARGEST = 20  # of harness.api.STATISTICS: confidence and top_entropy
UNKNOWN = -9999.0  # OpenAI's marker for a token outside the most likely ones
ABOVE = 1e-3  # tolerance for rounding around 0
TOKEN_ID = "token_id:"  # vLLM's --return-tokens-as-token-ids


@dataclass
class Read:
    """The content of a log-probability field: values of the sampled tokens, and of the most likely ones at each position."""

    logprob: Any = None
    tops: Any = None
    pieces: list[str] | None = None
    tokens: list[int] | None = None


def unpack(value: Any, name: str, tokens: Sequence[int] | None = None) -> Read:
    """Read any known form: numbers, OpenAI's two objects, or vLLM's dictionaries by token id, which need ``tokens``."""
    if isinstance(value, Mapping):
        if value.get("content") is not None:
            return _content(as_list(value["content"], f"{name}.content"), f"{name}.content")
        if value.get("token_logprobs") is not None:
            return _columns(value, name)
        if "content" in value:  # null: none were requested
            return Read()
        raise Flaw(f"{name} is an object without content and token_logprobs: {shown(sorted(value))}")
    entries: Any = value if isinstance(value, np.ndarray) else as_list(value, name)
    if len(entries) and isinstance(entries[0], Mapping):
        return _content(entries, name) if "logprob" in entries[0] else _by_token(entries, name, tokens)
    return Read(logprob=entries)


def _content(entries: Sequence[Any], name: str) -> Read:
    """``[{"token", "logprob", "top_logprobs": [{"token", "logprob"}]}]``"""
    if not all(isinstance(entry, Mapping) and "logprob" in entry for entry in entries):
        raise Flaw(
            f"{name} holds {shown(next(e for e in entries if not isinstance(e, Mapping) or 'logprob' not in e))}"
        )
    read = Read(logprob=[entry["logprob"] for entry in entries])
    if any(is_list(entry.get("top_logprobs")) and len(entry["top_logprobs"]) for entry in entries):
        read.tops = [entry.get("top_logprobs") for entry in entries]
    _name_tokens(read, [entry.get("token") for entry in entries])
    return read


def _columns(value: Mapping[str, Any], name: str) -> Read:
    """``{"tokens", "token_logprobs", "top_logprobs": [{token: logprob}]}``"""
    read = Read(logprob=as_list(value["token_logprobs"], f"{name}.token_logprobs"), tops=value.get("top_logprobs"))
    _name_tokens(read, as_list(value.get("tokens") or [], f"{name}.tokens") or None)
    return read


def _name_tokens(read: Read, names: Sequence[Any] | None) -> None:
    if not names or not all(isinstance(name, str) for name in names):
        return
    if all(name.startswith(TOKEN_ID) and name[len(TOKEN_ID) :].isdecimal() for name in names):
        read.tokens = [int(name[len(TOKEN_ID) :]) for name in names]
    else:
        read.pieces = list(names)


def _by_token(entries: Sequence[Any], name: str, tokens: Sequence[int] | None) -> Read:
    """``[{token id: logprob or {"logprob"}}]``, where the sampled token is found by its id."""
    read = Read(tops=entries)
    if tokens is None:
        return read
    if len(tokens) != len(entries):
        raise Flaw(f"{name} has {len(entries)} tokens and token_ids {len(tokens)}")
    read.logprob, read.pieces = [], []
    for position, (entry, token) in enumerate(zip(entries, tokens, strict=True), 1):
        value = entry.get(str(token), entry.get(token)) if isinstance(entry, Mapping) else None
        logprob = value.get("logprob") if isinstance(value, Mapping) else value
        if logprob is None:
            raise Flaw(f"{name} lacks the sampled token {token} at position {position}")
        read.logprob.append(logprob)
        if isinstance(value, Mapping) and isinstance(value.get("decoded_token"), str):
            read.pieces.append(value["decoded_token"])
    read.pieces = read.pieces if len(read.pieces) == len(tokens) else None
    return read


class Statistics:
    """Computes token statistics with a single K for all paths, that of the first."""

    def __init__(self) -> None:
        self.k: int | None = None

    def of_sampled(self, value: Any, name: str) -> np.ndarray:
        """``logprob``, float16."""
        return _halves(_logs(per_token(value, name), name), name)

    def of_largest(self, value: Any, name: str) -> dict[str, np.ndarray]:
        """``confidence``, and ``margin`` and ``top_entropy`` if K suffices, float16 ``[T]`` each; {} if K is 0."""
        table = self._table(value, name)
        if not table.shape[1]:
            return {}
        largest = table[:, :LARGEST]
        statistics = {"confidence": _halves(-largest.mean(axis=1), name)}
        if table.shape[1] >= 2:
            statistics["margin"] = _halves(np.exp(table[:, 0]) - np.exp(table[:, 1]), name)
        if table.shape[1] >= LARGEST:
            shares = np.exp(largest - largest.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            terms = np.where(shares > 0, shares * np.log(np.maximum(shares, np.finfo(float).tiny)), 0)
            statistics["top_entropy"] = _halves(-terms.sum(axis=1), name)
        return statistics

    def _table(self, value: Any, name: str) -> np.ndarray:
        """The K largest log-probabilities of each token, descending, ``[T, K]``."""
        entries = value if isinstance(value, np.ndarray) else as_list(value, name)
        counts = [_count(entry, name) for entry in entries]
        if not any(counts):
            return np.empty((len(counts), 0 if counts else self.k or 0))
        k = self.k or min(counts)
        short = next((i for i, count in enumerate(counts) if count < max(k, 1)), None)
        if short is not None:
            raise Flaw(
                f"{name} has {counts[short]} most likely tokens at token {short + 1}, but {k or max(counts)} elsewhere"
            )
        self.k = k
        rows = [_plain(entry, name) for entry in entries]
        rows = [
            row if len(row) == k else np.sort(_logs(per_token(row, name), name, i))[-k:] for i, row in enumerate(rows)
        ]
        try:
            table = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise Flaw(f"{name} must be numbers per token, not {shown(value)}") from error
        if not np.isfinite(table).all():
            position = int(np.argwhere(~np.isfinite(table))[0][0])
            raise Flaw(f"{name} holds {table[position].tolist()} at token {position + 1}, not log-probabilities")
        return -np.sort(-_logs(table.reshape(-1), name, k=k).reshape(len(entries), k), axis=1)


def _count(entry: Any, name: str) -> int:
    """Number of most likely tokens in an entry."""
    if entry is None:
        return 0
    if not isinstance(entry, Mapping) and not is_list(entry):
        raise Flaw(f"{name} holds {shown(entry)}, not the most likely tokens of a token")
    return len(entry)


def _plain(entry: Any, name: str) -> Any:
    """The log-probabilities of the most likely tokens at one position."""
    values = list(entry.values()) if isinstance(entry, Mapping) else entry
    if is_list(values) and len(values) and isinstance(values[0], Mapping):
        if not all(isinstance(value, Mapping) and "logprob" in value for value in values):
            raise Flaw(f"{name} holds {shown(values)}, not log-probabilities")
        return [value["logprob"] for value in values]
    return values


def _logs(array: np.ndarray, name: str, position: int | None = None, k: int = 1) -> np.ndarray:
    """Return the log-probabilities, k per token, or raise Flaw if one is invalid. ``position``: the token that all belong to."""
    for wrong, why in (
        (array <= UNKNOWN, "which marks a token outside the most likely ones; its log-probability is unknown"),
        (array > ABOVE, "but a log-probability is at most 0"),
    ):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            at = first // k if position is None else position
            raise Flaw(f"{name} is {array[first]:g} at token {at + 1}, {why}")
    return array


def given(value: Any, name: str, statistic: str) -> np.ndarray:
    """A statistic recorded in the file, float16 ``[T]``; only ``logprob`` may be negative."""
    array = per_token(value, name)
    if statistic == "logprob":
        return _halves(_logs(array, name), name)
    if (array < -ABOVE).any():
        at = int(np.flatnonzero(array < -ABOVE)[0])
        raise Flaw(f"{name} is {array[at]:g} at token {at + 1}, but {statistic} is never negative")
    return _halves(array, name)


def _halves(array: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        halves = (array + 0.0).astype(np.float16)  # -0 becomes 0
    if not np.isfinite(halves).all():
        raise Flaw(f"{name} is {array[~np.isfinite(halves)][0]:g}, more than float16 holds")
    return halves
