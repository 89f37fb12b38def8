"""The content of ``pool.json``: where paths come from, which data they have, and how they are counted and graded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from harness.api import STATISTICS, PathpruneError
from harness.imports.held import MEASURED
from harness.imports.pool import CLIPPED, FORMAT, are_clipped, tokens_of
from harness.imports.rows import Readable
from harness.imports.wanted import Wanted
from harness.store.given import GIVEN
from harness.store.keys import digest
from harness.store.provenance import provenance
from harness.text import shown

ODD = ("truncated", "unknown_finish", "unanswered", "duplicates", "empty")
Entries = Sequence[Mapping[str, Any]]  # per problem, the facts from ``harness.imports.work``


def card_of(
    name: str, wanted: Wanted, key: str, reading: Readable, entries: Entries, beside: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The card of a pool whose problems are all written. ``beside``: files of gold answers.

    Raises:
        PathpruneError: some paths are counted in tokens and some in words.
    """
    counts = counts_of(entries)
    unit = _unit(wanted, reading.about, entries, counts)
    grader, graded = grader_for(reading.about, entries), {e["grades"] for e in entries}
    return {
        "format": FORMAT,
        "name": name,
        "digest": pool_digest([(e["id"], e["sha256"]) for e in entries], grader),
        "key": key,
        "shape": reading.shape,
        "mapping": dict(reading.mapping),
        "sources": [{**s, "file": _public(s["file"])} for s in (*reading.sources, *beside)],
        "problems": len(entries),
        "paths": counts["paths"],
        "n": {"min": min(e["paths"] for e in entries), "max": max(e["paths"] for e in entries)},
        "unit": unit,
        "tokenizer": FilePath(wanted.tokenizer).name if wanted.tokenizer else reading.about.get("tokenizer"),
        **_lengths(entries, counts),
        "signals": {k: counts[k] for k in ("text", "tokens", *STATISTICS, "probes", "rewards")}
        | ({GIVEN: counts[GIVEN]} if counts[GIVEN] else {}),
        "grades": graded.pop() if len(graded) == 1 else "mixed",
        "grader": grader,
        "disagreements": sum(len(e["disagreements"]) for e in entries),
        "flops": _flops(wanted, reading.about),
        "parameters": wanted.parameters,
        **{k: counts[k] for k in ODD},
        **({CLIPPED: clipped} if (clipped := _clipped(reading.about, entries)) else {}),
        "provenance": provenance(),
    }  # fmt: skip


def counts_of(entries: Entries) -> Counter[str]:
    """Number of paths in a pool that have each signal."""
    counts: Counter[str] = Counter()
    for entry in entries:
        counts.update(entry["counts"])
    return counts


def _clipped(about: Mapping[str, Any], entries: Entries) -> dict[str, int]:
    """By statistic, how many numbers stand at the end of float16's range because they are beyond it; also those of our own export."""
    stated = about.get(CLIPPED, {})
    if not are_clipped(stated):
        raise PathpruneError(
            f"the files state as {CLIPPED}: {shown(stated)}, not counts by statistic; export them again"
        )
    counts = Counter[str](stated)
    for entry in entries:
        counts.update(entry.get(CLIPPED, {}))  # entries of an import that an earlier version began have none
    return {name: counts[name] for name in STATISTICS if counts[name]}


def pool_digest(problems: Sequence[tuple[str, str]], grader: Mapping[str, Any]) -> str:
    """Digest of all problems, each with the digest of its rows, and of the grader."""
    return digest({"problems": [list(p) for p in problems], "grader": dict(grader)}, 64)


def grader_for(about: Mapping[str, Any], entries: Entries) -> dict[str, Any]:
    """The grader for the texts of prefixes: the one named by our own export, else that of most problems."""
    if about.get("grader"):
        return dict(about["grader"])
    letters = Counter(e["letters"] for e in entries)
    most = max((k for k in letters if k), default="")
    return {"letters": most if sum(letters[k] for k in letters if k) > len(entries) / 2 else ""}


def _unit(wanted: Wanted, about: Mapping[str, Any], entries: Entries, counts: Mapping[str, int]) -> str:
    units = {unit for e in entries for unit in e["units"]}
    if len(units) > 1:
        raise PathpruneError(
            f"{counts['without_length']} of {counts['paths']} paths have no length in tokens: give a tokenizer, which counts "
            "them all, or import the two kinds separately"
        )
    unit = units.pop()
    return str(about.get("unit") or (unit if unit != MEASURED else tokens_of(str(wanted.tokenizer))))


def _lengths(entries: Entries, counts: Mapping[str, int]) -> dict[str, Any]:
    """Path lengths, and how texts are cut: at recorded token ends, or at one rate for all."""
    paths, length = counts["paths"], sum(e["length"] for e in entries)
    by_rate = bool(counts["text"]) and counts["ends"] < paths
    return {
        "text_by": "rate" if by_rate else "offsets" if counts["text"] else None,
        "rate": counts["characters"] / max(1, length) if by_rate else None,
        "lengths": {"mean": length / paths, "max": max(e["longest"] for e in entries)},
        "words": {"mean": sum(e["words"] for e in entries) / paths, "max": max(e["most_words"] for e in entries)},
    }


def _flops(wanted: Wanted, about: Mapping[str, Any]) -> dict[str, float] | None:
    if wanted.parameters:
        return {"per_token": 2 * float(wanted.parameters), "attention": 0.0}
    stated: dict[str, float] | None = about.get("flops")
    return stated


def _public(file: Any) -> str:
    """A file's name for records, without local folders."""
    return str(file) if "://" in str(file) else FilePath(str(file)).name
