"""Success labels for learned pruners: the recipe, the cost, the folder of Parquet parts, and the labelling itself.

STOP's recipe (arXiv 2604.16029, sec. 3.1 and App. B): sample paths, drop problems that are nearly always right or nearly
always wrong, cut the paths of the others at L, and continue each prefix K times; the label is the share of right
continuations. A path's own ending is the first of the K: it is an unbiased sample and has been paid for.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness import advice, grading
from harness.api import Engine, LabelledPrefix, Path, PathpruneError, Problem, Task
from harness.hub import is_address, pull_labels
from harness.imports.pool import View
from harness.learn.label_parts import apart, cost_of, stated
from harness.learn.label_parts import rows as rows_of
from harness.plugins.sampled import without
from harness.pools.bank import Bank
from harness.rng import derive
from harness.store.files import writable
from harness.store.given import GIVEN, ends_of, spans_of
from harness.store.keys import digest
from harness.store.locks import Claims
from harness.store.provenance import provenance

FORMAT = "pathprune-labels/1"
KINDS = ("monte-carlo", "single", "outcome")
NAME = re.compile(r"problems-(\d+)-(\d+)\.parquet")
PATIENCE = 1.0  # seconds between two looks at the progress of other processes
TENTH, FEW_HELD = 10, 4  # a tenth of the problems is held out for validation; four if there are few
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
class LabelCost:
    """The cost of labels: paths, tokens and seconds of sampling (``launched``) and of continuing prefixes (``continued``)."""

    problems: int = 0  # sampled
    kept: int = 0  # whose pass rate is within the bounds
    prefixes: int = 0  # labelled
    launched: int = 0
    launched_tokens: int = 0
    launched_seconds: float = 0.0
    continued: int = 0
    continued_tokens: int = 0
    continued_seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of both stages."""
        return self.launched_tokens + self.continued_tokens

    def __add__(self, other: LabelCost) -> LabelCost:
        return LabelCost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def part(self, share: float) -> LabelCost:
        """The cost of a share in [0, 1] of the problems, if all cost the same."""
        values = (getattr(self, f.name) * share for f in fields(self))
        return LabelCost(
            *(round(v, 2) if f.type == "float" else round(v) for v, f in zip(values, fields(self), strict=True))
        )


@dataclass(frozen=True)
class LabelRecipe:
    """Which problems are labelled, and how.

    The defaults are STOP's (arXiv 2604.16029, App. B), which does not state the number of prefixes per problem.

    Raises:
        PathpruneError: a value out of range.
    """

    problems: int = 1024
    n: int = 32  # paths sampled of each problem
    continuations: int = 32  # K of each prefix, its path's own ending included
    per_problem: int = 16  # prefixes of each problem and length, at most
    bounds: tuple[float, float] = (4 / 32, 28 / 32)  # of the pass rate of problems that are kept, inclusive
    prefixes: tuple[int, ...] = ()  # lengths L, in tokens
    max_tokens: int = 0  # of a path
    seed: int = 1
    harvest: int | None = None  # label test problems from this one on, from paths that the bank holds

    def __post_init__(self) -> None:
        if not 0 <= self.bounds[0] <= self.bounds[1] <= 1:
            raise PathpruneError(f"pass rates must be two fractions in ascending order, not {self.bounds}")
        if self.harvest is not None and self.continuations != 1:
            raise PathpruneError(
                "harvested labels come from finished paths only, so continuations is 1; leave out continuations"
            )
        if min(self.problems, self.n, self.continuations, self.per_problem) < 1:
            raise PathpruneError("problems, paths, continuations and prefixes per problem must be 1 or more")
        if any(not 1 <= length < self.max_tokens for length in self.prefixes):
            raise PathpruneError(f"prefix lengths must be from 1 to {self.max_tokens} - 1, not {self.prefixes}")


