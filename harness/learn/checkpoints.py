"""Where trained pruners live: ``<root>/<pruner>/<base model>/`` with a ``checkpoint.json`` card beside the weights.

Looked up in the user's folder first, then among those that ship. The card names the base model; a checkpoint of
another one is refused before anything runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from harness.api import PathpruneError
from harness.plugins import Plugin
from harness.store.files import writable

CARD = "checkpoint.json"
LOCAL = Path("results/checkpoints")


def slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=@_-]+", "+", name)


def folder(root: Path, plugin: Plugin, fingerprint: str) -> Path:
    return root / slug(plugin.name) / fingerprint[:12]


def base_of(engine: Any) -> dict[str, Any]:
    """What a card says of the base model. The fingerprint is over weights, configuration and tokenizer."""
    known = {key: engine.spec[key] for key in ("model", "revision", "dtype") if key in engine.spec}
    return known | {"fingerprint": engine.fingerprint}


def attach(plugin: Plugin, engine: Any) -> dict[str, Any]:
    """Load a learned pruner's weights; returns what identifies them, and other models a method reads with."""
    external = plugin.identity()
    if not plugin.needs_checkpoint:
        return external
    found = locate(plugin, engine.fingerprint)
    card = read_card(found)
    if card["base"]["fingerprint"] != engine.fingerprint:
        raise PathpruneError(
            f"checkpoint {found} was trained on model {card['base']['model']} ({card['base']['fingerprint'][:12]}), not on "
            f"{engine.spec['model']} ({engine.fingerprint[:12]}); train one with: make train PRUNER={plugin.name} and that MODEL"
        )
    dtype = engine.spec.get("dtype")
    if dtype and card["base"].get("dtype", dtype) != dtype:
        raise PathpruneError(
            f"checkpoint {found} was trained on {card['base']['dtype']} states and this engine computes {dtype}; use "
            f"ENGINE={engine.spec['engine']}:dtype={card['base']['dtype']}, or train another"
        )
    if card["pruner"] != plugin.name:
        raise PathpruneError(f"checkpoint {found} belongs to pruner {card['pruner']}, not to {plugin.name}")
    digest = digest_of(found)
    if card["digest"] != digest:
        raise PathpruneError(
            f"checkpoint {found} is damaged: its files are not those its card describes; train it again"
        )
    plugin.pruner.load(found)
    return external | {"checkpoint": digest}


def label_tokens(plugin: Plugin, engine: Any) -> int | None:
    """What the training labels of a learned pruner cost, once, in generated tokens."""
    if not plugin.needs_checkpoint:
        return None
    cost: int | None = read_card(locate(plugin, engine.fingerprint)).get("labels", {}).get("tokens")
    return cost


def unavailable(plugin: Plugin, engine: Any) -> str:
    """Why a method cannot be part of ``all-registered`` on this engine; empty when it can."""
    lacking = plugin.traits.needs - engine.provides
    if lacking:
        return f"needs {', '.join(sorted(lacking))}, which engine {engine.spec['engine']} does not provide"
    if plugin.traits.on_request:
        return plugin.traits.on_request
    if not plugin.needs_checkpoint:
        return ""
    try:
        locate(plugin, engine.fingerprint)
    except PathpruneError:
        return "no checkpoint for this model"
    return ""


def locate(plugin: Plugin, fingerprint: str) -> Path:
    if plugin.checkpoint and plugin.checkpoint.startswith("hf://"):
        from harness.learn.hub import pull

        return pull(plugin.checkpoint)
    if plugin.checkpoint:
        return Path(plugin.checkpoint)
    shipped = Path(str(resources.files("pruners"))) / "checkpoints"
    for root in (LOCAL, shipped):
        place = folder(root, plugin, fingerprint)
        if (place / CARD).exists():
            return place
    raise PathpruneError(
        f"no checkpoint of {plugin.name} for this model ({fingerprint[:12]}); train one with: make train PRUNER={plugin.name} "
        "and the same TASK and MODEL, or pass checkpoint=DIR"
    )


def read_card(place: Path) -> dict[str, Any]:
    file = place / CARD
    try:
        card: dict[str, Any] = json.loads(file.read_text())
        card["base"]["fingerprint"], card["base"]["model"], card["pruner"], card["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PathpruneError(
            f"checkpoint card {file} is missing or damaged ({error}); train the pruner again"
        ) from error
    return card


def write_card(place: Path, card: dict[str, Any]) -> None:
    with writable(place / CARD) as part:
        part.write_text(json.dumps(card, indent=1) + "\n")


def digest_of(place: Path) -> str:
    """SHA-256 over every file of the checkpoint but its card and README."""
    digest = hashlib.sha256()
    for file in sorted(place.rglob("*")):
        if file.is_file() and file.name not in (CARD, "README.md"):
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
