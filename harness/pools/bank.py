"""Generate once, prune many times: finished pools on disk, and an engine that replays them.

``Banked`` is itself an engine. Pruning at a prefix does not change how a kept path continues, so any pruner, prefix
length, retention ratio or budget can be replayed on the stored paths. Only missing paths are sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness.api import STATISTICS, Path, PathpruneError, Problem, Signal, TokenStats
from harness.plugins.sampled import launched, resumed
from harness.store.blame import damaged, unreadable
from harness.store.files import writable
from harness.store.given import GIVEN, counted, ends_of, spans_of
from harness.store.keys import digest
from harness.store.locks import Claims, writing
from harness.store.names import file_name, inside


class Bank:
    """One Parquet file per problem under ``root/<pool key>/``, written atomically.

    ``spec``: ``RunSpec.bank``, the settings that determine the paths."""

    def __init__(self, root: FilePath, spec: dict[str, Any]) -> None:
        self.folder = root / file_name(f"{spec['task']}-{digest(spec | {'statistics': STATISTICS})}")
        self.limit = int(spec["max_tokens"])

    def file(self, problem: Problem) -> FilePath:
        """The file for a problem's paths, safe for any id."""
        return self.folder / f"{file_name(problem.id)}.parquet"

    def get(self, problem: Problem, seed: int) -> list[Path]:
        """The stored finished paths of a problem in index order; empty if there are none.

        Raises:
            PathpruneError: the file cannot be read, or contains anything but this problem's paths.
        """
        file = self.file(problem)
        if not file.exists():
            return []
        rows = _columns(inside(file, self.folder), problem, self.limit)
        return [
            Path(problem, index, seed, tuple(tokens), text, _statistics(rows, index), finish, spans_of(given))
            for index, (tokens, text, finish, given) in enumerate(
                zip(rows["tokens"], rows["text"], rows["finish"], rows[GIVEN], strict=True)
            )
        ]

    def put(self, problem: Problem, paths: Sequence[Path]) -> None:
        """Store finished paths of a problem, in addition to those already stored.

        Raises:
            PathpruneError: a stored path with the same index has other tokens, or writing fails.
        """
        with writing(self.folder):
            every = {p.index: p for p in self.get(problem, paths[0].seed)}
            for path in paths:
                stored = every.setdefault(path.index, path)
                if (stored.tokens, stored.given) != (path.tokens, path.given):
                    raise PathpruneError(
                        f"{self.file(problem)} contains a different path {path.index} (sampled by another machine or version); use another --bank"
                    )
            self._write(problem, [every[index] for index in sorted(every)])

    def claims(self) -> Claims:
        """Claims on problems, which keep other processes from sampling them too."""
        return Claims(self.folder)

    def _write(self, problem: Problem, paths: Sequence[Path]) -> None:
        columns: dict[str, Any] = {
            "index": pa.array([p.index for p in paths], pa.int32()),
            "tokens": pa.array([list(p.tokens) for p in paths], pa.list_(pa.int32())),
            "text": [p.text for p in paths],
            "finish": [p.finish for p in paths],
        }
        if any(p.given for p in paths):  # pools without tools have no such column
            columns[GIVEN] = pa.array([ends_of(p.given) for p in paths], pa.list_(pa.int32()))
        for name in STATISTICS:
            known = [getattr(p.stats, name) if p.stats and name in p.stats.known else None for p in paths]
            columns[name] = pa.array(known, pa.list_(pa.float16()))
        with writable(self.file(problem)) as part:
            table = pa.table(columns).replace_schema_metadata({PROBLEM: problem.id.encode(errors="replace")})
            pq.write_table(table, part, compression="zstd")


def _statistics(rows: dict[str, list[Any]], i: int) -> TokenStats | None:
    """The token statistics of path i; None without any."""
    known = {n: np.asarray(rows[n][i], dtype=np.float16) for n in STATISTICS if rows[n][i] is not None}
    return TokenStats(**known) if known else None


def _columns(file: FilePath, problem: Problem, limit: int) -> dict[str, list[Any]]:
    """The columns of a bank file as lists, checked against what ``Bank.put`` writes."""
    try:
        table = pq.read_table(file)
        _check(table, problem, limit)
        rows = dict(table.to_pydict())
        return rows if GIVEN in rows else rows | {GIVEN: [[]] * len(table)}
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:  # Arrow's own have no number
            raise unreadable(file, error) from error
        flaw = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise damaged(
            file, flaw, "move it away and run the same command, which samples the paths of this problem again"
        ) from error


