"""Train one learned pruner on labels and write its checkpoint folder with a card."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from harness import checkpoints
from harness.api import Check
from harness.loop import equip
from harness.registry import Plugin
from harness.store import provenance
from harness.supervision import Labels


def train_pruner(plugin: Plugin, engine: Any, labels: Labels, out: Path, log: Callable[[str], None]) -> Path:
    pruner: Any = plugin.pruner
    examples = labels.examples(pruner.labels)
    began = time.monotonic()
    check = Check(np.random.default_rng(0), engine)
    equip(check, pruner, engine, labels.task)
    metrics = pruner.fit(examples, check, log)
    place = checkpoints.folder(out, plugin, engine.fingerprint)
    pruner.save(place)
    checkpoints.write_card(
        place,
        {
            "pruner": plugin.name,
            "digest": checkpoints.digest_of(place),
            "base": {"model": engine.spec["model"], "fingerprint": engine.fingerprint},
            "task": labels.task.name,
            "labels": {
                "key": labels.key,
                "kind": pruner.labels,
                "tokens": labels.tokens(pruner.labels),
                **asdict(labels.recipe),
            },
            "metrics": metrics,
            "seconds": round(time.monotonic() - began, 1),
            "provenance": provenance(),
        },
    )
    return place
