"""Verifies a stored pool against its import, with one line per difference."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.api import STATISTICS, PathpruneError
from harness.imports.card import pool_digest
from harness.imports.graders import Answers, grader_of, letters_of
from harness.imports.held import LARGEST
from harness.imports.judging import judged_here
from harness.imports.pool import AGAIN, CLIPPED, DISAGREEMENTS, PATHS, PROBLEMS, Entry, Pool
from harness.imports.rows import ImportedPath
from harness.imports.schema import content_digest, lists
from harness.imports.shipping import RECORDS, other_paths
from harness.imports.watch import SILENT, Progress
from harness.store.blame import damaged, unreadable
from harness.store.given import GIVEN

CLOSE = 1e-9  # of means, relative
SIGNALS = ("text", "tokens", "probes", "rewards", GIVEN, *STATISTICS)


@dataclass
class Counted:
    """Counts over all problems, to be compared with the card."""

    counts: Counter[str] = field(default_factory=Counter)
    longest: int = 0
    extreme: Counter[str] = field(default_factory=Counter)  # by statistic, numbers at the ends of float16's range
    digests: list[tuple[str, str]] = field(default_factory=list)
    differing: set[tuple[str, int]] = field(default_factory=set)  # paths whose given and own grades differ


def flaws(pool: Pool, progress: Progress = SILENT) -> Iterator[str]:
    """What is wrong with a pool, a line each; nothing where all of it is what was imported.

    Hashes of rows and of the pool, numbers of paths and problems, what each path has, lengths, answers and grades.
    """
    try:
        entries = pool.entries
        listed = _disagreements(pool)
    except PathpruneError as error:
        yield str(error)
        return
    yield from _strangers(pool, entries)
    counted, is_whole = Counted(), True
    for number, (name, entry) in enumerate(entries.items(), 1):
        progress(number, len(entries), name)
        try:
            rows = pool.rows(name)
        except PathpruneError as error:
            is_whole = False
            yield str(error)
            continue
        yield from _of_problem(pool, entry, rows, counted)
    if is_whole:  # otherwise every sum differs, which adds no information
        yield from _of_card(pool, counted, listed)
        yield from _of_scores(pool)


def _strangers(pool: Pool, entries: Mapping[str, Entry]) -> Iterator[str]:
    listed = {entry.file for entry in entries.values()}
    if pool.is_packed:
        return
    for file in sorted((pool.folder / PATHS).glob("*")):
        if file.name not in listed:
            yield f"{file} belongs to no problem of {PROBLEMS}; move it out of the pool"


def _of_scores(pool: Pool) -> Iterator[str]:
    """Shipped scores that were not recorded on the pool's paths."""
    folder = pool.folder / RECORDS
    if folder.is_dir():
        yield from (f"{folder} was not recorded on these paths: {flaw}" for flaw in other_paths(pool, folder))


def _of_problem(pool: Pool, entry: Entry, rows: pa.Table, counted: Counted) -> Iterator[str]:
    """Flaws in the rows of one problem that reading them does not detect."""
    file = pool.file_of(entry.problem.id)
    name = entry.problem.id
    counted.digests.append((name, entry.sha256 or content_digest(rows)))
    asked = (rows["problem"][0].as_py(), rows["prompt"][0].as_py() or "", tuple(rows["golds"][0].as_py() or ()))
    if asked != (name, entry.problem.prompt, entry.golds):
        yield str(
            damaged(
                pool.folder / PROBLEMS, f"its problem or gold answer of {name} differs from that in {file.name}", AGAIN
            )
        )
    for flaw in _of_values(rows):
        yield str(damaged(file, flaw, AGAIN))
    _count(rows, counted)
    yield from _of_grades(pool, entry, rows, counted)


def _of_values(rows: pa.Table) -> Iterator[str]:
    """Values that no import writes."""
    for name in STATISTICS:
        if not np.isfinite(pc.list_flatten(rows[name]).to_numpy(zero_copy_only=False).astype(np.float64)).all():
            yield f"a {name} is not finite"
    texts = rows["text"].to_pylist()
    for i, ends in enumerate(lists(rows["ends"], np.dtype(np.int32))):
        if (
            ends is not None
            and len(ends)
            and (np.any(np.diff(ends) < 0) or ends[0] < 0 or ends[-1] > len(texts[i] or ""))
        ):
            yield f"tokens of path {i} end outside of its text"
    for i, ids in enumerate(lists(rows["tokens"], np.dtype(np.int32))):
        if ids is not None and len(ids) and ids.min() < 0:
            yield f"path {i} has a token id below 0"
    for i, probes in enumerate(rows["probes"].to_pylist()):
        positions = [p["position"] for p in probes or ()]
        if any(p is None or p < 0 for p in positions) or positions != sorted(set(positions)):
            yield f"probes of path {i} are at {positions[:5]}, not in ascending order"


