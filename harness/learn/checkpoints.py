"""Checkpoints of trained pruners: ``<root>/<pruner>/<base model>/``, with a card ``checkpoint.json`` beside the weights.

A checkpoint is looked up in the user's folder first, then among the shipped ones. Its card names the base model; a
checkpoint for another model is refused before anything runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from harness import advice
from harness.api import ASKED, PathpruneError
from harness.engines import adapters
from harness.hub import is_address, pull
from harness.learn import weights
from harness.ledger import IMPORTED
from harness.plugins.declared import Plugin
from harness.store.files import writable

CARD = "checkpoint.json"
LONGEST = 1000  # maximum characters of a name in a card
LOCAL = Path("results/checkpoints")


def slug(name: str) -> str:
    """A pruner's name as a folder name."""
    return re.sub(r"[^A-Za-z0-9.=@_-]+", "+", name)


def folder(root: Path, plugin: Plugin, fingerprint: str) -> Path:
    """The folder of a pruner's checkpoint for a base model under ``root``, whether or not it exists."""
    return root / slug(plugin.name) / fingerprint[:12]


def base_of(engine: Any) -> dict[str, Any]:
    """The base model's entry in a card; the fingerprint covers weights, configuration and tokenizer."""
    known = {key: engine.spec[key] for key in ("model", "revision", "dtype") if key in engine.spec}
    return known | {"fingerprint": engine.fingerprint}


def attach(plugin: Plugin, engine: Any) -> dict[str, Any]:
    """Load a learned pruner's weights.

    Returns:
        Digests of these weights and of other models that the pruner uses.

    Raises:
        PathpruneError: the checkpoint is missing, damaged, or of another model, dtype or pruner.
    """
    if plugin.scorer is not None:
        asked = {"scorer": plugin.scorer.name, "scorer_code": plugin.scorer.code}
        return plugin.identity() | attach(plugin.scorer, engine) | asked
    external = plugin.identity()
    if not plugin.needs_checkpoint:
        return external
    checkpoint = locate(plugin, engine.fingerprint)
    card = read_card(checkpoint)
    if card["base"]["fingerprint"] != engine.fingerprint:
        raise PathpruneError(
            f"checkpoint {checkpoint} was trained on model {card['base']['model']} ({card['base']['fingerprint'][:12]}), not "
            f"on {engine.spec['model']} ({engine.fingerprint[:12]}); train one for that model: "
            + advice.command("train", pruner=plugin.name, model="...")
        )
    dtype = engine.spec.get("dtype")
    if dtype and card["base"].get("dtype", dtype) != dtype:
        raise PathpruneError(
            f"checkpoint {checkpoint} was trained on {card['base']['dtype']} states and this engine computes {dtype}; use "
            f"{advice.option(engine=engine.spec['engine'] + ':dtype=' + card['base']['dtype'])}, or train another"
        )
    if card["pruner"] != plugin.name:
        raise PathpruneError(f"checkpoint {checkpoint} belongs to pruner {card['pruner']}, not to {plugin.name}")
    digest = digest_of(checkpoint)
    if card["digest"] != digest:
        raise PathpruneError(f"checkpoint {checkpoint} is damaged: its files do not match its card; train it again")
    weights.examine(checkpoint, plugin.pruner)
    plugin.call("load", checkpoint)
    return external | {"checkpoint": digest}


def label_tokens(plugin: Plugin, engine: Any) -> int | None:
    """The one-time cost of a learned pruner's training labels, in generated tokens; None if its card does not state it."""
    plugin = plugin.scorer or plugin
    if not plugin.needs_checkpoint:
        return None
    cost: int | None = read_card(locate(plugin, engine.fingerprint)).get("labels", {}).get("tokens")
    return cost


def lacking_signals(plugin: Plugin, engine: Any) -> str:
    """A message on the signals that a method needs and the engine does not provide; "" if it provides all."""
    lacking = sorted(plugin.traits.needs - engine.provides)
    if not lacking:
        return ""
    if engine.spec["engine"] != IMPORTED:
        return f"needs {', '.join(lacking)}, which engine {engine.spec['engine']} does not provide"
    mend = (
        "" if engine.inner is not None or not ASKED & set(lacking) else f"; the model may: {advice.option(model='...')}"
    )
    return f"needs {', '.join(lacking)}, which the imported paths do not have{mend}"


def unavailable(plugin: Plugin, engine: Any) -> str:
    """Why a method cannot be part of ``all-registered`` on this engine; "" if it can."""
    if lacking := lacking_signals(plugin, engine):
        return lacking
    if plugin.traits.on_request:
        return plugin.traits.on_request
    plugin = plugin.scorer or plugin
    if not plugin.needs_checkpoint:
        return ""
    try:
        locate(plugin, engine.fingerprint)
    except PathpruneError:
        return "no checkpoint for this model"
    return ""


