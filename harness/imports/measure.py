"""End offsets of tokens in a text: from a tokenizer, from the token texts of a server, or by decoding ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import PathpruneError
from harness.engines.identity import EMBEDDED, FETCHED, first_line, locate

STRIDE, CONTEXT = 16, 8  # tokens per block, and tokens of context in front of a decoding window
PARTIAL = "\ufffd"  # stands for the bytes of an incomplete character


@lru_cache(maxsize=4)
def tokenizer_of(name: str) -> Any:
    """Load a tokenizer by a model's name, a folder or a Hub id.

    Raises:
        PathpruneError: no such tokenizer, or one without token offsets.
    """
    from transformers import AutoTokenizer

    where = locate(name) if name in (*EMBEDDED, *FETCHED) else str(FilePath(name).expanduser())
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except Exception as error:  # transformers raises many types for a foreign folder
        raise PathpruneError(
            f"no tokenizer at {name} ({first_line(error)}); give a model folder or a hub id"
        ) from error
    if not tokenizer.is_fast:
        raise PathpruneError(f"the tokenizer of {name} gives no token offsets; use one with a tokenizer.json")
    return tokenizer


def ends_by(name: str) -> Callable[[str], np.ndarray]:
    """A function from a text to the end offset of each token in characters, int32 ``[T]``."""
    tokenizer = tokenizer_of(name)

    def ends(text: str) -> np.ndarray:
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return (
            np.maximum.accumulate(np.array([stop for _, stop in offsets], np.int32))
            if offsets
            else np.empty(0, np.int32)
        )

    return ends


def decoder_by(name: str) -> Callable[[Sequence[int]], str]:
    """A function from generated token ids to text, without special tokens."""
    tokenizer = tokenizer_of(name)
    return lambda tokens: str(tokenizer.decode(list(tokens), skip_special_tokens=True))


def ends_of_pieces(pieces: Sequence[str], text: str) -> np.ndarray | None:
    """End offset of each piece, int32 ``[T]``; None if the pieces do not make up the text. A final end token is allowed."""
    ends = np.cumsum([len(piece) for piece in pieces]).astype(np.int32)
    whole = "".join(pieces)
    if not whole.startswith(text):
        return None
    return np.minimum(ends, len(text)).astype(np.int32)


def ends_of_ids(tokens: Sequence[int], text: str, decode: Callable[[Sequence[int]], str]) -> np.ndarray | None:
    """End offset of each token in the text that all of them decode to, int32 ``[T]``; None if a prefix decodes differently.

    Blocks of tokens are decoded token by token; if that does not match the text, in windows after ``CONTEXT`` tokens; and if
    that fails too, from the beginning. Each block is checked against the text.
    """
    ends = np.zeros(len(tokens), np.int32)
    pieces: dict[int, str] = {}
    known = 0
    for start in range(0, len(tokens), STRIDE):
        block = range(start, min(start + STRIDE, len(tokens)))
        found = _by_piece(tokens, block, text, known, decode, pieces) or _by_window(tokens, block, text, known, decode)
        ends[block.start : block.stop] = found or [len(decode(tokens[: t + 1]).rstrip(PARTIAL)) for t in block]
        known = int(ends[block.stop - 1])
        if found is None and not text.startswith(decode(tokens[: block.stop]).rstrip(PARTIAL)):
            return None
    return np.minimum(np.maximum.accumulate(ends), len(text)).astype(np.int32) if len(ends) else ends


def _by_piece(
    tokens: Sequence[int],
    block: range,
    text: str,
    known: int,
    decode: Callable[[Sequence[int]], str],
    pieces: dict[int, str],
) -> list[int] | None:
    """Ends of a block whose tokens decode one by one, else None."""
    ends, end = [], known
    for t in block:
        token = int(tokens[t])
        piece = pieces[token] if token in pieces else pieces.setdefault(token, decode((token,)))
        if PARTIAL in piece or not text.startswith(piece, end):
            return None
        end += len(piece)
        ends.append(end)
    return ends


def _by_window(
    tokens: Sequence[int], block: range, text: str, known: int, decode: Callable[[Sequence[int]], str]
) -> list[int] | None:
    """Ends of a block decoded after its preceding tokens; None if the result differs from the text."""
    first = max(0, block.start - CONTEXT)
    before = len(decode(tokens[first : block.start]).rstrip(PARTIAL)) if block.start else 0
    ends = []
    for t in block:
        said = decode(tokens[first : t + 1]).rstrip(PARTIAL)[before:]
        if not text.startswith(said, known):
            return None
        ends.append(known + len(said))
    return ends