def _count(rows: pa.Table, counted: Counted) -> None:
    """Add the rows to the counts."""
    for name in STATISTICS:
        numbers = pc.list_flatten(rows[name]).to_numpy(zero_copy_only=False)
        counted.extreme[name] += int((np.abs(numbers.astype(np.float64)) == LARGEST).sum())
    there = {name: len(rows) - rows[name].null_count for name in SIGNALS}
    finishes = Counter(rows["finish"].to_pylist())
    texts = [text for text in rows["text"].to_pylist() if text]
    counted.counts.update(there)
    counted.counts.update(
        {
            "paths": len(rows), "length": sum(rows["length"].to_pylist()), "truncated": finishes["length"], "unknown_finish": finishes[None],
            "unanswered": rows["answer"].null_count, "empty": rows["text"].to_pylist().count(""), "duplicates": len(texts) - len(set(texts)),
        }
    )  # fmt: skip
    counted.longest = max(counted.longest, *rows["length"].to_pylist())


def _of_grades(pool: Pool, entry: Entry, rows: pa.Table, counted: Counted) -> Iterator[str]:
    """Grade texts again, if the pool's grades are ours or were compared with ours."""
    mode = pool.about["grades"]
    if mode not in ("ours", "both") or not entry.golds:
        return
    own = pool.about["shape"] == "pathprune"
    grader = grader_of(pool.about["grader"]) if own else Answers(letters_of(entry.golds))
    columns = (rows[name].to_pylist() for name in ("text", "finish", "answer", "correct"))
    for i, (text, finish, answer, right) in enumerate(zip(*columns, strict=True)):
        if text is None:
            continue
        ours = judged_here(ImportedPath(text=text, finish=finish), text, entry.golds, grader, f"path {i}", "both")
        if ours is None or ours[1] == right:
            continue
        counted.differing.add((entry.problem.id, i))
        if mode == "ours":
            file = pool.file_of(entry.problem.id)
            told, now = ("right" if r else "wrong" for r in (right, ours[1]))
            yield f"{file}: path {i} is stored as {told} (answer {answer}), but this version grades its text as {now} (answer {ours[0]}); {AGAIN}"


def _of_card(pool: Pool, counted: Counted, listed: set[tuple[str, int]]) -> Iterator[str]:
    """Differences between the card and the rows."""
    about, counts = pool.about, counted.counts
    sizes = [e.paths for e in pool.entries.values()]
    digests = pool_digest(counted.digests, about["grader"])
    facts: dict[str, tuple[Any, Any]] = {
        "digest": (about["digest"], digests),
        "problems": (about["problems"], len(sizes)),
        "paths": (about["paths"], counts["paths"]),
        "n": (about.get("n"), {"min": min(sizes), "max": max(sizes)}),
        "the longest path": (about["lengths"]["max"], counted.longest),
        **{name: (about.get(name), counts[name]) for name in ("truncated", "unknown_finish", "unanswered", "empty", "duplicates")},
        **{f"signals: {name}": (about["signals"].get(name), counts[name]) for name in about["signals"]},
        "disagreements": (about["disagreements"], len(listed)),
    }  # fmt: skip
    for name, (stated, there) in facts.items():
        if stated != there:
            yield str(
                damaged(pool.folder / "pool.json", f"it states {name} {stated}, but the rows have {there}", AGAIN)
            )
    for name, stated in (about.get(CLIPPED) or {}).items():
        if stated > counted.extreme[name]:
            flaw = f"it states {stated} numbers of {name} beyond float16, but {counted.extreme[name]} stand at its ends"
            yield str(damaged(pool.folder / "pool.json", flaw, AGAIN))
    mean = counts["length"] / counts["paths"]
    if abs(about["lengths"]["mean"] - mean) > CLOSE * max(1.0, mean):
        yield str(
            damaged(
                pool.folder / "pool.json",
                f"it states a mean length of {about['lengths']['mean']}, but the rows have {mean}",
                AGAIN,
            )
        )
    if about["grades"] == "both" and (other := listed ^ counted.differing) and pool.has("text"):
        name, index = min(other)
        yield f"{pool.folder / DISAGREEMENTS} disagrees with this version's grades on path {index} of {name} and {len(other) - 1} more; {AGAIN}"


def _disagreements(pool: Pool) -> set[tuple[str, int]]:
    """The paths listed as graded differently by us."""
    file = pool.folder / DISAGREEMENTS
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return {(row["problem"], row["index"]) for row in rows}
    except OSError as error:
        raise unreadable(file, error) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(file, f"a line is not a path ({error})", AGAIN) from error
