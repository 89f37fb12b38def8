"""Convert a GGUF file to a safetensors folder, which every engine can load."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

from harness.api import PathpruneError, UnavailableError
from harness.engines.identity import first_line
from harness.store.folders import apart, writable_folder

ORIGIN = "origin.json"
MAGIC, VERSIONS = b"GGUF", (2, 3)
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes per value, by type
TEXT, ARRAY = 8, 9
DIMENSIONS = 8  # maximum of a tensor; more means that the file is damaged


def convert(file: Path, out: Path, dtype: str = "float32") -> Path:
    """Write dequantised weights, tokenizer and chat template to ``out``; ``origin.json`` names the file by its SHA-256.

    Args:
        file: the GGUF file.
        out: the folder to write; an existing one is replaced only if it is an earlier conversion.
        dtype: torch's name of the weights' precision.

    Returns:
        ``out``.

    Raises:
        PathpruneError: the file is missing, truncated or unreadable for transformers, or ``out`` is no earlier conversion.
        UnavailableError: the gguf package is not installed.
    """
    if not file.is_file():
        raise PathpruneError(f"no file at {file}; give the path of a GGUF file")
    apart(out, "the file", file)
    if out.exists() and not (out / ORIGIN).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise PathpruneError(f"{out} exists and holds no converted model; choose another folder")
    skim(file)
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise UnavailableError("reading GGUF needs its package: pip install 'pathprune[gguf]'") from error
    model, tokenizer = _read(file, dtype)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with writable_folder(out, replace=True) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        (part / ORIGIN).write_text(json.dumps({"file": file.name, "sha256": digest}) + "\n")
    return out


def _read(file: Path, dtype: str) -> tuple[Any, Any]:
    """The model and the tokenizer in a GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from harness.engines import loading

    options: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        with loading.refusing(str(file)):
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
            model, info = AutoModelForCausalLM.from_pretrained(
                file.parent,
                dtype=getattr(torch, dtype),
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
    except UnavailableError as error:
        reason = first_line(error.__cause__ or error)
        raise PathpruneError(
            f"transformers cannot read {file} ({reason}); fetch the model's original weights instead"
        ) from error
    loading.complete(str(file), info, model.state_dict().keys())
    model.config.quantization_config = None
    del model.config.quantization_config
    return model, tokenizer


def skim(file: Path) -> None:
    """Validate a GGUF header: every count and length must fit the size of the file.

    GGUF readers trust these counts; a damaged count of 2^60 would keep them busy for years.

    Raises:
        PathpruneError: the file is not GGUF, or is truncated.
    """
    try:
        with file.open("rb") as stream:
            _Header(stream, os.fstat(stream.fileno()).st_size).walk()
    except (ValueError, struct.error) as error:
        raise PathpruneError(f"cannot read {file} ({first_line(error)}); fetch it again") from error


class _Header:
    """A cursor over the header; raises ValueError if it would pass the end."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.size, self.order = stream, size, "<"

    def walk(self) -> None:
        """From the magic to the last tensor's offset."""
        if self.stream.read(4) != MAGIC:
            raise ValueError("it is not a GGUF file: it does not start with GGUF")
        version = self.number("I")
        if version & 0xFFFF == 0:
            self.order, version = ">", int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in VERSIONS:
            raise ValueError(f"its version of the format must be {VERSIONS[0]} or {VERSIONS[1]}, not {version}")
        tensors, fields = self.number("Q"), self.number("Q")
        self.room(tensors, 24)
        self.room(fields, 13)
        for _ in range(fields):
            self.skip(self.number("Q"))
            self.value(self.number("I"))
        furthest = max((self.tensor() for _ in range(tensors)), default=0)
        if self.stream.tell() + furthest > self.size:
            raise ValueError("it ends early: a tensor lies behind its end")

    def tensor(self) -> int:
        """The offset of the next tensor's data."""
        self.skip(self.number("Q"))
        dimensions = self.number("I")
        if dimensions > DIMENSIONS:
            raise ValueError(f"a tensor has {dimensions} dimensions")
        self.skip(8 * dimensions + 4)
        return self.number("Q")

    def value(self, kind: int, depth: int = 0) -> None:
        """Skip a value of a type."""
        if kind in SCALARS:
            self.skip(SCALARS[kind])
        elif kind == TEXT:
            self.skip(self.number("Q"))
        elif kind == ARRAY and depth < 4:
            inner, length = self.number("I"), self.number("Q")
            self.room(length, SCALARS.get(inner, 8))
            if inner in SCALARS:
                self.skip(length * SCALARS[inner])
                return
            for _ in range(length):
                self.value(inner, depth + 1)
        else:
            raise ValueError(f"a field has the unknown type {kind}")

    def number(self, code: str) -> int:
        size = struct.calcsize(code)
        self.room(1, size)
        return int(struct.unpack(self.order + code, self.stream.read(size))[0])

    def skip(self, length: int) -> None:
        self.room(1, length)
        self.stream.seek(length, os.SEEK_CUR)

    def room(self, count: int, each: int) -> None:
        """Refuse ``count`` items of at least ``each`` bytes if the rest of the file is too short for them."""
        if count * each > self.size - self.stream.tell():
            raise ValueError("it ends early, or a count in its header is damaged")
