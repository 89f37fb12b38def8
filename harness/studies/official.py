"""Converts checkpoints of the official STOP repository (bijiaxihh/STOP, ``STOP/src/finetuning_harmony.py``) to ours.

Its layout: ``adapter/`` (PEFT, in a subfolder of the adapter's name), ``classifier_head.pth`` (two logits, score =
softmax[1]), ``assess_token_config.json`` and ``assess_token_embedding.pth`` (one vector, repeated). Two logits under a
softmax are one logit, their difference, under a sigmoid.
"""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from harness import advice
from harness.api import PathpruneError
from harness.engines.adapters import EMBEDDINGS, MOST_TOKENS, settings
from harness.engines.folders import header, read_object
from harness.engines.hf.adapter import StopAdapter
from harness.engines.identity import first_line
from harness.learn import checkpoints, weights
from harness.store.folders import apart, writable_folder
from harness.store.provenance import provenance

CONFIG, TOKEN, HEAD = "assess_token_config.json", "assess_token_embedding.pth", "classifier_head.pth"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def is_official(folder: Path) -> bool:
    """Whether a folder has the official repository's layout."""
    return (folder / HEAD).exists() or (folder / CONFIG).exists()


def adopt(folder: Path, engine: Any, out: Path) -> Path:
    """Write ``out``, a checkpoint for ``stop:checkpoint=out``, and return it.

    Args:
        folder: a checkpoint in the official layout.
        engine: an ``hf`` engine with the checkpoint's base model.
        out: the folder to write.

    Raises:
        PathpruneError: ``out`` exists, or ``folder`` is damaged, would run code when read, or does not fit the model.
    """
    apart(out, "the checkpoint", folder)
    if os.path.lexists(out):
        raise PathpruneError(f"{out} exists; choose another folder")
    tokens = _tokens(folder / CONFIG)
    model: Any = getattr(engine, "model", None)
    if not hasattr(model, "get_input_embeddings"):
        raise PathpruneError(
            f"engine {engine.spec['engine']} has no weights to match a checkpoint with; use {advice.option(engine='hf')}"
        )
    width = model.get_input_embeddings().weight.shape[1]
    vector = _read(folder / TOKEN, "input_embedding", (width,))
    weight, bias = _read(folder / HEAD, "weight", (2, width)), _read(folder / HEAD, "bias", (2,))
    with writable_folder(out) as part:
        save_file({"embeddings": vector.expand(tokens, -1).contiguous()}, part / EMBEDDINGS)
        head = {"weight": weight[1:] - weight[:1], "bias": bias[1:] - bias[:1]}
        save_file({k: v.contiguous() for k, v in head.items()}, part / "head.safetensors")
        _adapter(folder / "adapter", part)
        weights.examine(part, None)
        StopAdapter.load(model, part)  # refuses a LoRA of other shapes
        card = {
            "pruner": "stop",
            "digest": checkpoints.digest_of(part),
            "base": checkpoints.base_of(engine),
            "source": "official STOP checkpoint layout",
            "provenance": provenance(),
        }
        checkpoints.write_card(part, card)
    return out


def _tokens(file: Path) -> int:
    """How many [STOP] tokens a checkpoint appends."""
    tokens = read_object(file).get("num_assess_tokens")
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= MOST_TOKENS:
        raise PathpruneError(
            f"{file}: num_assess_tokens must be a number from 1 to {MOST_TOKENS}, not {str(tokens)[:40]}"
        )
    return tokens


def _adapter(source: Path, target: Path) -> None:
    """The PEFT adapter, wherever PEFT put it, as safetensors."""
    configs = sorted(source.rglob("adapter_config.json"))
    if len(configs) != 1:
        raise PathpruneError(f"{source} holds {len(configs)} PEFT adapters (adapter_config.json), and one is needed")
    config = settings(configs[0].parent)
    config["base_model_name_or_path"] = Path(str(config.get("base_model_name_or_path") or "")).name
    (target / configs[0].name).write_text(json.dumps(config, indent=2))
    held = [configs[0].parent / name for name in WEIGHTS if (configs[0].parent / name).exists()]
    if not held:
        raise PathpruneError(f"{configs[0].parent} holds neither {' nor '.join(WEIGHTS)}")
    if held[0].suffix == ".safetensors":
        header(held[0])  # refuses a damaged file
        tensors = load_file(held[0])
    else:
        tensors = _loaded(held[0])
    save_file({name: _plain(held[0], name, value) for name, value in tensors.items()}, target / WEIGHTS[0])


def _read(file: Path, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of a state dict as float32, checked for its shape and for finite values."""
    value = _loaded(file).get(name)
    if not isinstance(value, torch.Tensor):
        raise PathpruneError(f"{file} has no tensor {name!r}, so it is not an official STOP checkpoint's")
    if tuple(value.shape) != shape:
        raise PathpruneError(
            f"{file} has shape {tuple(value.shape)}, but the model needs {shape}: it belongs to another model"
        )
    value = _plain(file, name, value).float()
    if not torch.isfinite(value).all():
        raise PathpruneError(f"{file}: {name} contains non-finite values; train it again")
    return value


def _plain(file: Path, name: str, value: Any) -> torch.Tensor:
    """A part of a checkpoint, checked to be a dense float tensor."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.layout != torch.strided:
        raise PathpruneError(f"{file}: {str(name)[:80]} is not a float tensor; refused")
    return value.detach().contiguous()


def _loaded(file: Path) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise PathpruneError(
            f"{file} contains more than tensors and would run code when read; refused. Save it again with torch.save of a state dict"
        ) from error
    except Exception as error:  # torch raises many types for a damaged file
        raise PathpruneError(f"cannot read {file} ({first_line(error)})") from error
    if not isinstance(state, dict):
        raise PathpruneError(f"{file} is not a state dict")
    return state
