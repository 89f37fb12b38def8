"""Train one learned pruner on labels and write its checkpoint folder with a card."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import Check
from harness.learn import checkpoints
from harness.learn.labels import Labels
from harness.loop import equip
from harness.plugins import Plugin
from harness.store.keys import digest
from harness.store.provenance import provenance


def writes() -> bool:
    """Is this the process that writes and speaks? Under ``accelerate launch`` each of several takes its GPU here."""
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
    """Fit, then write the checkpoint; killed at any point, the same call goes on.

    ``kind`` of labels is the pruner's own by default; ``prefix`` takes those of prefixes of this length alone."""
    pruner: Any = plugin.pruner
    kind = kind or pruner.labels
    examples = [e for e in labels.examples(kind) if not prefix or len(e.prefix.tokens) == prefix]
    began = time.monotonic()
    place = checkpoints.folder(out, plugin, engine.fingerprint)
    run = digest({"pruner": plugin.name, "code": plugin.code, "labels": labels.digest(kind), "prefix": prefix})
    scratch = place.with_name(f".{place.name}-{run}")  # of another recipe or other labels nothing is taken over
    check = Check(np.random.default_rng(0), engine, scratch=scratch, progress=progress)
    equip(check, pruner, engine, labels.task)
    metrics = pruner.fit(examples, check, log)
    if not writes():
        return place
    new = scratch / "checkpoint"
    pruner.save(new)
    checkpoints.write_card(
        new,
        {
            "pruner": plugin.name,
            "code": plugin.code,
            "digest": checkpoints.digest_of(new),
            "base": checkpoints.base_of(engine),
            "task": labels.task.name,
            "labels": {
                "key": labels.key,
                "kind": kind,
                "tokens": labels.tokens(kind),
                "digest": labels.digest(kind),
                **asdict(labels.recipe),
                **({"prefixes": [prefix]} if prefix else {}),
            },
            "metrics": metrics,
            "seconds": round(time.monotonic() - began, 1),
            "provenance": provenance(),
        },
    )
    if place.exists():
        shutil.rmtree(place)
    new.rename(place)
    shutil.rmtree(scratch)
    return place
