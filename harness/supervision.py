"""Monte-Carlo success labels for learned pruners, and the Monte-Carlo oracle.

STOP's recipe (arXiv 2604.16029, sec. 3.1 and App. B): sample paths, drop problems that are nearly always right or
nearly always wrong, cut the rest at L, continue each prefix K times; the label is the share that is correct. A
path's own ending is the first of its K continuations: it is one fair sample, and already paid for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness import grading
from harness.api import Engine, LabelledPrefix, Path, PathpruneError, Problem, Task
from harness.rng import derive
from harness.store import digest, writable

# Keys of a part's metadata: tokens of its paths, which outcome labels take, and of the continuations on top.
COST = ("pathprune.launched", "pathprune.continued")
TENTH, FEW_HELD = 10, 4  # one problem in ten is held out for validation, and of few problems four
SCHEMA = pa.schema(
    {
        "problem": pa.string(),
        "index": pa.int32(),
        "kind": pa.string(),  # monte-carlo: tokens are a prefix; outcome: tokens are a finished path
        "tokens": pa.list_(pa.int32()),
        "success": pa.float32(),
        "continuations": pa.int32(),
        "validation": pa.bool_(),
    }
)


@dataclass(frozen=True)
class Recipe:
    """``bounds`` of the pass rate are inclusive; ``per_problem`` prefixes of each surviving problem are labelled."""

    problems: int = 2048
    n: int = 16
    continuations: int = 2
    per_problem: int = 16
    bounds: tuple[float, float] = (4 / 32, 28 / 32)
    prefixes: tuple[int, ...] = ()
    max_tokens: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.problems, self.n, self.continuations, self.per_problem) < 1:
            raise PathpruneError("problems, paths, continuations and prefixes per problem are 1 or more")
        if any(not 1 <= length < self.max_tokens for length in self.prefixes):
            raise PathpruneError(f"prefix lengths {self.prefixes} are not between 1 and {self.max_tokens} - 1")


class Labels:
    """A folder of Parquet parts, one per group of problems; a part is whole or absent, so a killed run continues."""

    def __init__(self, root: FilePath, task: Task, engine: Engine, recipe: Recipe) -> None:
        self.task, self.engine, self.recipe = task, engine, recipe
        shape = {k: v for k, v in asdict(recipe).items() if k != "problems"}
        spec = {"task": task.name, "task_version": task.version, "engine": dict(engine.spec), **shape}
        self.key = digest(spec)
        self.folder = root / f"{task.name}-{self.key}"
        self.group = 64

    def parts(self) -> list[FilePath]:
        whole, rest = divmod(self.recipe.problems, self.group)
        names = [f"part-{i:05d}" for i in range(whole)] + [f"part-{whole:05d}-first-{rest}"] * (rest > 0)
        return [self.folder / f"{name}.parquet" for name in names]

    def make(self, progress: Callable[[int, int], None]) -> int:
        """Write the missing parts; returns the tokens generated. ``progress(problems done, tokens)``."""
        spent = 0
        for i, part in enumerate(self.parts()):
            start = i * self.group
            count = min(self.group, self.recipe.problems - start)
            if not part.exists():
                rows, cost = label_group(self.task, self.engine, self._problems(start, count), self.recipe)
                spent += sum(cost)
                said = {key: str(tokens) for key, tokens in zip(COST, cost, strict=True)}
                table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata(said)
                with writable(part) as file:
                    pq.write_table(table, file, compression="zstd")
            progress(start + count, spent)
        return spent

    def tokens(self, kind: str) -> int | None:
        """Tokens generated for labels of a kind, dropped problems included; None where a part does not say."""
        keys = [key.encode() for key in (COST[:1] if kind == "outcome" else COST)]
        said = [(pq.read_schema(part).metadata or {}).get(key) for part in self.parts() for key in keys]
        return sum(int(tokens or 0) for tokens in said) if None not in said else None

    def examples(self, kind: str) -> list[LabelledPrefix]:
        """All rows of one kind ("monte-carlo" or "outcome")."""
        out = []
        for i, part in enumerate(self.parts()):
            known = {p.id: p for p in self._problems(i * self.group, self.group)}
            try:
                rows = pq.read_table(part, filters=[("kind", "=", kind)]).to_pylist()
            except (OSError, pa.ArrowException) as error:
                raise PathpruneError(
                    f"label file {part} is missing or damaged; delete it and run the same command"
                ) from error
            for row in rows:
                tokens = tuple(row["tokens"])
                text = self.engine.decode(tokens)
                prefix = Path(known[row["problem"]], row["index"], self.recipe.seed, tokens, text)
                out.append(LabelledPrefix(prefix, row["success"], row["continuations"], row["validation"]))
        # Parts are written one by one and say what holds of many problems; of few, more are held out.
        held = held_out({e.prefix.problem.id for e in out})
        return [replace(e, validation=e.prefix.problem.id in held) for e in out]

    def _problems(self, start: int, count: int) -> list[Problem]:
        return self.task.problems("label", count, start)


def label_group(
    task: Task, engine: Engine, problems: Sequence[Problem], recipe: Recipe
) -> tuple[list[dict[str, Any]], tuple[int, int]]:
    """Rows of SCHEMA for some problems, and the tokens that the paths and their continuations took."""
    groups = engine.launch(problems, recipe.n, recipe.max_tokens, recipe.seed)
    spent = sum(len(p.tokens) for group in groups for p in group)
    rows: list[dict[str, Any]] = []
    cuts: list[tuple[Path, bool]] = []
    for group in groups:
        right = grading.right(task, group)
        if not recipe.bounds[0] <= np.mean(right) <= recipe.bounds[1]:
            continue
        rows += [_row(p, "outcome", float(r), 1) for p, r in zip(group, right, strict=True)]
        for length in recipe.prefixes:
            long = [(p, r) for p, r in zip(group, right, strict=True) if len(p.tokens) > length]
            cuts += [(p.cut(length, lambda tokens: ""), r) for p, r in long[: recipe.per_problem]]
    success, tokens = continue_often(task, engine, [p for p, _ in cuts], recipe.continuations - 1, recipe.max_tokens)
    for (prefix, own), more in zip(cuts, success, strict=True):
        rate = (own + more) / recipe.continuations
        rows.append(_row(prefix, "monte-carlo", rate, recipe.continuations))
    return rows, (spent, tokens)


def continue_often(
    task: Task, engine: Engine, prefixes: Sequence[Path], times: int, max_tokens: int
) -> tuple[np.ndarray, int]:
    """How many of ``times`` fresh continuations of each prefix are right, ``[n]``, and the tokens it took."""
    copies = [
        replace(p, stats=None, seed=derive(p.seed, "continuation", len(p.tokens), k))
        for p in prefixes
        for k in range(times)
    ]
    finished = engine.resume(copies, max_tokens)
    right = grading.right(task, finished)
    spent = sum(len(b.tokens) - len(a.tokens) for a, b in zip(copies, finished, strict=True))
    return np.array(right, dtype=float).reshape(len(prefixes), times).sum(1), spent


def held_out(problems: Collection[str]) -> set[str]:
    """Problems to validate on: a tenth by hash, and of few problems four, or a quarter where that is less."""
    least = min(FEW_HELD, len(problems) // 4)
    ranked = sorted(problems, key=lambda p: (derive("validation", p) % TENTH, derive("validation", p)))
    return {p for i, p in enumerate(ranked) if i < least or derive("validation", p) % TENTH == 0}


def _row(path: Path, kind: str, success: float, continuations: int) -> dict[str, Any]:
    return {
        "problem": path.problem.id,
        "index": path.index,
        "kind": kind,
        "tokens": list(path.tokens),
        "success": success,
        "continuations": continuations,
        # By problem, never by prefix: siblings of a validation prefix are never trained on.
        "validation": derive("validation", path.problem.id) % TENTH == 0,
    }
