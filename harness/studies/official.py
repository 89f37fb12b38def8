"""Checkpoints of the official STOP repository (bijiaxihh/STOP, ``STOP/src/finetuning_harmony.py``) as ours.

Its layout: ``adapter/`` (PEFT, in a subfolder of the adapter's name), ``classifier_head.pth`` (two logits, score =
softmax[1]), ``assess_token_config.json`` and ``assess_token_embedding.pth`` (one vector, repeated). Two logits under a
softmax are one logit, their difference, under a sigmoid.
"""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from harness.api import PathpruneError
from harness.engines.hf.adapter import EMBEDDINGS, StopAdapter
from harness.learn import checkpoints
from harness.store.provenance import provenance

CONFIG, TOKEN, HEAD = "assess_token_config.json", "assess_token_embedding.pth", "classifier_head.pth"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def is_official(folder: Path) -> bool:
    """Whether a folder has the official repository's layout."""
    return (folder / HEAD).exists() or (folder / CONFIG).exists()


def adopt(folder: Path, engine: Any, out: Path) -> Path:
    """Write ``out``, a checkpoint for ``stop:checkpoint=out``, and return it.

    Raises PathpruneError where ``out`` exists, where ``folder`` is damaged or would run code when read, and where it does
    not fit the engine's model.
    """
    if out.exists():
        raise PathpruneError(f"{out} exists; choose another folder")
    try:
        tokens = int(json.loads((folder / CONFIG).read_text())["num_assess_tokens"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PathpruneError(f"{folder / CONFIG} is missing or damaged ({error})") from error
    width = engine.model.get_input_embeddings().weight.shape[1]
    vector = _read(folder / TOKEN, "input_embedding")
    weight, bias = _read(folder / HEAD, "weight"), _read(folder / HEAD, "bias")
    for name, value, shape in ((TOKEN, vector, (width,)), (HEAD, weight, (2, width)), (HEAD, bias, (2,))):
        if tuple(value.shape) != shape:
            raise PathpruneError(
                f"{folder / name} has shape {tuple(value.shape)}, and the model needs {shape}: it belongs to another model"
            )
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        save_file({"embeddings": vector.float().expand(tokens, -1).contiguous()}, part / EMBEDDINGS)
        head = {"weight": (weight[1:] - weight[:1]).float(), "bias": (bias[1:] - bias[:1]).float()}
        save_file({k: v.contiguous() for k, v in head.items()}, part / "head.safetensors")
        _adapter(folder / "adapter", part)
        StopAdapter.load(engine.model, part)  # a LoRA of other shapes is refused here
        card = {
            "pruner": "stop",
            "digest": checkpoints.digest_of(part),
            "base": checkpoints.base_of(engine),
            "source": "official STOP checkpoint layout",
            "provenance": provenance(),
        }
        checkpoints.write_card(part, card)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def _adapter(source: Path, target: Path) -> None:
    """The PEFT adapter, wherever PEFT put it, as safetensors."""
    configs = sorted(source.rglob("adapter_config.json"))
    if len(configs) != 1:
        raise PathpruneError(f"{source} holds {len(configs)} PEFT adapters (adapter_config.json), and one is needed")
    config = json.loads(configs[0].read_text())
    config["base_model_name_or_path"] = Path(config.get("base_model_name_or_path") or "").name
    (target / "adapter_config.json").write_text(json.dumps(config, indent=2))
    weights = [configs[0].parent / name for name in WEIGHTS if (configs[0].parent / name).exists()]
    if not weights:
        raise PathpruneError(f"{configs[0].parent} holds neither {' nor '.join(WEIGHTS)}")
    tensors = load_file(weights[0]) if weights[0].suffix == ".safetensors" else _loaded(weights[0])
    save_file({k: v.contiguous() for k, v in tensors.items()}, target / WEIGHTS[0])


def _read(file: Path, name: str) -> torch.Tensor:
    value = _loaded(file).get(name)
    if not isinstance(value, torch.Tensor):
        raise PathpruneError(f"{file} has no tensor {name!r}, so it is not an official STOP checkpoint's")
    return value


def _loaded(file: Path) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise PathpruneError(
            f"{file} holds more than tensors and would run code when read; refused. Save it again with torch.save of a state dict"
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise PathpruneError(f"cannot read {file} ({str(error).splitlines()[0]})") from error
    if not isinstance(state, dict):
        raise PathpruneError(f"{file} is no state dict")
    return state
