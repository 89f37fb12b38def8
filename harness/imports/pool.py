"""A folder of imported paths: its contents, and the paths of each problem as the harness replays them.

``pool.json`` records the origin of the paths and which data they have. ``problems.jsonl`` has one line per problem, and
``paths/`` one Parquet file per problem with the columns of ``harness.imports.schema``. The folder gets its name once it is
complete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness import advice
from harness.api import MOST_FLOPS, STATISTICS, Path, PathpruneError, Problem, TokenStats
from harness.imports import packing
from harness.imports.schema import SCHEMA, content_digest, flaw_of, given_tokens, lists, spans_in, with_given
from harness.imports.tokens import Document, Tokens
from harness.store.blame import damaged, other_format, unreadable
from harness.store.given import GIVEN
from harness.store.locks import Claims
from harness.store.names import inside, is_file_name
from harness.text import is_utf8, shown, unfit, unknown

FORMAT = "pathprune-pool/1"
POOLS = FilePath("results/pools")
CARD, PROBLEMS, PATHS, DISAGREEMENTS = "pool.json", "problems.jsonl", "paths", "disagreements.jsonl"
TOKENS, WORDS = "tokens", "words"
WORD = re.compile(r"\S+")
CLIPPED = "clipped"  # in a card: by statistic, how many numbers were beyond float16
FEW_NAMES = 5  # names that a message lists
AGAIN = "move it away and import it again"
NUMBERS = (*STATISTICS, "tokens", "ends")


@dataclass(frozen=True)
class Entry:
    """A problem of the pool: its prompt, its gold answers and its number of paths."""

    problem: Problem
    golds: tuple[str, ...]
    file: str
    paths: int
    prompt_tokens: int | None
    sha256: str = ""  # of the rows' content; "" in pools from before it was stored


@dataclass(frozen=True, eq=False)
class Pool:
    """An imported pool. ``about`` holds the content of ``pool.json``."""

    folder: FilePath
    about: Mapping[str, Any] = field(repr=False)

    @classmethod
    def open(cls, name: str | FilePath, pools: str | FilePath = POOLS) -> Pool:
        """Open the pool with this name under ``pools``, or the one in this folder.

        Raises:
            PathpruneError: no such pool, or a damaged one.
        """
        folder = FilePath(name) if FilePath(name, CARD).is_file() else FilePath(pools) / str(name)
        if not (folder / CARD).is_file():
            if known := names_of_pools(pools):
                raise PathpruneError(unknown("pool", str(name), known))
            raise PathpruneError(
                f"no pool {shown(str(name))} under {pools}; make one: {advice.command('import', file='FILE', name=name)}"
            )
        about = _json(folder / CARD)
        if about.get("format") != FORMAT:
            raise other_format(folder / CARD, about.get("format"), FORMAT)
        pool = cls(folder, about)
        pool._check()
        return pool

    @property
    def name(self) -> str:
        """The name it was imported under."""
        return str(self.about["name"])

    @property
    def digest(self) -> str:
        """Digest of all problems, paths and grades."""
        return str(self.about["digest"])

    @property
    def signals(self) -> Mapping[str, int]:
        """Number of paths that have each signal: text, tokens, statistics, probes."""
        counts: Mapping[str, int] = self.about["signals"]
        return counts

    def has(self, signal: str) -> bool:
        """Do all paths have this signal?"""
        return 0 < self.signals.get(signal, 0) == self.about["paths"]

    @property
    def statistics(self) -> tuple[str, ...]:
        """Token statistics that every path has."""
        return tuple(name for name in STATISTICS if self.has(name))

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """The problems by id, in the order of the file."""
        file = self.folder / PROBLEMS
        try:
            entries = [_entry(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
        except OSError as error:
            raise unreadable(file, error) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise damaged(file, f"a line is not a problem ({error})", AGAIN) from error
        if not entries or len({e.problem.id for e in entries}) < len(entries):
            raise damaged(file, "it has no problems, or one of them twice", AGAIN)
        return {e.problem.id: e for e in entries}

    @property
    def has_outputs(self) -> bool:
        """Do its paths hold outputs of tools?"""
        return self.signals.get(GIVEN, 0) > 0

    def best_n(self) -> int:
        """The n that uses most paths of the pool: n times the number of problems with at least n paths."""
        counts = sorted(e.paths for e in self.entries.values())
        return max(counts, key=lambda n: (n * sum(c >= n for c in counts), n))

    def ragged(self) -> dict[str, int]:
        """Problems with fewer paths than the largest, with their numbers of paths."""
        most = max(e.paths for e in self.entries.values())
        return {name: e.paths for name, e in self.entries.items() if e.paths < most}

    @property
    def is_packed(self) -> bool:
        """Are all paths in one file, as ``harness.imports.shipping`` writes them?"""
        return self.about.get("packed") == packing.PACKED

    @property
    def again(self) -> str:
        """How to repair damage, for messages."""
        return "restore it from where you have it" if self.is_packed else AGAIN

    def file_of(self, problem: str) -> FilePath:
        """The file that holds the paths of a problem."""
        place = FilePath(packing.PACKED) if self.is_packed else FilePath(PATHS, self.entries[problem].file)
        return inside(self.folder / place, self.folder)

    def rows(self, problem: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one problem, with the columns of ``harness.imports.schema``; complete rows are checked against their digest.

        Args:
            problem: its id.
            columns: the columns to read; None: all.

        Raises:
            PathpruneError: the rows differ from what the import wrote.
        """
        file = self.file_of(problem)
        try:
            table = self._packed_rows(file, problem, columns) if self.is_packed else _read(file, columns)
        except FileNotFoundError as error:
            raise damaged(file, "it is gone", self.again) from error
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno:
                raise unreadable(file, error) from error
            raise damaged(file, str(error).splitlines()[0], self.again) from error
        for name in columns or SCHEMA.names:
            if name not in table.column_names or table.schema.field(name).type != SCHEMA.field(name).type:
                raise damaged(file, f"its column {name} is missing or of another type", self.again)
        entry = self.entries[problem]
        if len(table) != entry.paths:
            raise damaged(file, f"it has {len(table)} paths, but {PROBLEMS} lists {entry.paths}", self.again)
        if not columns:
            self._hold(file, table, entry)
        return table

    def _packed_rows(self, file: FilePath, problem: str, columns: Sequence[str] | None) -> pa.Table:
        entry = self.entries[problem]
        about = {
            "problem": problem,
            "prompt": entry.problem.prompt or None,
            "golds": list(entry.golds),
            "prompt_tokens": entry.prompt_tokens,
        }
        return packing.read(file, self._groups[problem], about, self._pieces, columns, self._metadata)

    @cached_property
    def _groups(self) -> dict[str, int]:
        """The row group of each problem in a packed file."""
        return {name: group for group, name in enumerate(self.entries)}

    @cached_property
    def _metadata(self) -> pq.FileMetaData:
        return pq.read_metadata(self.folder / packing.PACKED)

    @cached_property
    def _pieces(self) -> Mapping[int, str]:
        return packing.pieces_in(self.folder / packing.PACKED)

    def _hold(self, file: FilePath, table: pa.Table, entry: Entry) -> None:
        """Refuse rows that differ from the imported ones."""
        if flaw := flaw_of(table):
            raise damaged(file, flaw, self.again)
        if entry.sha256 and content_digest(table) != entry.sha256:
            raise damaged(
                file,
                f"its rows differ from those that were {'shipped' if self.is_packed else 'imported'}: the file was changed",
                self.again,
            )

    def __repr__(self) -> str:
        return f"<pool {self.name}: {self.about['problems']} problems, {self.about['paths']} paths>"

    def _check(self) -> None:
        for name, holds in REQUIRED.items():
            if not holds(self.about.get(name)):
                raise damaged(self.folder / CARD, f"{name} is {shown(self.about.get(name))}", AGAIN)


