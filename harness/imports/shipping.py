"""A shipped pool: one small Parquet file, a card, and the scores that methods recorded on it.

The folder is benched without the model, by ``--pool FOLDER``. Methods that read texts, token ids or the included token
statistics are scored afresh; methods that read the model's states use the stored scores.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import pyarrow as pa

from harness.api import STATISTICS, PathpruneError
from harness.imports import exporting, packing
from harness.imports.card import pool_digest
from harness.imports.importing import import_files
from harness.imports.pool import CARD, CLIPPED, DISAGREEMENTS, PROBLEMS, Entry, Pool
from harness.imports.schema import MEANINGS, SCHEMA, content_digest, spans_in
from harness.imports.wanted import Wanted
from harness.imports.watch import SILENT, Progress
from harness.store import records
from harness.store.files import settled, writable
from harness.store.given import GIVEN
from harness.store.keys import digest
from harness.store.names import is_file_name
from harness.text import shown, unknown

MOST = 8_000_000  # largest file of paths, in bytes
RECORDS = "records"
README = "README.md"
MARK = "<!-- written by pathprune export-pool --ship -->"
PATIENT = "it contains something else; give an empty folder, or one that was shipped before"


@dataclass(frozen=True)
class About:
    """Facts for the card that are not counted from the paths. ``licence``: of the weights; ``sampled``: task, engine and seed;
    ``recorded``: header of the pool's record, with device and versions."""

    licence: str = ""
    sampled: Mapping[str, Any] | None = None
    recorded: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Scores:
    """Records to ship: their folder, and the headers of the selected ones."""

    folder: FilePath
    headers: Sequence[Mapping[str, Any]]

    @property
    def prefixes(self) -> list[int]:
        """Prefix lengths at which paths were scored, ascending."""
        told = {h["spec"]["prefix"] for h in self.headers if "at" not in h["spec"]}
        return sorted(told - {0})


