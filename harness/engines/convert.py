"""From a GGUF file to a folder of safetensors, which every engine takes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.api import PathpruneError, UnavailableError


def convert(file: Path, out: Path, dtype: str = "float32") -> Path:
    """Write dequantised weights, tokenizer and chat template to ``out``; ``origin.json`` names the file by its SHA-256.

    Args:
        file: the GGUF file.
        out: the folder to write.
        dtype: torch's name of the weights' precision.

    Returns:
        ``out``.

    Raises:
        PathpruneError: if there is no such file, or transformers cannot read it.
        UnavailableError: if the package that reads GGUF is not installed.
    """
    if not file.is_file():
        raise PathpruneError(f"no file at {file}; give the path of a GGUF file")
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise UnavailableError("reading GGUF needs its package: pip install 'pathprune[gguf]'") from error
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    options: dict[str, Any] = {"gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=getattr(torch, dtype), quantization_config=GgufConfig(dequantize=True), **options
        )
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PathpruneError(
            f"transformers cannot read {file} ({reason}); fetch the model's original weights instead"
        ) from error
    model.config.quantization_config = None
    del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    (out / "origin.json").write_text(json.dumps({"file": file.name, "sha256": digest}) + "\n")
    return out