def _read(file: FilePath, columns: Sequence[str] | None) -> pa.Table:
    with pq.ParquetFile(file) as stream:
        return stream.read(columns=list(columns)) if columns else with_given(stream.read())


def names_of_pools(pools: str | FilePath = POOLS) -> list[str]:
    """Names of the pools in a folder, sorted."""
    return sorted(f.parent.name for f in FilePath(pools).glob(f"[!.]*/{CARD}"))


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < MOST_FLOPS


def _are_lengths(value: Any) -> bool:
    return isinstance(value, dict) and _is_amount(value.get("mean")) and _is_count(value.get("max"))


def _are_flops(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and value.keys() == {"per_token", "attention"} and all(map(_is_amount, value.values()))
    )


def are_clipped(value: Any) -> bool:
    """Does it say, by statistic, how many numbers were beyond float16?"""
    return isinstance(value, dict) and all(n in STATISTICS and _is_count(v) and v for n, v in value.items())


def _is_source(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_line(value.get("file"))
        and _is_line(value.get("sha256"))
        and _is_count(value.get("rows") or 0)
    )


REQUIRED: dict[str, Callable[[Any], bool]] = {
    "name": is_file_name,
    "digest": lambda v: _is_line(v) and len(v) == 64,
    "problems": lambda v: _is_count(v) and v > 0,
    "paths": lambda v: _is_count(v) and v > 0,
    "unit": _is_line,
    "signals": lambda v: isinstance(v, dict) and all(map(_is_count, v.values())),
    "lengths": _are_lengths,
    "words": _are_lengths,
    "rate": lambda v: v is None or _is_amount(v),
    "flops": _are_flops,
    "sources": lambda v: isinstance(v, list) and all(map(_is_source, v)),
    "mapping": lambda v: isinstance(v, dict),
    "grades": _is_line,
    "grader": lambda v: isinstance(v, dict),
    "disagreements": _is_count,
    CLIPPED: lambda v: v is None or are_clipped(v),
    "packed": lambda v: v in (None, packing.PACKED),
    "prefixes": lambda v: v is None or (isinstance(v, list) and all(type(n) is int and n > 0 for n in v)),
}


