"""Snapshots hold records to the last digit, are read together with journals, and never lose a row."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry, report
from harness.api import PathpruneError
from harness.report import overhead
from harness.report.rows import rows
from harness.report.staleness import is_stale
from harness.runners.bench import bench
from harness.runners.run import Run
from harness.store import packed
from harness.store.packed import Packed
from harness.store.records import Record, names, pack, pools, records

FIXTURES = Path(__file__).parent / "fixtures" / "records"
FOLDER = Path("hands-v1") / "hands-ab5e39d2a68e"
SPEC = {"task": "toy", "engine": {"model": "toy"}, "n": 4, "prefix": 5, "pruner": "mine", "code": "a1:0"}

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda x: float(str(np.float32(x))))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = [*packed.COLUMNS, "cost", "seconds", "voted", "something new"]
VALUES = (
    st.lists(FLOAT32, max_size=5)
    | st.lists(st.integers(-5, 2**40), max_size=5)
    | st.lists(st.text() | st.none())
    | JSON
)
ROWS = st.dictionaries(st.sampled_from([k for k in KEYS if k != "problem"]), VALUES, max_size=6)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(ROWS, max_size=4), min_size=1, max_size=3))
def test_rows_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, made: list[list[dict[str, Any]]]
) -> None:
    file = tmp_path_factory.mktemp("packed") / "L5.parquet"
    every = [
        Packed(
            f"L5-m{i}-0.jsonl", {"spec": SPEC, "number": i}, [{"problem": str(q), **row} for q, row in enumerate(some)]
        )
        for i, some in enumerate(made)
    ]
    packed.write(file, every)
    before = file.read_bytes()
    for record in every:
        assert packed.headers(file)[record.name] == record.header
        read = packed.rows(file, record.name)
        assert [json.dumps(r, sort_keys=True) for r in read] == [json.dumps(r, sort_keys=True) for r in record.rows]
    packed.write(file, every[::-1])
    assert file.read_bytes() == before, "the same records give the same bytes"


@pytest.mark.parametrize(
    "value", [[0.1 + 0.2], [1e300], [math.inf, -0.0], [1], [True], [None], ["\ud800"], 1.0, "x", {}]
)
def test_what_no_column_holds_is_kept_as_json(value: Any, tmp_path: Path) -> None:
    for name in packed.COLUMNS:
        row = {name: value} if name == "problem" else {"problem": "p", name: value}
        packed.write(tmp_path / "a.parquet", [Packed("a-0.jsonl", {}, [row])])
        (read,) = packed.rows(tmp_path / "a.parquet", "a-0.jsonl")
        assert json.dumps(read, sort_keys=True) == json.dumps(row, sort_keys=True)


def contents(folder: Path) -> dict[str, Any]:
    return {
        f"{pool.name}/{name}": (record.header["spec"], list(record.lines.items()))
        for pool in pools(folder)
        for kind in ("pool", "judged", "live")
        for name, record in zip(names(pool, kind), records(pool, kind), strict=True)
    }


def test_files_of_before_stay_readable_and_give_the_same_numbers(tmp_path: Path) -> None:
    """A pool, scores, an own rule, the oracle and a live run as they were written once; numbers of the code of then."""
    (group,) = report.groups(FIXTURES)
    table = {row.name: row for row in rows(group, 8)}
    assert list(table) == [
        "all (no pruning)", "random (expected)", "stop", "slimsc-online", "oracle", "shortest in full (leaky)",
    ]  # fmt: skip
    assert [round(r.accuracy.mean, 6) for r in table.values()] == [
        0.429688,
        0.429688,
        0.625,
        0.444368,
        0.71875,
        0.40625,
    ]
    assert [round(r.voted.mean, 5) for r in table.values()] == [0.75, 0.59125, 1.0, 0.75, 1.0, 0.5]
    assert [round(r.tokens.mean, 3) for r in table.values()] == [8187.0, 2255.375, 2477.5, 8021.5, 2237.25, 2165.0]
    stop = table["stop"]
    assert stop.gain and stop.oracle_share and stop.adjusted_p and stop.label_tokens == 39136792
    assert (round(stop.gain.low, 6), round(stop.oracle_share.mean, 6)) == (0.109375, 0.675676)
    assert round(stop.adjusted_p, 6) == 0.043431
    ((place, live),) = overhead.stored(FIXTURES / FOLDER)
    assert place == "L = 22, 8 of 64 finished, on cpu"
    assert live == [["stop", "0.25", "0.12", "1.07", "9.07%", "0.625", "1.000", "2,478", "4", "0"]]


def test_packing_changes_no_number_and_is_done_once(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES, tmp_path / "r")
    folder, before = tmp_path / "r" / FOLDER, contents(tmp_path / "r")
    roles = {
        name: record.header.get("role")
        for name, record in zip(names(folder, "judged"), records(folder, "judged"), strict=True)
    }
    assert set(roles.values()) == {"method", "closed-form", "oracle", "own-rule"}
    written = pack(folder)
    assert [f.name for f in written] == ["L22.parquet", "live.parquet", "own-rule.parquet", "pool.parquet"]
    assert sorted(folder.iterdir()) == written and contents(tmp_path / "r") == before
    kept = {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in written}
    assert pack(folder) == [] and {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in written} == kept
    for name, header in packed.headers(folder / "L22.parquet").items():
        assert header["role"] == roles[name]


def test_a_packed_record_goes_on_as_a_journal_that_wins(tmp_path: Path) -> None:
    file = tmp_path / "L5-mine-0.jsonl"
    Record.open(file, SPEC, role="method").append(
        [{"problem": "p", "scores": [1.0]}, {"problem": "q", "error": "boom"}]
    )
    Record.open(tmp_path / "pool.jsonl", {"n": 4}).append([{"problem": "p"}])
    pack(tmp_path)
    assert not file.exists()
    record = Record.open(file, SPEC)
    assert list(record.lines) == ["p", "q"] and record.header["role"] == "method"
    record.append(
        [{"problem": "p", "scores": [9.0]}, {"problem": "q", "scores": [2.0]}, {"problem": "r", "scores": [3.0]}]
    )
    assert len(file.read_text().splitlines()) == 3, "a header and the two new rows"
    again = Record.read(file)
    assert [r["scores"] for r in again.lines.values()] == [[1.0], [2.0], [3.0]]
    pack(tmp_path)
    assert not file.exists() and Record.read(file).lines == again.lines
    # A writer that was open all the while begins a new journal.
    record.append([{"problem": "s", "scores": [4.0]}])
    assert list(Record.read(file).lines) == ["p", "q", "r", "s"]
    with pytest.raises(PathpruneError, match="another spec"):
        Record.open(file, SPEC | {"n": 5})


def test_a_row_is_not_scored_twice_once_packed(toy_run: Callable[..., Run]) -> None:
    plugins = [registry.pruner(name) for name in ("logprob", "deepconf-offline")]
    bench(toy_run(problems=3), plugins, lambda *_: None)
    results = toy_run().results
    (folder,) = pools(results)
    before = contents(results)
    pack(folder)
    assert contents(results) == before and not list(results.rglob("*.jsonl"))
    assert bench(toy_run(problems=3), plugins, lambda *_: None).sampled == 0
    assert not list(results.rglob("*.jsonl")), "nothing was written"
    bench(toy_run(problems=5), plugins, lambda *_: None)
    assert [len(r.lines) for r in records(folder, "judged")] == [5, 5]
    assert sum(len(f.read_text().splitlines()) - 1 for f in results.rglob("L5-*.jsonl")) == 2


def test_an_append_during_a_pack_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "L5-mine-0.jsonl"
    record = Record.open(file, SPEC)
    record.append([{"problem": "p", "scores": [1.0]}])
    write, appended = packed.write, threading.Thread(target=record.append, args=([{"problem": "q", "scores": [2.0]}],))

    def slow(*args: Any) -> None:
        appended.start()
        write(*args)

    monkeypatch.setattr(packed, "write", slow)
    pack(tmp_path)
    appended.join()
    assert list(Record.read(file).lines) == list(record.lines) == ["p", "q"]


def test_a_pack_that_fails_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "L5-mine-0.jsonl"
    Record.open(file, SPEC).append([{"problem": "p", "scores": [1.0]}])
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(PathpruneError, match=r"cannot write .*L5.parquet"):
        pack(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_every_damage_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES, tmp_path / "r")
    folder = tmp_path / "r" / FOLDER
    pack(folder)
    file, before = folder / "L22.parquet", contents(tmp_path / "r")
    whole, found = file.read_bytes(), 0
    places = [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 3]
    for damaged in [
        *(whole[:p] + bytes([whole[p] ^ 0x55]) + whole[p + 1 :] for p in places),
        whole[:-9],
        b"",
        whole[4:],
    ]:
        file.write_bytes(damaged)
        try:
            assert contents(tmp_path / "r") == before
        except PathpruneError as error:
            assert "L22.parquet" in str(error) and "\n" not in str(error)
            found += 1
    assert found > 50


def test_rows_of_older_code_can_be_dropped(tmp_path: Path, run_cli: Callable[..., tuple[int, str]]) -> None:
    """What present code scored, and what is no score, stays as it was."""
    shutil.copytree(FIXTURES, tmp_path / "r")
    before = contents(tmp_path / "r")
    code, out = run_cli("pack", str(tmp_path / "r"), "--drop-stale")
    after = contents(tmp_path / "r")
    dropped = [line.split()[1] for line in out.splitlines() if line.startswith("dropped")]
    assert code == 0 and dropped and len(after) == len(before) - len(dropped) < len(before)
    assert all(before[name] == held for name, held in after.items())
    left = [r.header for kind in ("judged", "live") for r in records(tmp_path / "r" / FOLDER, kind)]
    assert not any(map(is_stale, left)) and any("pruner" in header["spec"] for header in left)
    assert run_cli("pack", str(tmp_path / "r"), "--drop-stale") == (0, "")


def test_pack_and_record_are_verbs(tmp_path: Path, run_cli: Callable[..., tuple[int, str]]) -> None:
    shutil.copytree(FIXTURES, tmp_path / "r")
    code, out = run_cli("pack", str(tmp_path / "r"))
    assert code == 0 and out.count("wrote") == 4
    assert run_cli("pack", str(tmp_path / "r")) == (0, "")
    code, out = run_cli("record", str(tmp_path / "r" / FOLDER / "L22.parquet"))
    assert code == 0 and "L22-stop-9555c1e7.jsonl: method, 4 problems, 0 errors" in out and out.count("\n") == 3
    code, out = run_cli("record", str(tmp_path / "r" / FOLDER / "L22-stop-9555c1e7.jsonl"))
    assert code == 0 and '"problems": 4' in out and '"role": "method"' in out
    for arguments in (("pack", str(tmp_path / "none")), ("record", str(tmp_path / "none.parquet"))):
        code, out = run_cli(*arguments)
        assert code == 2 and "none" in out and "Traceback" not in out
    (tmp_path / "r" / FOLDER / "L22.parquet").write_bytes(b"PAR1 nonsense PAR1")
    code, out = run_cli("leaderboard", "--results", str(tmp_path / "r"), "--out", str(tmp_path / "x.md"))
    assert code == 2 and "L22.parquet is damaged" in out.replace("\n", " ") and "Traceback" not in out
