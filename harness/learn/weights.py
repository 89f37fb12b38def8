"""Validate a checkpoint's files before a pruner loads them: complete, finite, and of matching shapes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import PathpruneError
from harness.engines import adapters, folders

FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
BRAIN, EXPONENT = "BF16", 0x7F80  # bfloat16, which numpy lacks: an exponent of all ones is infinity or NaN
HEAD, PROBE, CENTROIDS = "head.safetensors", "probe.safetensors", "centroids.safetensors"  # of our own pruners
BLOCK = 1 << 24  # numbers checked at a time


def examine(checkpoint: Path, pruner: Any) -> None:
    """Refuse a checkpoint whose weights are damaged, not finite, or of mismatched shapes.

    Args:
        checkpoint: its folder.
        pruner: its pruner; shapes are checked for the shipped pruners only.

    Raises:
        PathpruneError: names the file and the tensor.
    """
    files = sorted(checkpoint.glob("*.safetensors"))
    if not files and not any(checkpoint.glob("*")):
        raise PathpruneError(f"checkpoint {checkpoint} is empty; train it again")
    for file in files:
        shapes = folders.header(file)
        for name in shapes:
            if not _finite(file, name):
                raise PathpruneError(f"{file}: {name} holds values that are not finite; train it again")
    if (checkpoint / folders.CONFIG).exists():
        folders.examine(checkpoint)
    if (checkpoint / adapters.EMBEDDINGS).exists():
        adapters.examine(checkpoint)
    if type(pruner).__module__.partition(".")[0] == "pruners":
        _fitting(checkpoint)


def _fitting(checkpoint: Path) -> None:
    """Check the shapes of the heads of our own pruners."""
    if (checkpoint / HEAD).exists():
        shapes = folders.header(checkpoint / HEAD)
        width = folders.header(checkpoint / adapters.EMBEDDINGS)["embeddings"][1]
        _hold(checkpoint / HEAD, shapes, {"weight": [1, width], "bias": [1]})
    if (checkpoint / PROBE).exists():
        shapes = folders.header(checkpoint / PROBE)
        width = (shapes.get("mean") or [0])[0]
        inner = (shapes.get("first.weight") or [width])[0]
        layers = {"first.weight": [inner, width], "first.bias": [inner]} if "first.weight" in shapes else {}
        _hold(
            checkpoint / PROBE,
            shapes,
            {"mean": [width], "std": [width], "last.weight": [1, inner], "last.bias": [1], **layers},
        )
    if (checkpoint / CENTROIDS).exists():
        shapes = folders.header(checkpoint / CENTROIDS)
        first = shapes.get("success", [])
        _hold(checkpoint / CENTROIDS, shapes, {"success": first if len(first) == 2 else [0, 0], "failure": first})


def _hold(file: Path, shapes: Mapping[str, list[int]], expected: Mapping[str, list[int]]) -> None:
    for name, shape in expected.items():
        if shapes.get(name) != shape or 0 in shape:
            held = "no tensor" if name not in shapes else f"a tensor of shape {shapes[name]}"
            raise PathpruneError(f"{file} has {held} {name}, and {shape} is expected; train it again")


def _finite(file: Path, name: str) -> bool:
    return all(_block_is_finite(block, kind) for block, kind in _blocks(file, name))


def _block_is_finite(block: np.ndarray, kind: str) -> bool:
    if kind == BRAIN:
        return not bool(((block & EXPONENT) == EXPONENT).any())
    return bool(np.isfinite(block).all())


def _blocks(file: Path, name: str) -> Iterator[tuple[np.ndarray, str]]:
    """The values of a floating-point tensor in blocks, read from a file whose header was validated."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        entry = json.loads(stream.read(length))[name]
        kind = entry["dtype"]
        if kind not in FLOATS and kind != BRAIN:
            return
        dtype = np.dtype(FLOATS.get(kind, "<u2"))
        start, stop = entry["data_offsets"]
        stream.seek(8 + length + start)
        left = (stop - start) // dtype.itemsize
        while left:
            block = np.fromfile(stream, dtype, min(left, BLOCK))
            left -= len(block)
            yield block, kind
