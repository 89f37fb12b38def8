"""A stored pool that was damaged is one clear line wherever it is read, and the check of a pool finds what reading cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pathprune as pp
from harness.api import PathpruneError
from harness.imports.card import pool_digest
from harness.imports.schema import SCHEMA, content_digest

Cli = Callable[..., tuple[int, str]]
PRUNERS = "jaccard,logprob,consensus,hesitation,first"
TEXT = "so we add one and one \\boxed{2}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool with everything that a path may have, its grades held to ours."""
    folder = tmp_path_factory.mktemp("whole")
    rows = []
    for q in range(3):
        for i in range(4):
            words = [f"{w} " for w in TEXT.replace("2", str(2 + i % 2)).split()]
            rows.append(
                {
                    "id": f"p{q}", "problem": f"1 + 1 ({q})?", "gold": "2", "text": "".join(words), "tokens": words, "trace_idx": i,
                    "token_ids": list(range(5, 5 + len(words))), "logprobs": [-0.5 - i / 8] * len(words), "correct": i % 2 == 0 and i > 0,
                    "answer": str(2 + i % 2), "finish_reason": "stop", "reward": i / 4, "probes": [{"position": 3, "answer": str(2 + i % 2)}],
                }
            )  # fmt: skip
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pp.import_pool(folder / "own.jsonl", "own", pools=folder, progress=False)
    return folder / "own"


@pytest.fixture
def pool(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "pools" / "own")
    return tmp_path / "pools" / "own"


def rows_of(pool: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(pool / "paths/p0.parquet").to_pylist()
    return rows


def edited(number: int, /, **values: Any) -> Callable[[Path], None]:
    """Changes a path in a file, as an editor of tables would: the file stays a good one."""

    def edit(pool: Path) -> None:
        rows = rows_of(pool)
        rows[number] |= values
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), pool / "paths/p0.parquet")

    return edit