def _check(table: pa.Table, problem: Problem, limit: int) -> None:
    """Raise ValueError with the flaw if a table does not contain the paths of this problem."""
    for name, holds, kind in COLUMNS:
        if name not in table.column_names:
            raise ValueError(f"it has no column {name}")
        if not holds(table.schema.field(name).type):
            raise ValueError(f"its column {name} is of type {table.schema.field(name).type}, not {kind}")
        if name not in STATISTICS and table[name].null_count:
            raise ValueError(f"its column {name} has gaps")
    stated = (table.schema.metadata or {}).get(PROBLEM, problem.id.encode(errors="replace"))
    if stated != problem.id.encode(errors="replace"):
        raise ValueError(f"it holds the paths of {stated.decode(errors='replace')}, not of {problem.id}")
    if table["index"].to_pylist() != list(range(len(table))):
        raise ValueError("its paths are not numbered 0, 1, 2 and so on")
    if strange := set(table["finish"].to_pylist()) - FINISHES:
        raise ValueError(f"a path has the finish reason {min(strange)!r}, not {' or '.join(sorted(FINISHES))}")
    tokens = table["tokens"].combine_chunks()
    flat, lengths = pc.list_flatten(tokens), pc.list_value_length(tokens)
    if GIVEN in table.column_names:
        lengths = pc.subtract(lengths, counted(table, lengths))
    if flat.null_count or (len(flat) and pc.min(flat).as_py() < 0):
        raise ValueError("a token id is missing or negative")
    if len(table) and pc.max(lengths).as_py() > limit:
        raise ValueError(f"a path has {pc.max(lengths).as_py()} tokens, more than the limit of {limit}")
    for name in STATISTICS:
        values = table[name].combine_chunks()
        if (
            pc.list_flatten(values).null_count
            or not pc.all(pc.equal(pc.list_value_length(values), lengths), min_count=0).as_py()
        ):
            raise ValueError(f"its {name} does not have one number for every token")


PROBLEM = b"pathprune.problem"  # metadata key for the problem's id; files of earlier versions lack it
FINISHES = {"stop", "length"}
COLUMNS: tuple[tuple[str, Callable[[pa.DataType], bool], str], ...] = (
    ("index", pa.types.is_integer, "integers"),
    ("tokens", lambda t: pa.types.is_list(t) and pa.types.is_integer(t.value_type), "lists of integers"),
    ("text", pa.types.is_string, "texts"),
    ("finish", pa.types.is_string, "texts"),
    *(
        (name, lambda t: pa.types.is_list(t) and pa.types.is_floating(t.value_type), "lists of numbers")
        for name in STATISTICS
    ),
)


class Banked:
    """An engine that samples only paths missing from its bank. ``sampled`` counts the tokens actually generated."""

    def __init__(self, engine: Any, bank: Any, max_tokens: int) -> None:
        self.inner, self.bank, self.max_tokens = engine, bank, max_tokens
        self.spec, self.provides = engine.spec, engine.provides
        self.sampled = 0
        self._pools: dict[str, dict[int, Path]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def without(self, signals: frozenset[Signal]) -> Banked:
        """Return the engine itself: a bank stores all signals, for methods that run later."""
        return self

    def pool(self, problem: Problem, seed: int) -> dict[int, Path]:
        """The stored finished paths of a problem by index."""
        if problem.id not in self._pools:
            self._pools[problem.id] = {p.index: p for p in self.bank.get(problem, seed)}
        return self._pools[problem.id]

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        fresh = [p for p in problems if not self.pool(p, seed)]
        launches = launched(self.inner, fresh, n, max_tokens, seed) if fresh else []
        self.sampled += sum(path.drawn for group in launches for path in group)
        groups = {p.id: group for p, group in zip(fresh, launches, strict=True)}
        for problem in problems:
            if problem.id not in groups:
                self._extend(problem, n, seed)
                stored = self.pool(problem, seed)
                groups[problem.id] = [stored[i].cut(max_tokens, self.inner.decode) for i in range(n)]
        return [groups[p.id] for p in problems]

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        def stored(path: Path) -> Path | None:
            known = self.pool(path.problem, path.seed).get(path.index)
            if known is None or known.given[: len(path.given)] != path.given:
                return None
            return known if known.tokens[: len(path.tokens)] == path.tokens else None

        known = [stored(p) for p in paths]
        missing = [p for p, f in zip(paths, known, strict=True) if f is None]
        new = iter(self._sample(missing, max_tokens))
        return [next(new) if f is None else f.cut(max_tokens, self.inner.decode) for f in known]

    def finish(self, groups: Sequence[Sequence[Path]]) -> list[list[Path]]:
        """Resume whole pools to the end, store the new paths, and return the finished ones, a list per pool."""
        done = iter(self.resume([p for group in groups for p in group], self.max_tokens))
        finished = [[next(done) for _ in group] for group in groups]
        for pool in finished:
            problem = pool[0].problem
            if len(self.pool(problem, pool[0].seed)) < len(pool):
                self.bank.put(problem, pool)
                self._pools[problem.id] = {p.index: p for p in pool}
        return finished

    def forget(self, problems: Sequence[Problem]) -> None:
        """Drop the pools of these problems from memory; they stay on disk."""
        for problem in problems:
            self._pools.pop(problem.id, None)

    def _extend(self, problem: Problem, n: int, seed: int) -> None:
        stored = self.pool(problem, seed)
        missing = [Path(problem, i, seed) for i in range(n) if i not in stored]
        if missing:
            stored |= {p.index: p for p in self._sample(missing, self.max_tokens)}
            self.bank.put(problem, [stored[i] for i in sorted(stored)])

    def _sample(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        longer = resumed(self.inner, paths, max_tokens) if paths else []
        self.sampled += sum(b.drawn - a.drawn for a, b in zip(paths, longer, strict=True))
        return longer