def locate(plugin: Plugin, fingerprint: str) -> Path:
    """The given checkpoint folder, or the one for the base model with this fingerprint.

    A given folder is not validated.

    Raises:
        PathpruneError: there is no checkpoint.
    """
    if plugin.checkpoint:
        return pull(plugin.checkpoint) if is_address(plugin.checkpoint) else Path(plugin.checkpoint)
    for root in _roots():
        checkpoint = folder(root, plugin, fingerprint)
        if (checkpoint / CARD).exists():
            return checkpoint
    raise PathpruneError(
        f"no checkpoint of {plugin.name} for this model ({fingerprint[:12]}); train one, with the same task and "
        f"model: {advice.command('train', pruner=plugin.name)}, or name one: "
        + advice.option(pruner=plugin.name + (",checkpoint=DIR" if plugin.options else ":checkpoint=DIR"))
    )


def _roots() -> tuple[Path, Path]:
    """The folders in which checkpoints are looked up: the user's, and the shipped one."""
    return LOCAL, Path(str(resources.files("pruners"))) / "checkpoints"


def reaches() -> Iterator[tuple[str, str]]:
    """For every available checkpoint with a LoRA: its pruner and model, and the adapted layers or why they cannot be read."""
    for root in _roots():
        for file in sorted(root.glob(f"*/*/{adapters.CONFIG}")):
            try:
                card = read_card(file.parent)
                named = f"{card['pruner']} for {card['base']['model']} ({card['base']['fingerprint'][:8]})"
                yield named, reach_line(_reach_in(card, file.parent))
            except PathpruneError as error:
                yield str(file.parent), str(error)


def _reach_in(card: Mapping[str, Any], checkpoint: Path) -> dict[str, list[str]]:
    """The layers that a LoRA adapts, from its card or, for cards of earlier versions, from the LoRA's configuration."""
    lora = card.get("lora")
    names: list[Any] = [lora.get("on"), lora.get("not_on")] if isinstance(lora, dict) else []
    if names and all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in names):
        return {"on": names[0], "not_on": names[1]}
    config = adapters.settings(checkpoint)
    targets = config["target_modules"]
    modules = ["every linear layer"] if isinstance(targets, str) else {t.rpartition(".")[2] for t in targets}
    return {"on": sorted({*modules, *(config.get("target_parameters") or ())}), "not_on": []}


def reach_line(reach: Mapping[str, Sequence[str]]) -> str:
    """A line that names the layers that a LoRA adapts and, for a mixture of experts, the experts that it does not adapt."""
    beside = f", not on {', '.join(reach['not_on'])}" if reach["not_on"] else ""
    return f"the LoRA is on {', '.join(reach['on'])}{beside}"


def read_card(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's card, with the fields that every card has.

    Raises:
        PathpruneError: the card is missing or damaged, or a field has the wrong type.
    """
    file = checkpoint / CARD
    if not checkpoint.is_dir():
        raise PathpruneError(
            f"no checkpoint at {checkpoint}: give the folder that holds {CARD}, or leave out checkpoint"
        )
    try:
        card: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        base, labels = card["base"], card.get("labels", {})
        texts = [base["fingerprint"], base["model"], base.get("dtype", ""), card["pruner"], card["digest"]]
        cost = labels.get("tokens")
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise PathpruneError(
            f"checkpoint card {file} is missing or damaged ({error}); train the pruner again"
        ) from error
    if wrong := [t for t in texts if not isinstance(t, str) or not t.isprintable() or len(t) > LONGEST]:
        raise PathpruneError(
            f"checkpoint card {file} is damaged: {str(wrong[0])[:40]!r} is not a name; train the pruner again"
        )
    if cost is not None and (isinstance(cost, bool) or not isinstance(cost, int) or cost < 0):
        raise PathpruneError(
            f"checkpoint card {file} is damaged: its labels cost {str(cost)[:40]!r}; train the pruner again"
        )
    return card


def write_card(checkpoint: Path, card: dict[str, Any]) -> None:
    """Write a checkpoint's card, whole or not at all."""
    with writable(checkpoint / CARD) as part:
        part.write_text(json.dumps(card, indent=1) + "\n")


def digest_of(checkpoint: Path) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over all files of a checkpoint except its card and README."""
    digest = hashlib.sha256()
    for file in sorted(checkpoint.rglob("*")):
        if file.is_file() and file.name not in (CARD, "README.md"):
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
