"""The Monte-Carlo oracle: prefixes scored by how often fresh continuations succeed."""

from __future__ import annotations

from dataclasses import asdict

from harness.api import Cost, PathpruneError
from harness.learn.labels import continue_often
from harness.pools.bank import Bank, Banked
from harness.runners.bench import Progress, Settings
from harness.store.keys import digest
from harness.store.records import Record

ORACLE = "oracle"


def score_oracle(settings: Settings, continuations: int, progress: Progress) -> int:
    """Write the oracle's record beside the pruners'; returns the tokens it took. Its cost is not charged to its row."""
    spec = settings.pool | {"prefix": settings.prefix, "pruner": ORACLE, "code": "", "continuations": continuations}
    file = settings.folder / f"L{settings.prefix}-{ORACLE}-{digest(spec, 8)}.jsonl"
    if continuations < 1:
        raise PathpruneError("--continuations is 1 or more")
    about = {"role": "oracle", "quadrant": "reference", "fidelity": f"K = {continuations}"}
    record = Record.open(file, spec, **about, source="pathprune")
    base = {k: v for k, v in settings.pool.items() if k != "n"}
    banked = Banked(settings.engine, Bank(settings.bank, base), settings.max_tokens)
    spent = 0
    for i, problem in enumerate(settings.task.problems("test", settings.problems)):
        if problem.id not in record.lines:
            prefixes = banked.launch([problem], settings.n, settings.prefix, settings.seed)[0]
            right, tokens = continue_often(settings.task, settings.engine, prefixes, continuations, settings.max_tokens)
            spent += tokens
            scores = [float(r) / continuations for r in right]
            record.append([{"problem": problem.id, "scores": scores, "cost": asdict(Cost())}])
        progress(i + 1, f"{spent:,} tokens")
    return spent