def _entry(row: Any) -> Entry:
    """Parse a line of the problems' file.

    Raises:
        ValueError, KeyError, TypeError: the line is not a problem.
    """
    name, prompt, golds, file, paths, tokens = (
        row[k] for k in ("id", "prompt", "golds", "file", "paths", "prompt_tokens")
    )
    if why := unfit(name):
        raise ValueError(f"an id {why}")
    texts = [prompt or "", *golds]
    if not all(isinstance(t, str) and is_utf8(t) for t in texts) or not is_file_name(file):
        raise ValueError(f"{shown(row)}")
    if not (_is_count(paths) and paths > 0 and (tokens is None or _is_count(tokens))):
        raise ValueError(f"{paths} paths, {tokens} tokens of the prompt")
    if not isinstance(sha256 := row.get("sha256", ""), str):
        raise ValueError(f"sha256 {shown(sha256)}")
    return Entry(Problem(name, prompt or "", golds[0] if golds else ""), tuple(golds), file, paths, tokens, sha256)


Ends = Callable[[str], np.ndarray]  # end offset of each unit of a text in characters, int32


def word_ends(text: str) -> np.ndarray:
    """End offset of each whitespace-separated word in characters, int32 ``[words]``."""
    return np.array([m.end() for m in WORD.finditer(text)], np.int32)


