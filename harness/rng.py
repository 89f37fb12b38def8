"""One uniform number per (seed, problem, path, position), from a counter-based generator.

The tokens of a path therefore depend neither on the rest of its batch nor on where it was interrupted. Resuming cannot
reuse the numbers of earlier positions, unlike in the official STOP code, which restarts the stream.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

PER_COUNTER = 4  # Philox gives four 64-bit words per counter value


def derive(*parts: Any) -> int:
    """A 64-bit seed from named components; the same on every machine and Python version."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def generator(*parts: Any) -> np.random.Generator:
    """A Philox generator seeded by named components."""
    return np.random.Generator(np.random.Philox(key=derive(*parts)))


def uniforms(seed: int, problem: str, index: int, start: int, stop: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for positions ``start`` to ``stop`` - 1 of one path, float64 ``[stop - start]``."""
    first = start // PER_COUNTER
    stream = np.random.Philox(key=[derive(seed, problem), index], counter=[first, 0, 0, 0])
    words = stream.random_raw(stop - first * PER_COUNTER)[start - first * PER_COUNTER :]
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