def forged(number: int, /, **values: Any) -> Callable[[Path], None]:
    """Changes a path and every digest of it."""

    def forge(pool: Path) -> None:
        edited(number, **values)(pool)
        lines = [json.loads(line) for line in (pool / "problems.jsonl").read_text().splitlines()]
        lines[0]["sha256"] = content_digest(pq.read_table(pool / "paths/p0.parquet"))
        (pool / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        about = json.loads((pool / "pool.json").read_text())
        about["digest"] = pool_digest([(line["id"], line["sha256"]) for line in lines], about["grader"])
        (pool / "pool.json").write_text(json.dumps(about))

    return forge


def carded(**values: Any) -> Callable[[Path], None]:
    """Changes what the card says."""

    def change(pool: Path) -> None:
        about = json.loads((pool / "pool.json").read_text())
        (pool / "pool.json").write_text(json.dumps(about | values))

    return change


def lined(**values: Any) -> Callable[[Path], None]:
    """Changes what is said of the first problem."""

    def change(pool: Path) -> None:
        first, *rest = (pool / "problems.jsonl").read_text().splitlines()
        (pool / "problems.jsonl").write_text("\n".join([json.dumps(json.loads(first) | values), *rest]) + "\n")

    return change


def torn(name: str, share: float = 0.5) -> Callable[[Path], None]:
    """Cuts a file."""
    return lambda pool: (pool / name).write_bytes(
        (pool / name).read_bytes()[: int(share * (pool / name).stat().st_size)]
    )


def flipped(pool: Path) -> None:
    """Turns one byte in the middle of a file's data."""
    data = bytearray((pool / "paths/p0.parquet").read_bytes())
    data[len(data) // 8] ^= 0xFF
    (pool / "paths/p0.parquet").write_bytes(bytes(data))


def without(column: str) -> Callable[[Path], None]:
    def drop(pool: Path) -> None:
        pq.write_table(pq.read_table(pool / "paths/p0.parquet").drop_columns([column]), pool / "paths/p0.parquet")

    return drop


def short(pool: Path) -> None:
    pq.write_table(pq.read_table(pool / "paths/p0.parquet").slice(0, 3), pool / "paths/p0.parquet")


# What was done, what the check says, and whether reading refuses it by itself.
DAMAGE: dict[str, tuple[Callable[[Path], Any], str, bool]] = {
    "a file cut short": (torn("paths/p0.parquet"), "p0.parquet is damaged", True),
    "an empty file": (torn("paths/p0.parquet", 0), "p0.parquet is damaged", True),
    "a file that is gone": (lambda pool: (pool / "paths/p0.parquet").rename(pool.parent / "away"), "p0.parquet is damaged: it is gone", True),
    "a folder in place of a file": (
        lambda pool: ((pool / "paths/p0.parquet").unlink(), (pool / "paths/p0.parquet").mkdir()), "p0.parquet", True,
    ),
    "no Parquet": (lambda pool: (pool / "paths/p0.parquet").write_text("text"), "p0.parquet is damaged", True),
    "a byte that flipped": (flipped, "p0.parquet is damaged", True),
    "the file of another problem": (
        lambda pool: shutil.copy(pool / "paths/p1.parquet", pool / "paths/p0.parquet"), "the file was changed", True,
    ),
    "a path too few": (short, "it has 3 paths", True),
    "a column that is gone": (without("logprob"), "its column logprob is missing", True),
    "an edited grade": (edited(0, correct=True), "the file was changed", True),
    "an edited text": (edited(1, text="\\boxed{2}"), "the file was changed", True),
    "a length that is null": (edited(0, length=None), "length of a path is missing", True),
    "a length below 0": (edited(0, length=-1), "path 0 has -1 tokens", True),
    "a length of other numbers": (edited(0, length=99), "logprob for 99 tokens", True),
    "an ending that is none": (edited(0, finish="boom"), "ended by 'boom'", True),
    "numbers out of order": (edited(0, index=1), "not numbered 0, 1, 2", True),
    "a number that is null": (edited(0, logprob=[None] * 7), "among its logprob", True),
    "problems cut short": (torn("problems.jsonl"), "problems.jsonl", True),
    "no problems": (lambda pool: (pool / "problems.jsonl").unlink(), "problems.jsonl", True),
    "a card cut short": (torn("pool.json"), "pool.json", True),
    "a hash of other rows": (lined(sha256="0" * 64), "the file was changed", True),
    "a forged probe": (forged(0, probes=[{"position": 3, "answer": "2"}] * 2), "probes of path 0 are at [3, 3]", False),
    "a forged end": (forged(0, ends=[3, 2, 9, 13, 17, 21, 25]), "tokens of path 0 end outside", False),
    "a forged statistic": (forged(0, logprob=[float("nan")] * 7), "a logprob is not finite", False),
    "a forged id": (forged(0, tokens=[-5] * 7), "a token id below 0", False),
    "a forged grade": (forged(3, correct=True, answer=None), "a path is graded right but has no answer", True),
    "a forged answer": (forged(3, correct=True), "grades on path", False),
    "another gold answer": (lined(golds=["3"]), "problem or gold answer of p0 differs", False),
    "a card of other signals": (carded(signals={"text": 12, "logprob": 11}), "signals: logprob 11", True),
    "a card of other sizes": (carded(paths=13), "states paths 13, but the rows have 12", True),
    "a card of another length": (carded(lengths={"mean": 6.5, "max": 7}), "a mean length of 6.5", False),
    "a card of another digest": (carded(digest="0" * 64), "it states digest 000", False),
    "disagreements that are gone": (lambda pool: (pool / "disagreements.jsonl").unlink(), "disagreements.jsonl", False),
    "disagreements of other paths": (lambda pool: (pool / "disagreements.jsonl").write_text(""), "states disagreements 3", False),
    "a file too many": (lambda pool: shutil.copy(pool / "paths/p0.parquet", pool / "paths/more.parquet"), "belongs to no problem", False),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_line_wherever_it_is_met(kind: str, pool: Path, tmp_path: Path) -> None:
    damage, says, is_refused = DAMAGE[kind]
    damage(pool)
    try:
        found = pp.check_pool(pool, progress=False)
    except PathpruneError as error:  # a card that cannot be read
        found = [str(error)]
    assert any(says in line for line in found), found
    assert all("\n" not in line and len(line) < 600 for line in found)
    try:
        table = pp.bench(PRUNERS, pp.open_pool(pool), prefix=3, keep=1, results=tmp_path / "r", progress=False)
    except PathpruneError as error:
        assert is_refused and "\n" not in str(error)
    else:
        assert not is_refused and table.rows


def test_a_whole_pool_is_said_to_be_whole(pool: Path, run_cli: Cli) -> None:
    code, said = run_cli("check", "--pool", str(pool))
    assert code == 0 and "pool own is intact: 12 paths of 3 problems" in " ".join(said.split()), said
    edited(0, correct=True)(pool)
    code, said = run_cli("check", "--pool", str(pool))
    assert code == 2 and "the file was changed" in " ".join(said.split()) and "Traceback" not in said
    code, said = run_cli("check")
    assert code == 2 and "name a pruner to check, or an imported pool" in " ".join(said.split())


def test_a_damaged_pool_is_named_when_it_is_exported(pool: Path, tmp_path: Path, run_cli: Cli) -> None:
    torn("paths/p1.parquet")(pool)
    code, said = run_cli("export-pool", "--pool", str(pool), "--out", str(tmp_path / "out"))
    assert code == 2 and "p1.parquet is damaged" in " ".join(said.split()) and "Traceback" not in said
    assert not (tmp_path / "out" / "README.md").exists()