@dataclass(frozen=True, eq=False)
class View:
    """A pool with path lengths in some unit. ``measure`` gives the end of each unit of a text; None: units as recorded.

    A view is a read-only bank: ``get`` works as in ``harness.pools.bank.Bank``, and ``put`` stores nothing."""

    pool: Pool
    unit: str
    mean: float
    longest: int
    measure: Ends | None = None

    @property
    def folder(self) -> FilePath:
        """The folder of the paths."""
        return self.pool.folder

    @property
    def recorded(self) -> bool:
        """Is the unit the one in which token ids and statistics were recorded?"""
        return self.measure is None

    def get(self, problem: Problem, seed: int) -> list[Path]:
        """The stored finished paths of a problem in index order; empty for a problem outside the pool."""
        if problem.id not in self.pool.entries:
            return []
        rows = self.pool.rows(problem.id)
        numbers = {
            name: lists(rows[name], np.dtype(SCHEMA.field(name).type.value_type.to_pandas_dtype())) for name in NUMBERS
        }
        texts, finishes, lengths = (rows[name].to_pylist() for name in ("text", "finish", "length"))
        paths = []
        for i, (text, finish, length, given) in enumerate(zip(texts, finishes, lengths, spans_in(rows), strict=True)):
            every = length + given_tokens(given)
            document = self._document(f"{i} of {problem.id}", text, every, numbers["tokens"][i], numbers["ends"][i])
            known = {n: numbers[n][i] for n in self.pool.statistics} if self.recorded else {}
            stats = TokenStats(**known) if known else None
            paths.append(Path(problem, i, seed, Tokens(document), text or "", stats, finish or "stop", given))  # type: ignore[arg-type]
        return paths

    def put(self, problem: Problem, paths: Sequence[Path]) -> None:
        """Do nothing: an imported pool is complete."""

    def claims(self) -> Claims:
        """Claims on problems, which keep other processes from working on them too."""
        return Claims(self.folder)

    def _document(
        self, name: str, text: str | None, length: int, ids: np.ndarray | None, ends: np.ndarray | None
    ) -> Document:
        if self.measure is None:
            return Document(name, length, text, ids, ends, self.pool.about.get("rate"))
        ends = self.measure(text or "")
        return Document(name, len(ends), text, None, ends)


def native(pool: Pool) -> View:
    """The pool in its recorded unit."""
    lengths = pool.about["lengths"]
    return View(pool, pool.about["unit"], float(lengths["mean"]), int(lengths["max"]))


def in_words(pool: Pool) -> View:
    """The pool counted in words.

    Raises:
        PathpruneError: its paths have no text, or outputs of tools.
    """
    if pool.about["unit"] == WORDS:
        return native(pool)
    _need_no_outputs(pool)
    if not pool.has("text"):
        raise PathpruneError(f"pool {pool.name} has no text, so it has no words; give a prefix in tokens or as a share")
    words = pool.about["words"]
    return View(pool, WORDS, float(words["mean"]), int(words["max"]), word_ends)


def in_tokens_of(pool: Pool, tokenizer: str) -> View:
    """The pool counted in tokens of another tokenizer, which is run once over each text.

    Args:
        pool: a pool whose paths have texts.
        tokenizer: model name, folder or Hub id.

    Raises:
        PathpruneError: the paths have no text, or contain tool outputs, or no such tokenizer exists.
    """
    from harness.imports.measure import ends_by

    _need_no_outputs(pool)
    if not pool.has("text"):
        raise PathpruneError(f"pool {pool.name} has no text for a tokenizer to read; give a prefix in recorded tokens")
    measure = ends_by(tokenizer)
    lengths = [len(measure(text)) for name in pool.entries for text in pool.rows(name, ["text"])["text"].to_pylist()]
    return View(pool, tokens_of(tokenizer), float(np.mean(lengths)), max(lengths), measure)


def _need_no_outputs(pool: Pool) -> None:
    """A length counts what the model wrote, and only recorded tokens say which those are."""
    if pool.has_outputs:
        raise PathpruneError(
            f"paths of pool {pool.name} hold outputs of tools, which no length counts, and only recorded tokens tell them apart; "
            "give a prefix in recorded tokens or as a share"
        )


def tokens_of(tokenizer: str) -> str:
    """The name of a tokenizer's unit in titles."""
    return f"tokens of {FilePath(tokenizer).name}"


def _json(file: FilePath) -> dict[str, Any]:
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(file, error) from error
    except (ValueError, RecursionError) as error:
        raise damaged(file, f"it is not JSON ({error})", AGAIN) from error
    if not isinstance(about, dict):
        raise damaged(file, "it is not an object", AGAIN)
    return about
