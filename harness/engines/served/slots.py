"""Trained adapter folders, and the slots of a served model that hold them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness import advice
from harness.api import PathpruneError
from harness.engines import adapters
from harness.engines.folders import header

UNSUPPORTED = ("use_dora", "use_bdlora", "lora_bias", "target_parameters")  # kinds of LoRA that only PEFT computes


@dataclass(frozen=True)
class SlotAdapter:
    """A trained adapter in a slot of a served model."""

    slot: int
    tokens: int  # T_s, its learned [STOP] tokens
    low_rank_parameters: int  # what its LoRA adds to a token's forward pass

    @classmethod
    def read(cls, folder: Path, slot: int, model: str, hidden: int, max_tokens: int) -> SlotAdapter:
        """The adapter in a folder, by its files' headers; no weights are loaded.

        Args:
            folder: what ``harness.engines.hf.adapter.Adapter.save`` wrote.
            slot: where the served model holds it.
            model: the served model's name, for errors.
            hidden: the served model's width.
            max_tokens: [STOP] tokens that a slot has room for.

        Raises:
            PathpruneError: if it is missing, damaged, of another model, too long or of an unsupported kind.
        """
        adapters.examine(folder)
        tokens, width = header(folder / adapters.EMBEDDINGS)["embeddings"]
        parameters = _low_rank_parameters(folder)
        if width != hidden:
            raise PathpruneError(
                f"adapter in {folder} has width {width}, {model} has {hidden}: it belongs to another model"
            )
        if tokens > max_tokens:
            raise PathpruneError(
                f"adapter in {folder} has {tokens} [STOP] tokens, a served model holds up to {max_tokens}; use {advice.option(engine='hf')}"
            )
        return cls(slot, tokens, parameters)


@dataclass
class Slots:
    """Which adapter folder is in which slot. A slot's content never changes, so KV computed with it stays valid.

    Args:
        model: the served model's name, for errors.
        hidden: its width.
        count: how many adapters it holds.
        max_tokens: [STOP] tokens that a slot has room for.
        load: puts a folder into a slot of the served model.
    """

    model: str
    hidden: int
    count: int
    max_tokens: int
    load: Callable[[int, Path], None]
    held: dict[Path, SlotAdapter] = field(default_factory=dict)

    def adapter(self, folder: Path) -> SlotAdapter:
        """The adapter of a folder, loaded into the next free slot if it is not held yet.

        Raises:
            PathpruneError: if no slot is free, or for the reasons of ``SlotAdapter.read``.
        """
        folder = folder.resolve()
        if folder not in self.held:
            slot = len(self.held)
            if slot == self.count:
                raise PathpruneError(
                    f"a served model holds {self.count} adapters at a time; split these pruners between two runs"
                )
            adapter = SlotAdapter.read(folder, slot, self.model, self.hidden, self.max_tokens)
            self.load(slot, folder)
            self.held[folder] = adapter
        return self.held[folder]


def digest(folder: Path) -> str:
    """12 hexadecimal digits that identify an adapter by its weights, in whatever folder they are."""
    files = [f for f in sorted(folder.glob("*.safetensors")) if f.name.startswith(("adapter_model", "stop_embeddings"))]
    return hashlib.sha256(b"".join(f.name.encode() + f.read_bytes() for f in files)).hexdigest()[:12]


def _low_rank_parameters(folder: Path) -> int:
    """Parameters of a folder's LoRA, 0 if it has none."""
    if not (folder / adapters.CONFIG).exists():
        return 0
    settings = adapters.settings(folder)
    if used := [name for name in UNSUPPORTED if settings.get(name)]:
        mend = "train it with targets=q_proj+k_proj+v_proj+o_proj, or " if used[0] == "target_parameters" else ""
        raise PathpruneError(
            f"adapter in {folder} uses {used[0]}, which a served model cannot compute; {mend}use {advice.option(engine='hf')}"
        )
    return sum(math.prod(shape) for shape in header(folder / adapters.WEIGHTS).values())
