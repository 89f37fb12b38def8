"""Names under which an exported model is served: they tell a client which weights and adapters it will find."""

from __future__ import annotations

from collections.abc import Iterable


def base_name(fingerprint: str) -> str:
    return f"pathprune-{fingerprint[:12]}"


def adapter_name(slot: int, digest: str) -> str:
    return f"pathprune-slot{slot}-{digest}"


def slots_of(names: Iterable[str]) -> dict[str, int]:
    """SlotAdapter digests and the slots that hold them."""
    parts = [name.split("-") for name in names if name.startswith("pathprune-slot")]
    return {digest: int(slot.removeprefix("slot")) for _, slot, digest in parts}
