"""Train one learned pruner from labels, and write its checkpoint folder with a card."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import Check, PathpruneError
from harness.engines import memory
from harness.learn import checkpoints
from harness.learn.fitting import Schedule
from harness.learn.labels import Labels
from harness.loop import equip
from harness.plugins.declared import Plugin, as_json
from harness.store.files import saying
from harness.store.folders import writable_folder
from harness.store.keys import digest
from harness.store.locks import sole
from harness.store.provenance import provenance

OUT_OF_MEMORY = (
    "compute batches in parts with accumulate= of the pruner, or lower batch=, or memory= and rows= of the engine"
)


def writes() -> bool:
    """Whether this process writes files and messages; under ``accelerate launch`` each process also selects its GPU here."""
    import torch
    from accelerate import PartialState

    return bool(PartialState(cpu=not torch.cuda.is_available()).is_main_process)


def train_pruner(
    plugin: Plugin,
    engine: Any,
    labels: Labels,
    out: Path,
    log: Callable[[str], None],
    progress: Callable[[int, int, str], None],
    kind: str = "",
    prefix: int = 0,
) -> Path:
    """Fit a pruner, write its checkpoint under ``out``, and return the checkpoint's folder.

    ``kind``: of the labels, by default the pruner's. ``prefix``: train only on prefixes of this length; 0: on all. A killed
    training continues when the call is repeated.

    Raises:
        PathpruneError: there are too few labels, or another process is training the same pruner.
    """
    pruner: Any = plugin.pruner
    if plugin.checkpoint is not None:
        raise PathpruneError("a pruner is trained from labels alone, and not from a checkpoint; leave out checkpoint=")
    hold_recipe(pruner)
    kind = kind or pruner.labels
    examples = [e for e in labels.examples(kind) if not prefix or len(e.prefix.tokens) == prefix]
    if not examples:
        low, high = labels.recipe.bounds
        raise PathpruneError(
            f"{labels.folder} has no {kind} label{f' at {prefix} tokens' if prefix else ''} of a problem with {low:.1%} to {high:.1%} right paths; "
            "label more problems or paths, or problems that are neither too easy nor too hard: --problems, --n, --bounds"
        )
    began = time.monotonic()
    checkpoint = checkpoints.folder(out, plugin, engine.fingerprint)
    run = digest({"pruner": plugin.name, "code": plugin.code, "labels": labels.digest(kind), "prefix": prefix})
    scratch = checkpoint.with_name(f".{checkpoint.name}-{run}")  # another recipe or other labels start from scratch
    check = Check(np.random.default_rng(0), engine, scratch=scratch, progress=progress)
    equip(check, pruner, engine, labels.task)
    with sole(checkpoint, "training") if writes() else nullcontext():
        with memory.named("memory ran out while training", OUT_OF_MEMORY), saying(scratch):
            metrics = as_json(f"{plugin.name!r}: fit()", plugin.call("fit", examples, check, log))
        reach = _reach(pruner)
        if reach:
            log(checkpoints.reach_line(reach))
        if writes():
            about = {"labels": _of_labels(labels, kind, prefix), "metrics": metrics} | (
                {"lora": reach} if reach else {}
            )
            _save(plugin, engine, labels.task.name, checkpoint, about | {"seconds": round(time.monotonic() - began, 1)})
            shutil.rmtree(scratch, ignore_errors=True)
    return checkpoint


def _reach(pruner: Any) -> dict[str, list[str]]:
    """The layers that a pruner's LoRA adapts; empty if it trains no adapter."""
    from harness.engines.hf.adapter import StopAdapter

    adapter = getattr(pruner, "adapter", None)
    return adapter.reach if isinstance(adapter, StopAdapter) and adapter.rank else {}


def _save(plugin: Plugin, engine: Any, task: str, checkpoint: Path, about: dict[str, Any]) -> None:
    """Write the checkpoint's folder with its card, replacing an existing one."""
    with writable_folder(checkpoint, replace=True) as new:
        plugin.call("save", new)
        card = {
            "pruner": plugin.name,
            "code": plugin.code,
            "digest": checkpoints.digest_of(new),
            "base": checkpoints.base_of(engine),
            "task": task,
            **about,
            "provenance": provenance(),
        }
        checkpoints.write_card(new, card)


def hold_recipe(pruner: Any) -> None:
    """Validate the training schedule of a pruner, if it declares one, before any computation.

    Raises:
        PathpruneError: see ``fitting.Schedule``.
    """
    recipe = getattr(pruner, "recipe", None)
    if isinstance(recipe, dict) and set(recipe) <= {f.name for f in fields(Schedule)}:
        Schedule(**recipe)


def _of_labels(labels: Labels, kind: str, prefix: int) -> dict[str, Any]:
    """The card's entry on the training labels: key, recipe, digest and cost in tokens."""
    trained_at = {"prefixes": [prefix]} if prefix else {}
    what = {"key": labels.key, "kind": kind, "tokens": labels.tokens(kind), "digest": labels.digest(kind)}
    return what | asdict(labels.recipe) | trained_at
