"""Validate a model folder before it is loaded, by JSON and headers only: without torch, in milliseconds.

Model folders are untrusted. Nothing in them is executed: JSON is parsed, safetensors headers are read, and a model that
needs unpickling or its own Python code is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.api import PathpruneError

CONFIG, INDEX = "config.json", "model.safetensors.index.json"
OBJECTS = ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json", "tokenizer.json")
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
LARGEST = 1 << 31  # upper limit of any size in a configuration
# Alternative names of a size in the configurations of different model families.
SIZES = {
    "width": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "vocabulary": ("vocab_size",),
    "inner": ("intermediate_size", "n_inner"),
    "context": ("max_position_embeddings", "n_positions"),
}
LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)\.")
EXTRA_LAYERS = (
    "num_nextn_predict_layers",
    "mtp_num_hidden_layers",
    "num_mtp_layers",
)  # draft layers after the decoder's


def examine(folder: Path) -> None:
    """Refuse a model folder that cannot be loaded faithfully.

    Raises:
        PathpruneError: the first fault, by file and field.
    """
    config = read_object(folder / CONFIG)
    if not config:
        raise PathpruneError(f"{folder / CONFIG} is empty; fetch or build the model again")
    _known(folder, config)
    for part in (config, *(v for k, v in config.items() if k.endswith("_config") and isinstance(v, dict))):
        _sizes(folder / CONFIG, part)
    for name in OBJECTS:
        if (folder / name).exists():
            read_object(folder / name)
    names = _tensor_names(folder)
    if names:
        _every_layer(folder, config.get("text_config") or config, names)


def has_weights(folder: Path) -> None:
    """Refuse a folder without weights, which is acceptable only for a served model.

    Raises:
        PathpruneError: the folder has no safetensors file.
    """
    if not (folder / INDEX).exists() and not any(folder.glob("*.safetensors")):
        raise PathpruneError(f"{folder} holds no weights (model.safetensors); fetch or build the model again")


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        PathpruneError: the file is missing, is not JSON, or is JSON of another type.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PathpruneError(f"{file} cannot be read as JSON ({_short(error)}); fetch or build it again") from error
    if not isinstance(value, dict):
        raise PathpruneError(f"{file} holds {_kind(value)} where an object is expected; fetch or build it again")
    return value


def size_of(config: Mapping[str, Any], size: str) -> int | None:
    """One of ``SIZES`` in a configuration, under any of its names; None if it is not stated."""
    value = next((config[name] for name in SIZES[size] if config.get(name) is not None), None)
    return value if isinstance(value, int) else None


def width_of(folder: Path) -> int | None:
    """The hidden size of the model in a folder; None if its configuration does not state it."""
    config = read_object(folder / CONFIG)
    text = config.get("text_config")
    return size_of(text if isinstance(text, dict) else config, "width")


def _known(folder: Path, config: Mapping[str, Any]) -> None:
    """Require a model type that transformers includes, because the folder's own Python is never run."""
    kind = config.get("model_type")
    if kind is not None and not isinstance(kind, str):
        raise PathpruneError(f"{folder / CONFIG}: model_type must be a name, not {_kind(kind)}")
    architectures = config.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, list) and all(isinstance(a, str) for a in architectures)
    ):
        raise PathpruneError(f"{folder / CONFIG}: architectures must be a list of names, not {_kind(architectures)}")
    if config.get("auto_map"):
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        if kind not in CONFIG_MAPPING_NAMES:
            raise PathpruneError(
                f"{folder} needs Python code of its own (auto_map in config.json), which is never run; use a model whose type "
                "transformers includes"
            )


def _sizes(file: Path, config: Mapping[str, Any]) -> None:
    """Require positive integer sizes and numbers of heads that divide the sizes."""
    for names in SIZES.values():
        for name in names:
            value = config.get(name)
            if value is None or (isinstance(value, list) and name in ("intermediate_size", "num_key_value_heads")):
                continue  # some families state one number per layer
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < LARGEST:
                raise PathpruneError(f"{file}: {name} must be an integer of 1 or more, not {_shown(value)}")
    width, heads, shared = (size_of(config, size) for size in ("width", "heads", "kv_heads"))
    if width and heads and not size_of(config, "head_dim") and width % heads:
        raise PathpruneError(f"{file}: a width of {width} does not divide into {heads} heads")
    if heads and shared and heads % shared:
        raise PathpruneError(f"{file}: {heads} heads cannot share {shared} heads of keys and values")


def _tensor_names(folder: Path) -> set[str]:
    """Names of all tensors in a folder's safetensors files; empty if it has no weights (a served model's folder)."""
    index = folder / INDEX
    if index.exists():
        return set(_indexed(folder, read_object(index)))
    files = sorted(folder.glob("*.safetensors"))
    pickled = [
        f for f in sorted(folder.iterdir()) if f.suffix in PICKLED and f.name.startswith(("pytorch_model", "model"))
    ]
    if not files and pickled:
        raise PathpruneError(
            f"{folder} holds its weights as a pickle ({pickled[0].name}), which could run code and is never read; convert "
            "the model to safetensors: save_pretrained writes them"
        )
    return {name for file in files for name in header(file)}


def _indexed(folder: Path, index: Mapping[str, Any]) -> Iterator[str]:
    """Names of the tensors in an index; checks that its files are in the folder and contain them."""
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(v, str) for v in shards.values()):
        raise PathpruneError(f"{folder / INDEX} has no weight_map of names to files; fetch the model again")
    held: dict[str, set[str]] = {}
    for name in sorted(set(shards.values())):
        if Path(name).name != name or name in (".", ".."):
            raise PathpruneError(f"{folder / INDEX}: a shard must be in the model's folder, not at {name!r}")
        if not (folder / name).exists():
            raise PathpruneError(f"{folder} lacks {name}, which its index names; fetch it again")
        held[name] = set(header(folder / name))
    for tensor, name in shards.items():
        if tensor not in held[name]:
            raise PathpruneError(f"{folder / name} lacks {tensor}, which the index says it holds; fetch it again")
        yield tensor


def header(file: Path) -> dict[str, list[int]]:
    """Names and shapes of the tensors in a safetensors file; its length is checked against the header.

    Raises:
        PathpruneError: the file is missing, empty, truncated or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="np") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise PathpruneError(f"{file} is missing or damaged ({_short(error)}); fetch or build it again") from error


def _every_layer(folder: Path, config: Mapping[str, Any], names: set[str]) -> None:
    """Refuse a configuration with fewer layers than the weights, because layers would be dropped silently."""
    layers = size_of(config, "layers")
    if layers is None or any("encoder" in name or "vision" in name for name in names):
        return
    allowed = layers + sum(size for name in EXTRA_LAYERS if isinstance(size := config.get(name), int))
    numbered = [int(found[1]) for name in names if (found := LAYER.search(name))]
    if numbered and max(numbered) >= allowed:
        raise PathpruneError(
            f"{folder}: the weights have {max(numbered) + 1} layers and config.json names {layers}; restore the model's own "
            "config.json"
        )


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", dict: "an object", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, int | float) else _kind(value)


def _short(error: BaseException) -> str:
    """The first line of an error, at most 160 characters, without the path, which the message already names."""
    text = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
