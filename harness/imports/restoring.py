"""Puts the paths of a shipped pool back into a bank, so that runs with the model go on from them on another machine."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import STATISTICS, Path, PathpruneError
from harness.imports.pool import Pool, native
from harness.imports.tokens import Tokens
from harness.imports.watch import SILENT, Progress
from harness.pools.bank import Bank

SAMPLED = {"task", "task_version", "engine", "seed", "max_tokens"}  # what names a bank, see ``RunSpec.bank``


def restore(pool: Pool, root: FilePath, progress: Progress = SILENT) -> Bank:
    """Store the paths of ``pool`` in the bank under ``root`` that a run with the same task, model and sampling reads.

    Paths that are in the bank already stay as they are.

    Raises:
        PathpruneError: the pool was not sampled here, lacks a token statistic, or differs from paths in the bank.
    """
    sampled: dict[str, Any] = pool.about.get("sampled") or {}
    if not sampled.keys() >= SAMPLED:
        raise PathpruneError(
            f"pool {pool.name} does not say how its paths were sampled; only a pool that export-pool --ship wrote from a bank can be restored"
        )
    if lacking := [name for name in STATISTICS if not pool.has(name)]:
        raise PathpruneError(
            f"pool {pool.name} ships without {', '.join(lacking)}, which a bank holds for every token; sample its paths again"
        )
    view, bank = native(pool), Bank(root, sampled)
    for done, entry in enumerate(pool.entries.values(), 1):
        bank.put(entry.problem, [_native(path) for path in view.get(entry.problem, sampled["seed"])])
        progress(done, len(pool.entries), "")
    return bank


def _native(path: Path) -> Path:
    """The path with plain token ids."""
    assert isinstance(path.tokens, Tokens)
    ids = np.asarray(path.tokens.document.ids).tolist()
    return Path(path.problem, path.index, path.seed, tuple(ids), path.text, path.stats, path.finish, path.given)