class Labels:
    """The labels of one task, engine and recipe: a folder of Parquet parts, one per range of problems.

    ``root`` is a folder of label folders, a label folder itself, or a hub data set ``hf://owner/name[@revision]`` with
    either layout. Parts are written atomically, so a killed run can continue. A part's name states which problems of the
    label split it covers, so existing parts stay valid for another ``group`` or more problems. The labels of a problem do
    not depend on other problems.
    """

    def __init__(self, root: FilePath | str, task: Task, engine: Engine, recipe: LabelRecipe, group: int = 64) -> None:
        """Open the labels.

        Raises:
            PathpruneError: there is nothing to label, ``root`` holds other labels, or the hub cannot be reached.
        """
        self.root, self.task, self.engine, self.recipe, self.group = root, task, engine, recipe, group
        available = len(self._problems(0, recipe.problems))
        if not available:
            raise PathpruneError(f"task {task.name} has no problems to label")
        self.recipe = recipe = replace(recipe, problems=available)
        # Newer options at their default are not part of the key, so that older labels keep theirs.
        shape = {k: v for k, v in asdict(recipe).items() if k != "problems" and (k != "harvest" or v is not None)}
        spec = {"task": task.name, "task_version": task.version, "engine": dict(engine.spec), **shape}
        self.key = digest(spec)
        self.folder = self._folder(f"{task.name}-{self.key}")

    def _folder(self, name: str) -> FilePath:
        """The label folder of this name under the root, or the root itself if it holds parts."""
        root = pull_labels(self.root, name) if is_address(self.root) else FilePath(self.root)
        parts = _parts_in(root)
        if parts and root.name != name:
            self._refuse_others(parts[0][2])
        return root if parts else root / name

    def _refuse_others(self, part: FilePath) -> None:
        """Refuse a part that belongs to another task, engine or recipe."""
        made_by, asked = stated(part, "recipe", FORMAT), json.loads(json.dumps(asdict(self.recipe)))
        made_by = made_by if isinstance(made_by, dict) else {}
        differing = [k for k in asked if k != "problems" and made_by.get(k) != asked[k]]
        if differing:
            theirs, ours = (", ".join(f"{k} {r.get(k)}" for k in differing) for r in (made_by, asked))
            raise PathpruneError(
                f"labels in {part.parent} were made with {theirs}, and {ours} is asked for; ask for theirs, or name other labels"
            )
        key = stated(part, "key", FORMAT)
        if key not in (None, self.key):  # parts of an earlier version do not say it
            raise PathpruneError(
                f"labels in {part.parent} are of another task, model or sampling (key {key}) than "
                f"{self.task.name} on {self.engine.spec['model']} here (key {self.key}); name other labels"
            )

    def parts(self) -> list[tuple[int, int, FilePath]]:
        """(first problem, one past the last, file) of the existing parts that are needed, in order."""
        return [part for part in _parts_in(self.folder) if part[0] < self.recipe.problems]

    def require(self) -> None:
        """Require labels of all problems.

        Raises:
            PathpruneError: some are missing; states how many, their estimated cost, and how to get them.
        """
        missing = sum(stop - start for start, stop in self.missing())
        if not missing:
            return
        where = self.root if is_address(self.root) else self.folder
        raise PathpruneError(
            f"labels of {missing:,} of {self.recipe.problems:,} problems are missing in {where}; making them takes "
            f"{self._estimate(missing)}. Point to labels with {advice.option(labels='DIR')} or "
            f"{advice.option(labels='hf://OWNER/NAME')}, make them on the way with {advice.option(make_labels=True)}, or "
            f"first with: {advice.command('label')}"
        )

    def _estimate(self, missing: int) -> str:
        """The estimated cost of labels of more problems: in tokens if parts show the cost per problem, else in paths."""
        cost, recipe = self.cost(), self.recipe
        if cost.problems:
            return f"about {float(f'{missing * cost.tokens / cost.problems:.2g}'):,.0f} tokens"
        prefixes = missing * min(recipe.per_problem, recipe.n) * len(recipe.prefixes)
        return f"{missing * recipe.n:,} paths and up to {prefixes * (recipe.continuations - 1):,} continuations of prefixes"

    def missing(self) -> Iterator[tuple[int, int]]:
        """Ranges ``(first problem, one past the last)`` of at most ``group`` problems that no part covers."""
        at = 0
        for start, stop, _ in [*self.parts(), (self.recipe.problems, 0, None)]:
            while at < start:
                end = min(start, (at // self.group + 1) * self.group)
                yield at, end
                at = end
            at = max(at, stop)

    def make(self, progress: Callable[[int, int], None], bank: Bank | View | None = None) -> int:
        """Create the missing parts, and return when all parts exist.

        Several processes may create the same labels in parallel: each claims some problems at a time, and a claim ends with
        its process.

        Args:
            progress: called with the numbers of finished problems and generated tokens.
            bank: harvest labels from its paths instead of sampling.

        Returns:
            The number of tokens generated by this process.

        Raises:
            PathpruneError: the labels are on the hub, which is read-only.
        """
        engine = Harvest(bank, self.recipe) if bank else self.engine
        spent = 0
        if is_address(self.root) and any(self.missing()):
            raise PathpruneError(
                f"labels missing in {self.root} must be created in a local folder; give one with {advice.option(labels='DIR')}"
            )
        self.check()
        with Claims(self.folder) as claims:
            while waiting := list(self.missing()):
                progress(self.recipe.problems - sum(stop - start for start, stop in waiting), spent)
                if (run := self._claimed(claims, waiting)) is None:
                    time.sleep(PATIENCE)  # other processes are creating the rest
                    continue
                spent += self._write(engine, *run)
                claims.release(map(str, range(*run)))
        progress(self.recipe.problems, spent)
        return spent

    def _claimed(self, claims: Claims, runs: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
        """Claim the first consecutive problems, up to a whole range, that no other process is labelling; None if there are none."""
        for start, stop in runs:
            for first in range(start, stop):
                taken = claims.take_in_order(map(str, range(first, stop)))
                end = first + len(taken)
                if taken and not any(first < there_end and there < end for there, there_end, _ in self.parts()):
                    return first, end
                claims.release(taken)  # another process finished it before our claim
                if taken:
                    return None
        return None

    def _write(self, engine: Any, start: int, stop: int) -> int:
        """Label problems ``start`` to ``stop`` - 1 and write their part; returns the number of generated tokens."""
        rows, cost = label_group(self.task, engine, self._problems(start, stop - start), self.recipe)
        about = {"format": FORMAT, "key": self.key, "recipe": asdict(self.recipe), "cost": asdict(cost)}
        metadata = {f"pathprune.{k}": json.dumps(v) for k, v in (about | {"provenance": provenance()}).items()}
        # Labels without tools keep the columns that they always had.
        given = [pa.field(GIVEN, pa.list_(pa.int32()))] if any(GIVEN in row for row in rows) else []
        schema = pa.schema([*SCHEMA, *given])
        rows = [{GIVEN: []} | row for row in rows] if given else rows
        table = pa.Table.from_pylist(rows, schema).replace_schema_metadata(metadata)
        with writable(self.folder / f"problems-{start:06d}-{stop - 1:06d}.parquet") as file:
            pq.write_table(table, file, compression="zstd")
        return cost.tokens

    def check(self) -> None:
        """Validate all existing parts.

        Raises:
            PathpruneError: a part is damaged.
        """
        self.cost()
        self._rows("outcome")

    def cost(self) -> LabelCost:
        """The total cost of all parts; for a part with more problems than needed, their share.

        Raises:
            PathpruneError: a part is damaged or does not state its cost.
        """
        total = LabelCost()
        for start, stop, part in self.parts():
            wanted = min(stop, self.recipe.problems) - start
            total += cost_of(part, LabelCost, FORMAT).part(wanted / (stop - start))
        return total

    def tokens(self, kind: str) -> int:
        """Tokens generated for labels of a kind, dropped problems included."""
        cost = self.cost()
        return cost.tokens if kind == "monte-carlo" else cost.launched_tokens

    def digest(self, kind: str) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over the labels of a kind."""
        hashed = hashlib.sha256()
        for row in self._rows(kind):
            hashed.update(json.dumps([row["problem"], row["index"], len(row["tokens"]), row["success"]]).encode())
        return hashed.hexdigest()[:16]

    def examples(self, kind: str) -> list[LabelledPrefix]:
        """All labels of one kind, with ``success`` in [0, 1].

        Args:
            kind: "monte-carlo"; "single" (the same prefixes with only their own path's outcome); or "outcome" (finished paths).

        Raises:
            PathpruneError: an unknown kind, or a damaged part.
        """
        known = {p.id: p for p in self._problems(0, self.recipe.problems)}
        rows = self._rows(kind)
        # Parts are written one by one, assuming many problems; if there are few, a larger share is held out.
        held = held_out({row["problem"] for row in rows})
        examples = []
        for row in rows:
            tokens = tuple(row["tokens"])
            prefix = Path(
                known[row["problem"]], row["index"], self.recipe.seed, tokens, self.engine.decode(tokens),
                given=spans_of(row.get(GIVEN) or ()),
            )  # fmt: skip
            examples.append(LabelledPrefix(prefix, row["success"], row["continuations"], row["problem"] in held))
        return examples

    def _rows(self, kind: str) -> list[dict[str, Any]]:
        if kind not in KINDS:
            raise PathpruneError(f"the kind of labels must be one of {', '.join(KINDS)}, not {kind!r}")
        names = [p.id for p in self._problems(0, self.recipe.problems)]
        rows: list[dict[str, Any]] = []
        apart(self.parts())
        for start, stop, part in self.parts():
            covered = names[start:stop] if stop <= len(names) else None
            rows += rows_of(part, SCHEMA, covered, self.recipe, FORMAT)
        wanted = set(names)
        rows = [row for row in rows if row["problem"] in wanted]
        if kind != "single":
            return [row for row in rows if row["kind"] == kind]
        outcome = {(row["problem"], row["index"]): row["success"] for row in rows if row["kind"] == "outcome"}
        cut = (row for row in rows if row["kind"] == "monte-carlo")
        return [row | {"success": outcome[row["problem"], row["index"]], "continuations": 1} for row in cut]

    def _problems(self, start: int, count: int) -> list[Problem]:
        if self.recipe.harvest is None:
            return self.task.problems("label", count, start)
        return self.task.problems("test", count, self.recipe.harvest + start)


class Harvest:
    """An engine that returns the finished paths of a bank, for labels without rollouts (K = 1)."""

    def __init__(self, bank: Bank | View, recipe: LabelRecipe) -> None:
        self.bank, self.recipe = bank, recipe

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        """The first ``n`` banked paths of each problem.

        Raises:
            PathpruneError: the bank holds fewer.
        """
        groups = [self.bank.get(p, seed)[:n] for p in problems]
        for problem, group in zip(problems, groups, strict=True):
            if len(group) < n:
                raise PathpruneError(
                    f"the bank holds {len(group)} of {n} paths of {problem.id}; bench that many problems and paths first"
                )
        return groups

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        """Return no paths: with K = 1 no prefix is continued."""
        assert not paths, "harvested labels have no continuations"
        return []


def _parts_in(folder: FilePath) -> list[tuple[int, int, FilePath]]:
    """(first problem, one past the last, file) of every part in a folder, in order."""
    names = ((NAME.fullmatch(file.name), file) for file in sorted(folder.glob("problems-*.parquet")))
    return [(int(match[1]), int(match[2]) + 1, file) for match, file in names if match]


def label_group(
    task: Task, engine: Any, problems: Sequence[Problem], recipe: LabelRecipe
) -> tuple[list[dict[str, Any]], LabelCost]:
    """Label some problems; returns rows of SCHEMA and their cost."""
    began = time.perf_counter()
    groups = _whole_paths(engine, problems, recipe)
    launched = time.perf_counter() - began
    rows: list[dict[str, Any]] = []
    cuts: list[tuple[Path, bool]] = []
    kept = 0
    for group in groups:
        right = grading.right(task, group)
        if not recipe.bounds[0] <= np.mean(right) <= recipe.bounds[1]:
            continue
        kept += 1
        rows += [_row(p, "outcome", float(r), 1) for p, r in zip(group, right, strict=True)]
        for length in recipe.prefixes:
            long = [(p, r) for p, r in zip(group, right, strict=True) if p.drawn > length]
            cuts += [(p.cut(length, lambda tokens: ""), r) for p, r in long[: recipe.per_problem]]
    began = time.perf_counter()
    success, tokens = continue_often(task, engine, [p for p, _ in cuts], recipe.continuations - 1, recipe.max_tokens)
    continued = time.perf_counter() - began
    for (prefix, finished_right), more in zip(cuts, success, strict=True):
        rate = (finished_right + more) / recipe.continuations
        rows.append(_row(prefix, "monte-carlo", rate, recipe.continuations))
    spent = 0 if recipe.harvest is not None else sum(p.drawn for group in groups for p in group)
    return rows, LabelCost(
        len(problems), kept, len(cuts), recipe.n * len(problems), spent, round(launched, 2),
        len(cuts) * (recipe.continuations - 1), tokens, round(continued, 2),
    )  # fmt: skip


def _whole_paths(engine: Any, problems: Sequence[Problem], recipe: LabelRecipe) -> list[list[Path]]:
    """N whole paths of each problem. They are started by resume, for which an engine keeps no KV."""
    if recipe.harvest is not None:
        groups: list[list[Path]] = engine.launch(problems, recipe.n, recipe.max_tokens, recipe.seed)
        return groups
    n = recipe.n
    paths = without(engine).resume([Path(p, i, recipe.seed) for p in problems for i in range(n)], recipe.max_tokens)
    return [paths[i : i + n] for i in range(0, len(paths), n)]


def continue_often(
    task: Task, engine: Engine, prefixes: Sequence[Path], times: int, max_tokens: int
) -> tuple[np.ndarray, int]:
    """The number of right ones among ``times`` new continuations of each prefix, ``[n]``, and the tokens generated."""
    copies = [
        replace(p, stats=None, seed=derive(p.seed, "continuation", len(p.tokens), k))
        for p in prefixes
        for k in range(times)
    ]
    finished = without(engine).resume(copies, max_tokens)
    right = grading.right(task, finished)
    spent = sum(b.drawn - a.drawn for a, b in zip(copies, finished, strict=True))
    return np.array(right, dtype=float).reshape(len(prefixes), times).sum(1), spent


def held_out(problems: Collection[str]) -> set[str]:
    """Ids of the validation problems: a tenth by hash; if there are few problems, four or a quarter, whichever is less."""
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
        # By problem, never by prefix: prefixes of a validation problem are never trained on.
        "validation": derive("validation", path.problem.id) % TENTH == 0,
    } | ({GIVEN: ends_of(path.given)} if path.given else {})
