"""Reads and writes the small tensors of learned pruners as safetensors files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from harness.api import PathpruneError


def save_tensors(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write named tensors to ``file``, and create its folder if necessary."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, file)


def load_tensors(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the tensors of ``file``.

    Raises:
        PathpruneError: if the file is missing or damaged, or lacks one of ``names``.
    """
    try:
        tensors: dict[str, np.ndarray] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise PathpruneError(f"{file} is missing or damaged ({error}); train the pruner again") from error
    missing = [n for n in names if n not in tensors]
    if missing:
        raise PathpruneError(f"{file} has no {', '.join(missing)}; train the pruner again")
    return tensors
