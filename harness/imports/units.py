"""Prefix lengths of imported paths: in recorded tokens, in words, in tokens of a named tokenizer, or as a fraction."""

from __future__ import annotations

import re
from typing import Any

from harness.api import PathpruneError
from harness.imports.pool import Pool, View, in_tokens_of, in_words, native
from harness.text import shown

COUNTED = re.compile(r"(\d{1,9}) ?(?:(words?)|tokens?:(.+))")
WHOLE = re.compile(r"\d{1,9}")
PORTION = re.compile(r"(\d{1,3}(?:\.\d*)?)%|(0?\.\d+)")
FORMS = "a number of recorded tokens (22), a fraction of the mean length (0.2 or 20%), words (30words), or tokens of a tokenizer (22tokens:FOLDER)"


def view_of(pool: Pool, prefix: Any) -> tuple[View, int | None]:
    """(the pool in the unit of a prefix length, the length in that unit); length None for the task's default.

    Raises:
        PathpruneError: an invalid prefix length, or a unit that the pool does not have.
    """
    if prefix is None:
        return native(pool), None
    text = str(prefix).strip()
    if isinstance(prefix, bool) or not isinstance(prefix, int | float | str):
        raise PathpruneError(f"a prefix must be {FORMS}, not {shown(prefix)}")
    if WHOLE.fullmatch(text):
        return native(pool), int(text)
    if counted := COUNTED.fullmatch(text):
        view = in_words(pool) if counted[2] else in_tokens_of(pool, counted[3])
        return view, int(counted[1])
    if portion := PORTION.fullmatch(text):
        share = float(portion[1]) / 100 if portion[1] else float(portion[2])
        if not 0 < share < 1:
            raise PathpruneError(f"a fraction of the mean length must be between 0 and 1, not {share:g}")
        view = native(pool)
        return view, max(1, round(share * view.mean))
    raise PathpruneError(f"a prefix must be {FORMS}, not {shown(text)}")
