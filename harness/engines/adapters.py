"""Validate a trained adapter's folder by its JSON and headers: [STOP] embeddings and PEFT's LoRA files."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.api import PathpruneError
from harness.engines.folders import header, read_object

EMBEDDINGS, CONFIG, WEIGHTS = "stop_embeddings.safetensors", "adapter_config.json", "adapter_model.safetensors"
MOST_TOKENS, MOST_RANK = 1024, 1 << 16
# Settings that change the base model, import modules or add more than a LoRA; all are refused.
REFUSED = (
    "modules_to_save", "layer_replication", "megatron_config", "trainable_token_indices", "eva_config",
    "corda_config", "lora_ga_config", "velora_config", "monteclora_config", "use_qalora", "arrow_config", "kasa_config",
    "exclude_modules", "loftq_config", "alora_invocation_tokens",
)  # fmt: skip
INITIAL = (True, False, "gaussian")  # other initialisations (PiSSA, OLoRA) change the base weights
MODULE = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.(weight|bias)")
DORA = re.compile(r"base_model\.model\.(.+)\.lora_magnitude_vector(\.weight)?")
LAYER = re.compile(r"^(.*?\.)(\d+)(\..*)$")


def examine(folder: Path) -> None:
    """Refuse an adapter that is incomplete, or that is not a LoRA on linear layers.

    Raises:
        PathpruneError: the first fault, by file and field.
    """
    shape = header(folder / EMBEDDINGS).get("embeddings")
    if shape is None or len(shape) != 2 or not 1 <= shape[0] <= MOST_TOKENS or shape[1] < 1:
        raise PathpruneError(f"{folder / EMBEDDINGS} must have one row per [STOP] token, not shape {shape}")
    if not (folder / CONFIG).exists():
        if (folder / WEIGHTS).exists():
            raise PathpruneError(f"{folder} has a LoRA's weights and no {CONFIG}; train it again")
        return
    config = settings(folder)
    _every_module(folder / WEIGHTS, config, header(folder / WEIGHTS))


def settings(folder: Path) -> dict[str, Any]:
    """The LoRA configuration of a folder, validated against what this package supports.

    Raises:
        PathpruneError: a field of the wrong type, out of range, or unsupported.
    """
    file = folder / CONFIG
    config = read_object(file)
    if config.get("peft_type") != "LORA":
        raise PathpruneError(f"{file}: peft_type is {config.get('peft_type')!r}, and only a LORA can be read")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= MOST_RANK:
        raise PathpruneError(f"{file}: r must be an integer of 1 or more, not {rank!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise PathpruneError(f"{file}: lora_alpha must be a number, not {alpha!r}")
    targets = config.get("target_modules")
    if targets != "all-linear" and not (
        isinstance(targets, list) and targets and all(isinstance(t, str) for t in targets)
    ):
        raise PathpruneError(f"{file}: target_modules must be a list of names, not {targets!r}")
    parameters = config.get("target_parameters")
    if parameters is not None and not (isinstance(parameters, list) and all(isinstance(p, str) for p in parameters)):
        raise PathpruneError(f"{file}: target_parameters must be a list of names, not {parameters!r}")
    if used := [name for name in REFUSED if config.get(name)]:
        raise PathpruneError(f"{file} uses {used[0]}, which is not supported; train a plain LoRA")
    if config.get("init_lora_weights", True) not in INITIAL:
        raise PathpruneError(
            f"{file}: init_lora_weights is {config['init_lora_weights']!r}, whose base weights are changed; convert it to a plain "
            "LoRA first"
        )
    return config


def _every_module(file: Path, config: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> None:
    """Require matching A and B for each module, and the same modules in every layer."""
    pairs: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for name, shape in shapes.items():
        found = MODULE.fullmatch(name)
        if found and found[3] == "weight":
            pairs[found[1]][found[2]] = shape
        elif not found and not DORA.fullmatch(name):
            raise PathpruneError(f"{file} has the tensor {name}, which is not part of a LoRA; train it again")
    if not pairs:
        raise PathpruneError(f"{file} holds no LoRA at all; train it again")
    for module, pair in pairs.items():
        if set(pair) != {"A", "B"}:
            lacking = "A" if "B" in pair else "B"
            raise PathpruneError(f"{file} lacks lora_{lacking} of {module}; train it again")
        a, b = pair["A"], pair["B"]
        if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise PathpruneError(f"{file}: A {a} and B {b} of {module} are not a LoRA; train it again")
        several = bool(config.get("target_parameters")) and a[0] % config["r"] == 0  # the experts' matrices, stacked
        if a[0] != config["r"] and not several and not config.get("rank_pattern"):
            raise PathpruneError(
                f"{file}: {module} has rank {a[0]} and {CONFIG} names {config['r']}; restore its configuration"
            )
    targets = config["target_modules"]
    named = [t for t in targets if LAYER.match(t)] if isinstance(targets, list) else []
    ends = {
        found.group(2, 3) for module in pairs if (found := LAYER.match(module))
    }  # files differ in the name of the decoder
    missing = sorted(t for t in named if (found := LAYER.match(t)) and found.group(2, 3) not in ends)
    if missing:  # a model whose layers differ lists each module by name
        raise PathpruneError(f"{file} lacks the LoRA of {missing[0]}; train it again")
    if not named and not config.get("layers_to_transform"):
        _every_layer(file, pairs)


def uniform(modules: Iterable[str]) -> bool:
    """Whether every layer has the same modules."""
    return not _missing(modules)


def _every_layer(file: Path, modules: Iterable[str]) -> None:
    if missing := _missing(modules):
        raise PathpruneError(f"{file} lacks the LoRA of {missing}; train it again")


def _missing(modules: Iterable[str]) -> str:
    """The first module that one layer has and another lacks; "" if there is none."""
    layers: dict[tuple[str, str], set[int]] = defaultdict(set)
    for module in modules:
        if found := LAYER.match(module):
            layers[found[1], found[3]].add(int(found[2]))
    last = max((max(numbers) for numbers in layers.values()), default=0)
    for (before, behind), numbers in layers.items():
        if missing := sorted(set(range(last + 1)) - numbers):
            return f"{before}{missing[0]}{behind}"
    return ""
