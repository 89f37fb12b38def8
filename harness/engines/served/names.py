"""Names under which an exported model is served: they tell a client which weights and adapters it will find."""

from __future__ import annotations

import re
from collections.abc import Iterable

SLOT = re.compile(r"pathprune-slot(\d{1,4})-(\w+)")


def base_name(fingerprint: str) -> str:
    """The name of the base model with these weights."""
    return f"pathprune-{fingerprint[:12]}"


def adapter_name(slot: int, digest: str) -> str:
    """The name of an adapter with these weights (``slots.digest``) in its slot."""
    return f"pathprune-slot{slot}-{digest}"


def slots_of(names: Iterable[str]) -> dict[str, int]:
    """From a server's names to the adapters that it holds: each one's digest and its slot."""
    found = (SLOT.fullmatch(name) for name in names)
    return {name[2]: int(name[1]) for name in found if name}
