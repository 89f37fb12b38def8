"""The Monte-Carlo oracle: prefixes scored by how often fresh continuations succeed."""

from __future__ import annotations

from dataclasses import asdict

from harness.api import Cost, PathpruneError
from harness.learn.labels import continue_often
from harness.pools.bank import Banked
from harness.runners.bench import Progress
from harness.runners.run import Run
from harness.store.keys import digest
from harness.store.records import Record

NAME = "oracle"


def score_oracle(run: Run, continuations: int, progress: Progress) -> int:
    """Write the oracle's record next to the pruners' records. Its cost is not charged to its row.

    Args:
        run: the bench to score.
        continuations: fresh continuations per prefix, K.
        progress: receives the progress.

    Returns:
        The number of generated tokens.

    Raises:
        PathpruneError: ``continuations`` is below 1.
    """
    if continuations < 1:
        raise PathpruneError(f"continuations must be 1 or more, not {continuations}")
    prefix, limit = run.spec.prefixes[0], run.spec.limit
    spec = run.spec.scored_at(prefix) | {"pruner": NAME, "code": "", "continuations": continuations}
    file = run.folder / f"L{prefix}-{NAME}-{digest(spec, 8)}.jsonl"
    about = {"role": "oracle", "quadrant": "reference", "fidelity": f"K = {continuations}"}
    record = Record.open(file, spec, **about, source="pathprune").checked()
    banked = Banked(run.engine, run.opened_bank(), limit)
    spent = 0
    for i, problem in enumerate(run.chosen()):
        if problem.id not in record.lines:
            prefixes = banked.launch([problem], run.spec.n, prefix, run.spec.seed)[0]
            right, tokens = continue_often(run.task, run.engine, prefixes, continuations, limit)
            spent += tokens
            scores = [float(r) / continuations for r in right]
            record.append([{"problem": problem.id, "scores": scores, "cost": asdict(Cost())}])
        progress(i + 1, f"{spent:,} tokens")
    return spent