def ship_bank(
    run: Any,
    out: FilePath,
    scores: Scores | None,
    about: About,
    statistics: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> Pool:
    """Ship the banked paths of a run as a pool in the folder ``out``; see ``ship``."""
    name = _name_of(out)
    with tempfile.TemporaryDirectory(prefix="pathprune-") as folder:
        exporting.export_bank(run, FilePath(folder, "data"), progress)
        wanted = Wanted((str(FilePath(folder, "data")),), grades="given")
        pool = import_files(wanted, name, FilePath(folder, "pools"))
        return ship(pool, out, scores, about, statistics)


def ship(
    pool: Pool, out: FilePath, scores: Scores | None, about: About, statistics: Sequence[str] | None = None
) -> Pool:
    """Write a pool as a shipped pool, replacing one that was shipped to ``out`` before.

    Args:
        pool: the pool to ship.
        out: the folder to write.
        scores: records made on exactly these paths; None: ship no scores.
        about: facts for the card.
        statistics: token statistics to include; by default those that fit into ``MOST`` bytes, in the order of
            ``harness.api.STATISTICS``. Methods that read an excluded statistic use their stored scores.

    Returns:
        The shipped pool.

    Raises:
        PathpruneError: more than ``MOST`` bytes, records of other paths, or a folder with other content.
    """
    name = _name_of(out)
    if out.exists() and any(out.iterdir()) and not is_shipped(out):
        raise PathpruneError(f"{out}: {PATIENT}")
    if unheard := set(statistics or ()) - set(STATISTICS):
        raise PathpruneError(unknown("token statistic", min(unheard), list(STATISTICS)))
    if scores is not None and (flaw := next(other_paths(pool, scores.folder), "")):
        raise PathpruneError(f"{scores.folder} was not recorded on these paths: {flaw}")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.parent / f".{name}.shipping"
    shutil.rmtree(draft, ignore_errors=True)
    kept = _write_paths(pool, draft, statistics)
    _write_about(pool, draft, name, kept, scores, about)
    if scores is not None:
        records.copy(scores.folder, draft / RECORDS, [h["spec"] for h in scores.headers])
    shutil.rmtree(out, ignore_errors=True)
    draft.rename(out)
    settled(out.parent)
    return Pool.open(out)


def is_shipped(folder: FilePath) -> bool:
    """Did ``ship`` write this folder?"""
    return (folder / CARD).is_file() and (folder / packing.PACKED).is_file()


def _name_of(out: FilePath) -> str:
    name = out.resolve().name
    if not is_file_name(name) or name.startswith("."):
        raise PathpruneError(f"a pool is named after its folder, which must be one word, not {shown(name)}")
    return name


def _write_paths(pool: Pool, draft: FilePath, statistics: Sequence[str] | None) -> tuple[str, ...]:
    """Write the file of paths; return the statistics that it includes."""
    every = [pool.rows(name) for name in pool.entries]
    whole = all(pool.has(signal) for signal in ("text", "tokens"))
    pieces = packing.pieces_of(every) if whole else {}
    file = draft / packing.PACKED
    wanted = tuple(s for s in pool.statistics if statistics is None or s in statistics)
    sizes = packing.write(file, [packing.without(rows, wanted) for rows in every], pieces)
    if statistics is None and file.stat().st_size > MOST:
        wanted = _fitting(wanted, sizes, file.stat().st_size)
        packing.write(file, [packing.without(rows, wanted) for rows in every], pieces)
    if (size := file.stat().st_size) > MOST:
        told = ", ".join(f"{column} {count / 1e6:.1f}" for column, count in sorted(sizes.items(), key=lambda c: -c[1]))
        shutil.rmtree(draft)
        raise PathpruneError(
            f"the paths of {pool.name} take {size / 1e6:.1f} MB, and a shipped pool may take {MOST / 1e6:g}; ship fewer "
            f"statistics, paths or problems (MB by column: {told})"
        )
    return wanted


def _fitting(statistics: Sequence[str], sizes: Mapping[str, int], total: int) -> tuple[str, ...]:
    """Statistics that fit, chosen greedily in the given order."""
    room = MOST - (total - sum(sizes.get(s, 0) for s in statistics))
    kept = []
    for name in statistics:
        if sizes.get(name, 0) <= room:
            kept.append(name)
            room -= sizes.get(name, 0)
    return tuple(kept)


def _write_about(
    pool: Pool, draft: FilePath, name: str, kept: Sequence[str], scores: Scores | None, about: About
) -> None:
    """Write the problems, the disagreements, ``pool.json`` and the README card."""
    entries = [_restated(pool, draft, number, entry, kept) for number, entry in enumerate(pool.entries.values())]
    source = {"file": packing.PACKED, "sha256": _sha256(draft / packing.PACKED), "rows": pool.about["paths"]}
    told = {
        **{key: value for key, value in pool.about.items() if key != CLIPPED},
        "name": name,
        "packed": packing.PACKED,
        "digest": pool_digest([(e["id"], e["sha256"]) for e in entries], pool.about["grader"]),
        "sources": [source] if about.sampled else pool.about["sources"],
        "signals": {k: 0 if k in STATISTICS and k not in kept else v for k, v in pool.signals.items()},
        **_clipped(pool, kept),
        "prefixes": scores.prefixes if scores else [],
        "sampled": about.sampled,
        "licence": about.licence,
    }
    disagreements = (pool.folder / DISAGREEMENTS).read_text(encoding="utf-8")
    texts = {
        PROBLEMS: "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries),
        DISAGREEMENTS: disagreements,
        CARD: json.dumps(told, indent=1, ensure_ascii=False) + "\n",
        README: card(told, scores, about),
    }
    for file, text in texts.items():
        with writable(draft / file) as part:
            part.write_text(text, encoding="utf-8")


def _restated(pool: Pool, draft: FilePath, number: int, entry: Entry, kept: Sequence[str]) -> dict[str, Any]:
    """The line of a problem, after checking that its rows read back unchanged."""
    name, prompt = entry.problem.id, entry.problem.prompt
    wanted = packing.without(pool.rows(name), kept)
    about = {
        "problem": name,
        "prompt": prompt or None,
        "golds": list(entry.golds),
        "prompt_tokens": entry.prompt_tokens,
    }
    file = draft / packing.PACKED
    there = packing.read(file, number, about, packing.pieces_in(file))
    sha256 = content_digest(there)
    if content_digest(_with_prompt(wanted, prompt or None)) != sha256:
        raise AssertionError(f"{file} does not hold the paths of {name} as they are")
    return {**about, "id": name, "file": packing.PACKED, "sha256": sha256, "paths": entry.paths}


def _with_prompt(rows: pa.Table, prompt: str | None) -> pa.Table:
    column = pa.array([prompt] * len(rows), pa.string())
    return rows.set_column(SCHEMA.names.index("prompt"), SCHEMA.field("prompt"), column)


def _sha256(file: FilePath) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def other_paths(pool: Pool, folder: FilePath) -> Iterator[str]:
    """Yield a line per problem on which a recorded pool in a folder differs from this pool."""
    for name, row in records.pool_of(folder).lines.items():
        if name not in pool.entries:
            yield f"it has problem {name}, which pool {pool.name} lacks"
            continue
        rows, entry = pool.rows(name), pool.entries[name]
        there = {
            "answers": rows["answer"].to_pylist(),
            "correct": [int(right) for right in rows["correct"].to_pylist()],
            "lengths": rows["length"].to_pylist(),
            "prompt": entry.prompt_tokens,
        }
        if not rows["tokens"].null_count:
            given = {GIVEN: spans} if any(spans := spans_in(rows)) else {}
            there["paths"] = digest({"tokens": rows["tokens"].to_pylist()} | given)
        for key, value in there.items():
            if row[key] != value:
                yield f"{key} of {name} differ"
                break


def _clipped(pool: Pool, kept: Sequence[str]) -> dict[str, Any]:
    """The part of the card on numbers beyond float16, of the statistics that ship."""
    counts = {name: count for name, count in pool.about.get(CLIPPED, {}).items() if name in kept}
    return {CLIPPED: counts} if counts else {}


def card(told: Mapping[str, Any], scores: Scores | None, about: About) -> str:
    """The README card: origin and sampling of the paths, contents of the folder, and how to bench it."""
    name, signals = told["name"], told["signals"]
    there = [s for s in STATISTICS if signals.get(s)]
    lines = [
        "---", "configs:", "- config_name: default", "  data_files:", "  - split: train", f"    path: {packing.PACKED}", "tags:",
        "- pathprune", "- reasoning", "---", "", MARK, "", f"# {name}", "",
        f"{told['paths']:,} sampled paths of {told['problems']:,} problems, {told['lengths']['mean']:.1f} {told['unit']} on average. "
        "Nothing but this folder is needed to bench it:", "", "```sh", f"pathprune bench --pool {name} --pruner all-registered", "```", "",
        *_origin(about), "## Files", "",
        f"* `{packing.PACKED}`: one row per path, one row group per problem in the order of `{PROBLEMS}`. Columns: token ids, finish, "
        f"answer, grade, and the token statistics {', '.join(there) or '(none)'}. The text of a path is that of its token ids one after another; "
        f"what an id stands for is in the file's metadata (`{packing.PIECES.decode()}`, JSON). A path whose ids do not give its text has "
        "`text` and `ends` of its own.",
        f"* `{PROBLEMS}`: prompts, right answers, tokens of the prompt, and the SHA-256 of each problem's rows.",
        f"* `{CARD}`: numbers of everything, hashes, and how answers are read.", *_of_scores(scores), "",
        "| column | type | meaning |", "|---|---|---|",
        *(f"| `{c}` | {MEANINGS[c][0]} | {MEANINGS[c][1].replace('||', 'of')} |" for c in ("tokens", "finish", "answer", "correct", *there)), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _origin(about: About) -> list[str]:
    """Card lines on model, licence, sampling, device and versions, as far as known."""
    sampled, recorded = about.sampled or {}, about.recorded or {}
    engine, provenance = sampled.get("engine", {}), recorded.get("provenance", {})
    rows = {
        "model": engine.get("model"),
        "licence of its weights": about.licence,
        "hash of its weights": engine.get("fingerprint"),
        "task": sampled.get("task") and f"{sampled['task']} v{sampled['task_version']}, seed {sampled['seed']}",
        "sampling": ", ".join(f"{k} {v}" for k, v in engine.get("sampling", {}).items()),
        "engine": ", ".join(f"{k} {v}" for k, v in engine.items() if k not in ("model", "fingerprint", "sampling")),
        "device": ", ".join(f"{k} {v}" for k, v in recorded.get("device", {}).items()),
        "versions": ", ".join(f"{k} {v}" for k, v in provenance.get("versions", {}).items()),
        "commit": provenance.get("commit"),
    }
    known = {key: value for key, value in rows.items() if value}
    return ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in known.items()), ""] if known else []


def _of_scores(scores: Scores | None) -> list[str]:
    if scores is None:
        return []
    names = sorted({h["spec"]["pruner"] for h in scores.headers})
    return [
        f"* `{RECORDS}/`: what {len(names)} methods said of every path at L = {', '.join(map(str, scores.prefixes))}, with costs "
        f"({', '.join(names)}). Those that read the model's states stand in a bench's table with these scores."
    ]
