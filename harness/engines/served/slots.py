"""Trained adapter folders, and the slots of a served model that hold them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open

from harness import advice
from harness.api import PathpruneError
from harness.engines.vllm.ids import SLOTS, TOKENS


@dataclass(frozen=True)
class SlotAdapter:
    """A loaded adapter: its slot, T_s, and what its LoRA adds to a token's forward pass, in parameters."""

    slot: int
    tokens: int
    low_rank_parameters: int


@dataclass
class Slots:
    """Which folder is in which slot. ``load`` puts one there; a slot's content never changes, nor does its KV."""

    base: str
    hidden: int
    load: Callable[[int, Path], None]
    held: dict[Path, SlotAdapter] = field(default_factory=dict)

    def adapter(self, folder: Path) -> SlotAdapter:
        folder = folder.resolve()
        if folder not in self.held:
            if len(self.held) == SLOTS:
                raise PathpruneError(f"an engine holds {SLOTS} adapters; run these pruners in two calls")
            tokens, parameters = inspect(folder, self.hidden, self.base)
            slot = len(self.held)
            self.load(slot, folder)
            self.held[folder] = SlotAdapter(slot, tokens, parameters)
        return self.held[folder]


def inspect(folder: Path, hidden: int, base: str) -> tuple[int, int]:
    """(T_s, LoRA parameters) of an adapter folder that fits a model of this width."""
    try:
        with safe_open(str(folder / "stop_embeddings.safetensors"), framework="np") as file:
            tokens, width = file.get_slice("embeddings").get_shape()
        parameters = 0
        if (config := folder / "adapter_config.json").exists():
            unsupported = [k for k in ("use_dora", "use_bdlora", "lora_bias") if json.loads(config.read_text()).get(k)]
            if unsupported:
                raise PathpruneError(
                    f"adapter in {folder} uses {unsupported[0]}, which engine vllm does not serve; use {advice.option(engine='hf')}"
                )
            with safe_open(str(folder / "adapter_model.safetensors"), framework="np") as file:
                shapes = [file.get_slice(k).get_shape() for k in file.keys()]  # noqa: SIM118
            parameters = sum(a * b for a, b in shapes)
    except (OSError, ValueError, SafetensorError) as error:
        raise PathpruneError(f"adapter in {folder} is missing or damaged ({error}); train it again") from error
    if width != hidden:
        raise PathpruneError(f"adapter in {folder} has width {width}, {base} has {hidden}: it belongs to another model")
    if tokens > TOKENS:
        raise PathpruneError(f"adapter in {folder} has {tokens} [STOP] tokens; engine vllm serves up to {TOKENS}")
    return tokens, parameters


def digest(folder: Path) -> str:
    """Names an adapter's weights, wherever they lie."""
    files = [f for f in sorted(folder.glob("*.safetensors")) if f.name.startswith(("adapter_model", "stop_embeddings"))]
    return hashlib.sha256(b"".join(f.name.encode() + f.read_bytes() for f in files)).hexdigest()[:12]
