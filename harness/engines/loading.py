"""From a model's name to weights: the embedded models, a local folder, or a hub id."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from harness.api import PathpruneError

EMBEDDED = {"hands": "tasks.embedded", "slips": "tasks.embedded"}
HASH_LIMIT = 2 << 30  # bytes; larger weight files are identified by size and their first and last MiB


def locate(model: str) -> str:
    """The folder of an embedded model or a local folder; any other name is left for the hub."""
    if model in EMBEDDED:
        folder = Path(str(resources.files(EMBEDDED[model]))) / "models" / model
        if not (folder / "config.json").exists():
            raise PathpruneError(f"embedded model {model!r} is missing; build it with: make model MODEL={model}")
        return str(folder)
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise PathpruneError(f"{model} holds no config.json, so it is not a Hugging Face model folder")
        return str(path)
    if model.startswith((".", "/", "~")):
        raise PathpruneError(f"no model folder at {model}")
    return model


def load(model: str, revision: str | None, dtype: str, device: str, attention: str | None) -> tuple[Any, Any]:
    """(model, tokenizer), in evaluation mode and frozen."""
    where = locate(model)
    logging.disable_progress_bar()
    options: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        if attention:
            options["attn_implementation"] = attention
        loaded = AutoModelForCausalLM.from_pretrained(where, dtype=getattr(torch, dtype), **options)
    except (OSError, ValueError) as error:
        known = ", ".join(EMBEDDED)
        reason = str(error).strip().splitlines()[0]
        raise PathpruneError(
            f"cannot load model {model!r} ({reason}); give one of {known}, a local folder, or a reachable hub id"
        ) from error
    return loaded.to(device).eval().requires_grad_(False), tokenizer


def fingerprint(model: Any, where: str) -> str:
    """SHA-256 of the weight files; for a hub id, of the commit it resolved to."""
    folder = Path(where)
    if not folder.is_dir():
        return str(getattr(model.config, "_commit_hash", None) or where)
    digest = hashlib.sha256()
    files = sorted(f for f in folder.iterdir() if f.suffix in {".safetensors", ".bin", ".gguf"})
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            if size <= HASH_LIMIT:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
            else:
                digest.update(stream.read(1 << 20))
                stream.seek(-(1 << 20), 2)
                digest.update(stream.read())
    return digest.hexdigest()


def active_parameters(model: Any) -> int:
    """Parameters that one token passes through: input look-up excluded, experts scaled by how many are used."""
    config = model.config.get_text_config()
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None) or 0
    share = getattr(config, "num_experts_per_tok", experts) / experts if experts else 1.0
    total = sum(int(p.numel() * (share if ".experts." in name else 1)) for name, p in model.named_parameters())
    if not config.tie_word_embeddings:
        total -= model.get_input_embeddings().weight.numel()
    return total
