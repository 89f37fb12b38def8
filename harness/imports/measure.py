"""Where tokens end in a text: by a tokenizer that reads it, by the pieces that a server returned, or by decoding ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import PathpruneError
from harness.engines.identity import EMBEDDED, FETCHED, first_line, locate

STRIDE, CONTEXT = 16, 8  # tokens between two whole decodings, and those that give a window its beginning
PARTIAL = "\ufffd"  # the bytes of a character that is not complete yet


@lru_cache(maxsize=4)
def tokenizer_of(name: str) -> Any:
    """A tokenizer by a model's name, a folder or a hub id.

    Raises:
        PathpruneError: there is none, or it cannot say where its tokens lie in a text.
    """
    from transformers import AutoTokenizer

    where = locate(name) if name in (*EMBEDDED, *FETCHED) else str(FilePath(name).expanduser())
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except Exception as error:  # whatever a folder of others makes transformers raise
        raise PathpruneError(
            f"no tokenizer at {name} ({first_line(error)}); give a model folder or a hub id"
        ) from error
    if not tokenizer.is_fast:
        raise PathpruneError(
            f"the tokenizer of {name} does not say where its tokens lie; give one with a tokenizer.json"
        )
    return tokenizer


def ends_by(name: str) -> Callable[[str], np.ndarray]:
    """A function from a text to where each of its tokens ends, int32."""
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
    """A tokenizer's text of generated ids, without special tokens."""
    tokenizer = tokenizer_of(name)
    return lambda tokens: str(tokenizer.decode(list(tokens), skip_special_tokens=True))


def ends_of_pieces(pieces: Sequence[str], text: str) -> np.ndarray | None:
    """Where each piece ends, if they are those of the text; an end token's piece may stand behind it."""
    ends = np.cumsum([len(piece) for piece in pieces]).astype(np.int32)
    whole = "".join(pieces)
    if not whole.startswith(text):
        return None
    return np.minimum(ends, len(text)).astype(np.int32)


def ends_of_ids(tokens: Sequence[int], text: str, decode: Callable[[Sequence[int]], str]) -> np.ndarray | None:
    """Where each token ends in the text that all of them decode to; None where a prefix decodes to another text.

    Windows of ``STRIDE`` tokens are decoded behind ``CONTEXT`` tokens; every window's end is held to the text itself.
    """
    ends = np.zeros(len(tokens), np.int32)
    known = 0
    for start in range(0, len(tokens), STRIDE):
        stop = min(start + STRIDE, len(tokens))
        for count in range(start + 1, stop + 1):
            ends[count - 1] = _end(tokens, count, start, known, decode)
        whole = decode(tokens[:stop])
        if ends[stop - 1] != len(whole.rstrip(PARTIAL)):
            ends[start:stop] = [len(decode(tokens[:count]).rstrip(PARTIAL)) for count in range(start + 1, stop + 1)]
        known = int(ends[stop - 1])
        if not text.startswith(whole.rstrip(PARTIAL)):
            return None
    return np.minimum(np.maximum.accumulate(ends), len(text)) if len(ends) else ends


def _end(tokens: Sequence[int], count: int, start: int, known: int, decode: Callable[[Sequence[int]], str]) -> int:
    """Characters of the first ``count`` tokens, of which the first ``start`` have ``known``."""
    first = max(0, start - CONTEXT)
    before = decode(tokens[first:start]).rstrip(PARTIAL) if start else ""
    return known + len(decode(tokens[first:count]).rstrip(PARTIAL)) - len(before)
