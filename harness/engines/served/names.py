"""Names under which an exported model is served: they tell a client which weights and adapters it will find."""

from __future__ import annotations

from collections.abc import Iterable


def base_name(fingerprint: str) -> str:
    """The name of the base model with these weights."""
    return f"pathprune-{fingerprint[:12]}"


def adapter_name(slot: int, digest: str) -> str:
    """The name of an adapter with these weights (``slots.digest``) in its slot."""
    return f"pathprune-slot{slot}-{digest}"


def slots_of(names: Iterable[str]) -> dict[str, int]:
    """From a server's names to the adapters that it holds: each one's digest and its slot."""
    parts = [name.split("-") for name in names if name.startswith("pathprune-slot")]
    return {digest: int(slot.removeprefix("slot")) for _, slot, digest in parts}
