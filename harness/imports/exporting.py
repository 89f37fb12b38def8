"""Exports paths as a data set: one row per path in Parquet, with a card, for ``datasets.load_dataset`` and for import.

The source is an imported pool, or a bank of paths sampled here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness import grading, hub
from harness.api import Path, PathpruneError, Problem
from harness.imports.graders import NATIVE
from harness.imports.measure import ends_of_ids
from harness.imports.pool import CLIPPED, Pool
from harness.imports.schema import MEANINGS, SCHEMA, StoredPath, table
from harness.imports.shapes.pathprune_pool import FORMAT, METADATA
from harness.imports.watch import SILENT, Progress
from harness.store.files import writable

PART = 512 << 20  # bytes of rows per file, in memory
README, DATA = "README.md", "data"
SCANNED = ("text", "correct", "length")


def export_pool(pool: Pool, out: FilePath, progress: Progress = SILENT) -> FilePath:
    """Write an imported pool as a data set to the folder ``out``, and return it."""
    kept = ("tokenizer", "grades", "sources", "mapping", "shape")
    about = {
        "format": FORMAT,
        "name": pool.name,
        "grader": pool.about["grader"],
        "flops": pool.about.get("flops"),
        "unit": pool.about["unit"],
    }
    about |= {CLIPPED: pool.about[CLIPPED]} if pool.about.get(CLIPPED) else {}
    about |= {"imported": {key: pool.about[key] for key in kept if pool.about.get(key) is not None}}
    tables = ((name, pool.rows(name)) for name in pool.entries)
    return _write(out, pool.name, about, tables, len(pool.entries), progress)


def export_bank(run: Any, out: FilePath, progress: Progress = SILENT) -> FilePath:
    """Write the banked paths of a run, graded by its task, as a data set to the folder ``out``, and return it.

    Raises:
        PathpruneError: the bank lacks paths of a problem, or the paths contain tool outputs.
    """
    grader: dict[str, Any] = {"letters": getattr(run.task, "_letters", "")}
    if run.task.name in NATIVE:
        grader = {"task": run.task.name, "version": run.task.version}
    about = {
        "format": FORMAT,
        "name": run.task.name,
        "grader": grader,
        "flops": asdict(run.engine.flops),
        "unit": "tokens",
    }
    about |= {
        "sampled": {
            "task": run.task.name,
            "task_version": run.task.version,
            "engine": dict(run.spec.engine),
            "seed": run.spec.seed,
        }
    }
    problems = run.chosen()
    tables = ((p.id, _banked(run, p)) for p in problems)
    return _write(out, f"{run.task.name}-{run.spec.engine['model']}", about, tables, len(problems), progress)


def _banked(run: Any, problem: Problem) -> pa.Table:
    paths = run.opened_bank().get(problem, run.spec.seed)[: run.spec.n]
    if len(paths) < run.spec.n:
        raise PathpruneError(
            f"the bank holds {len(paths)} of {run.spec.n} paths of {problem.id}; bench that many problems and paths first"
        )
    rows = [_stored(run, path) for path in paths]
    return table(problem.id, problem.prompt, [problem.answer], run.engine.prompt_length(problem), rows)


def _stored(run: Any, path: Path) -> StoredPath:
    answer, right = grading.judged(run.task, path)
    stats = {name: getattr(path.stats, name) for name in path.stats.known} if path.stats is not None else {}
    ends = ends_of_ids(path.tokens, path.text, run.engine.decode)
    if path.given and ends is None:
        raise PathpruneError(
            f"path {path.index} of {path.problem.id} holds outputs of tools, and the texts of its tokens do not add up to its text, so that "
            "a pool could not tell what the model wrote; export a pool without tools"
        )
    ids = np.asarray(path.tokens, np.int32)
    return StoredPath(path.text, ids, path.drawn, path.finish, answer, right, ends, stats, given=path.given)


def _write(
    out: FilePath,
    name: str,
    about: dict[str, Any],
    tables: Iterator[tuple[str, pa.Table]],
    total: int,
    progress: Progress,
) -> FilePath:
    if out.exists() and any(out.iterdir()) and not _is_export(out):
        raise PathpruneError(f"{out} contains something else; give an empty folder, or one that export-pool wrote")
    for left in out.glob(f"{DATA}/*.parquet"):
        left.unlink()
    metadata = {METADATA: json.dumps(about, ensure_ascii=False).encode()}
    counts = {"problems": 0, "paths": 0, "right": 0, "tokens": 0}
    there: set[str] = set()
    number, held, size = 0, [], 0
    for problem, rows in tables:
        held.append(rows)
        size += rows.nbytes
        counts["problems"] += 1
        counts["paths"] += len(rows)
        counts["right"] += sum(rows["correct"].to_pylist())
        counts["tokens"] += sum(rows["length"].to_pylist())
        there |= {c for c in SCHEMA.names if rows[c].null_count < len(rows)}
        progress(counts["problems"], total, problem)
        if size >= PART:
            _part(out, number, held, metadata)
            number, held, size = number + 1, [], 0
    if held:
        _part(out, number, held, metadata)
    with writable(out / README) as part:
        part.write_text(card(name, about, counts, there), encoding="utf-8")
    return out


def _is_export(out: FilePath) -> bool:
    readme = out / README
    return readme.is_file() and MARK in readme.read_text(encoding="utf-8", errors="replace")


def _part(out: FilePath, number: int, tables: Sequence[pa.Table], metadata: dict[bytes, bytes]) -> None:
    """Write one file with a row group per problem, which lets readers load one problem at a time."""
    with (
        writable(out / DATA / f"train-{number:05d}.parquet") as part,
        pq.ParquetWriter(part, SCHEMA.with_metadata(metadata), compression="zstd") as stream,
    ):
        for rows in tables:
            stream.write_table(rows.replace_schema_metadata(metadata), row_group_size=max(1, len(rows)))


MARK = "<!-- written by pathprune export-pool -->"


def card(name: str, about: dict[str, Any], counts: dict[str, int], there: set[str]) -> str:
    """The README of a data set: the origin of the paths, and the content of each column."""
    origin = about.get("sampled") or about.get("imported") or {}
    lines = [
        "---", "configs:", "- config_name: default", "  data_files:", "  - split: train", f"    path: {DATA}/*.parquet",
        "tags:", "- pathprune", "- reasoning", "---", "", MARK, "", f"# {name}", "",
        f"{counts['paths']:,} sampled paths of {counts['problems']:,} problems, {counts['right'] / max(1, counts['paths']):.1%} of them "
        f"right, {counts['tokens']:,} {about['unit']}. One row per path; the paths of a problem stand together, in the order in which "
        "they were sampled.", "", "```python", "import datasets", "", f'paths = datasets.load_dataset("{name}", split="train")', "```", "",
        "```sh", f"pathprune import FOLDER --name {name}", f"pathprune bench --pool {name} --pruner all-registered", "```", "",
        "| column | type | meaning | here |", "|---|---|---|---|",
        *(f"| `{c}` | {kind} | {meaning.replace('||', 'of')} | {'yes' if c in there else 'no'} |" for c, (kind, meaning) in MEANINGS.items()), "",
        "## Provenance", "", "```json", json.dumps(origin, indent=1, ensure_ascii=False), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def push_pool(folder: FilePath, repository: str, private: bool = False) -> str:
    """Upload an exported data set to the Hub; return the commit's address."""
    if not _is_export(folder):
        raise PathpruneError(f"{folder} was not written by export-pool; export a pool there first")
    return hub.push_folder(folder, repository, private)
