"""A pool that ships is the pool that was sampled: the same rows of tables, whether a method is scored again or stands stored."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pathprune as pp
from harness.api import STATISTICS, PathpruneError
from harness.imports import packing, restoring, shipping
from harness.imports.pool import Pool
from harness.imports.schema import StoredPath, table
from harness.learn import training
from harness.report import groups_of
from harness.report.rows import rows
from harness.report.sheet import sheet
from harness.session import run_of, ship_pool
from harness.spec import Stage
from harness.store.records import pool_of
from harness.where import Where
from results.publish import REAL, Real

Cli = Callable[..., tuple[int, str]]
WHERE = {"engine": "toy", "n": 8, "keep": 2, "problems": 5, "prefix": 5, "progress": False}
NEEDS_A_MODEL = {"consensus", "st-bon", "st-bon-online", "parallel-probe", "mars"}


def run_in(folder: Path) -> Any:
    where = Where("toy", None, "toy", "", 5, None, 0)
    return run_of(where, 8, (Stage(5, 1),), 5, folder / "native", folder / "bank")


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Every method on paths of the toy engine: the folder, and the table."""
    folder = tmp_path_factory.mktemp("shipped")
    options: dict[str, Any] = WHERE | {"results": folder / "native", "bank": folder / "bank"}
    pp.bench("logprob", "toy", **options)
    benched = pp.bench("all-registered", "toy", **options)
    ship_pool(run_in(folder), folder / "toyed", licence="Apache-2.0", progress=False)
    return folder, benched


@pytest.fixture
def pool(native: tuple[Path, Any], tmp_path: Path) -> Path:
    shutil.copytree(native[0] / "toyed", tmp_path / "toyed")
    return tmp_path / "toyed"


def frame(benched: Any) -> pd.DataFrame:
    """A table's numbers: what names the pool and is of its title differs, and nothing else may."""
    told = benched.frame().set_index("name").sort_index()
    return told.drop(columns=[c for c in ("table", "task", "model", "engine", "version", "seed") if c in told])


def numbers(told: pd.DataFrame) -> pd.DataFrame:
    return told.select_dtypes("number").dropna(axis=1, how="all")


def test_a_shipped_pool_gives_the_very_rows_without_its_model(
    native: tuple[Path, Any], pool: Path, tmp_path: Path
) -> None:
    _, first = native
    again = pp.bench("all-registered", pp.open_pool(pool), results=tmp_path / "r", keep=2, progress=False)
    assert again.stored and set(again.stored) >= NEEDS_A_MODEL and not again.failures
    one, other = numbers(frame(first)), numbers(frame(again))
    assert set(one.index) == set(other.index)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_restored_bank_goes_on_where_the_sampling_stopped(
    native: tuple[Path, Any], pool: Path, tmp_path: Path
) -> None:
    folder, _ = native
    bank = restoring.restore(Pool.open(pool), tmp_path / "bank")
    for file in sorted((folder / "bank" / bank.folder.name).glob("*.parquet")):
        assert pq.read_table(file).equals(pq.read_table(bank.folder / file.name), check_metadata=True)
    options: dict[str, Any] = WHERE | {"bank": tmp_path / "bank", "results": tmp_path / "r"}
    assert pp.bench("logprob", "toy", **options).sampled == 0
    longer = pp.bench("logprob", "toy", **options | {"n": 10, "problems": 6})
    fresh = pp.bench(
        "logprob", "toy", **options | {"n": 10, "problems": 6, "bank": tmp_path / "fresh", "results": tmp_path / "s"}
    )
    assert 0 < longer.sampled < fresh.sampled
    pd.testing.assert_frame_equal(numbers(frame(longer)), numbers(frame(fresh)), check_exact=True)


def test_a_pool_that_does_not_hold_a_bank_is_not_restored(
    native: tuple[Path, Any], pool: Path, tmp_path: Path, run_cli: Cli
) -> None:
    less = ship_pool(run_in(native[0]), tmp_path / "less", statistics=["logprob"], progress=False)
    code, told = run_cli("restore", str(less.folder), "--bank", str(tmp_path / "bank"))
    assert code == 2 and "ships without confidence" in told and not (tmp_path / "bank").exists()
    about = json.loads((pool / "pool.json").read_text())
    (pool / "pool.json").write_text(json.dumps(about | {"sampled": None}))
    code, told = run_cli("restore", str(pool), "--bank", str(tmp_path / "bank"))
    assert code == 2 and "how its paths were sampled" in told


def test_paths_that_are_there_and_differ_are_left(pool: Path, tmp_path: Path, run_cli: Cli) -> None:
    bank = restoring.restore(Pool.open(pool), tmp_path / "bank")
    file = next(bank.folder.glob("*.parquet"))
    rows = pq.read_table(file)
    tokens = [[1, *ids[1:]] if ids[0] != 1 else [2, *ids[1:]] for ids in rows["tokens"].to_pylist()]
    changed = rows.set_column(
        rows.column_names.index("tokens"), rows.schema.field("tokens"), pa.array(tokens, rows["tokens"].type)
    )
    pq.write_table(changed, file)
    code, told = run_cli("restore", str(pool), "--bank", str(tmp_path / "bank"))
    assert code == 2 and "contains a different path 0" in told and pq.read_table(file).equals(changed)


def test_no_score_is_taken_from_the_store_that_can_be_made_here(pool: Path, tmp_path: Path) -> None:
    table = pp.bench("logprob,jaccard", pp.open_pool(pool), results=tmp_path / "r", keep=2, progress=False)
    assert not {"logprob", "jaccard"} & set(table.stored) and "entropy" in table.stored
    headers = {r.name: r for r in table.rows}
    assert {"logprob", "jaccard", *table.stored} <= {name for names in headers for name in names.split(" = ")}


def test_a_method_that_needs_the_model_is_asked_for_by_name(pool: Path, tmp_path: Path) -> None:
    table = pp.bench("st-bon", pp.open_pool(pool), results=tmp_path / "r", keep=2, progress=False)
    assert "st-bon" in table.stored
    shutil.rmtree(pool / shipping.RECORDS)
    with pytest.raises(PathpruneError, match="st-bon needs"):
        pp.bench("st-bon", pp.open_pool(pool), results=tmp_path / "s", keep=2, progress=False)


def test_a_stopping_rule_stands_behind_stored_scores(native: tuple[Path, Any], pool: Path, tmp_path: Path) -> None:
    folder, _ = native
    options: dict[str, Any] = WHERE | {"results": folder / "native", "bank": folder / "bank"}
    (one,) = [r for r in pp.bench("st-bon+asc", "toy", **options).rows if r.name == "st-bon+asc"]
    again = pp.bench("st-bon+asc", pp.open_pool(pool), results=tmp_path / "r", keep=2, progress=False)
    (other,) = [r for r in again.rows if r.name == "st-bon+asc"]
    assert (other.voted, other.tokens) == (one.voted, one.tokens) and "st-bon" in again.stored


def test_statistics_that_do_not_ship_leave_the_stored_rows(native: tuple[Path, Any], tmp_path: Path) -> None:
    folder, first = native
    ship_pool(run_in(folder), tmp_path / "less", statistics=["logprob"], progress=False)
    pool = Pool.open(tmp_path / "less")
    assert pool.statistics == ("logprob",)
    again = pp.bench("all-registered", pool, results=tmp_path / "r", keep=2, progress=False)
    assert "deepconf" in again.stored and "logprob" not in again.stored
    pd.testing.assert_frame_equal(numbers(frame(first)), numbers(frame(again)), check_exact=True)


def test_the_statistics_that_fit_ship(
    native: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = native
    whole = (folder / "toyed" / packing.PACKED).stat().st_size
    assert Pool.open(folder / "toyed").statistics == STATISTICS
    monkeypatch.setattr(shipping, "MOST", whole - 1)
    pool = ship_pool(run_in(folder), tmp_path / "fits", progress=False)
    assert (pool.folder / packing.PACKED).stat().st_size < whole and 0 < len(pool.statistics) < len(STATISTICS)
    assert pool.statistics[0] == STATISTICS[0]
    monkeypatch.setattr(shipping, "MOST", 100)
    with pytest.raises(PathpruneError, match=r"ship fewer .*\(MB by column: "):
        ship_pool(run_in(folder), tmp_path / "none", progress=False)
    assert not (tmp_path / "none").exists()


def test_the_prefix_of_a_shipped_pool_is_the_one_that_was_scored(pool: Path) -> None:
    assert Where(pp.open_pool(pool), None, "hf", "", None, None, 0).prefix == 5


def test_the_card_says_whose_paths_they_are(pool: Path) -> None:
    card = (pool / "README.md").read_text()
    about = json.loads((pool / "pool.json").read_text())
    for told in ("Apache-2.0", "toy", "torch", "temperature 1.0", about["sampled"]["engine"]["fingerprint"], "st-bon"):
        assert told in card, told


@pytest.mark.parametrize("prompt", ["1 + 1?", ""])
def test_rows_come_back_as_they_were(tmp_path: Path, prompt: str) -> None:
    """Also those whose ids stand for other texts in other places, and paths of no token."""
    texts = ["a b", "ab", "", "é!"]
    ids = [[1, 2], [1, 3], [], [7, 8, 4]]
    ends = [[1, 3], [1, 2], [], [0, 1, 2]]
    statistics = [{"logprob": np.array([-0.5] * len(i), np.float16)} for i in ids]
    stored = [
        StoredPath(t, np.array(i, np.int32), len(i), "stop", None, False, np.array(e, np.int32), s)
        for t, i, e, s in zip(texts, ids, ends, statistics, strict=True)
    ]
    other = [StoredPath("x!", np.array([3, 4], np.int32), 2, "length", "x", True, np.array([1, 2], np.int32), {})]
    tables = [table("p0", prompt or None, ["2"], 4, stored), table("p1", "?", [], None, other)]
    pieces = packing.pieces_of(tables)
    packing.write(tmp_path / "p.parquet", tables, pieces)
    abouts = [{"problem": "p0", "prompt": prompt or None, "golds": ["2"], "prompt_tokens": 4},
              {"problem": "p1", "prompt": "?", "golds": [], "prompt_tokens": None}]  # fmt: skip
    for group, (wanted, about) in enumerate(zip(tables, abouts, strict=True)):
        assert packing.read(tmp_path / "p.parquet", group, about, packing.pieces_in(tmp_path / "p.parquet")).equals(
            wanted
        )


def test_a_check_finds_a_shipped_pool_whole(pool: Path) -> None:
    assert pp.check_pool(pool, progress=False) == []


def test_scores_of_other_paths_are_found(pool: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = WHERE | {"results": tmp_path / "n", "bank": tmp_path / "b", "seed": 1}
    pp.bench("logprob", "toy", **options)
    shutil.rmtree(pool / shipping.RECORDS)
    (folder,) = [f.parent for f in (tmp_path / "n").rglob("pool.jsonl")]
    shutil.copytree(folder, pool / shipping.RECORDS)
    flaws = pp.check_pool(pool, progress=False)
    assert flaws and all("was not recorded on these paths" in flaw for flaw in flaws)


def test_a_changed_token_is_found(pool: Path) -> None:
    file = pool / packing.PACKED
    told = pq.read_table(file)
    changed = told.to_pylist()
    changed[0]["answer"] = "7"
    stored = pq.ParquetFile(file)
    sizes = [stored.metadata.row_group(g).num_rows for g in range(stored.num_row_groups)]
    new = told.from_pylist(changed, schema=told.schema.with_metadata(stored.metadata.metadata))
    with pq.ParquetWriter(file, new.schema) as stream:
        for start, size in zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True):
            stream.write_table(new.slice(int(start), size))
        stream.add_key_value_metadata({packing.PIECES: stored.metadata.metadata[packing.PIECES]})
    opened = Pool.open(pool)
    with pytest.raises(PathpruneError, match="the file was changed; restore it"):
        opened.rows(next(iter(opened.entries)))


def stated(**values: Any) -> Callable[[Path], None]:
    """Changes what the card says."""

    def change(pool: Path) -> None:
        about = json.loads((pool / "pool.json").read_text())
        (pool / "pool.json").write_text(json.dumps(about | values))

    return change


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "it is gone": lambda pool: (pool / packing.PACKED).unlink(),
    "paths.parquet": lambda pool: (pool / packing.PACKED).write_bytes((pool / packing.PACKED).read_bytes()[:-40]),
    "the texts of its token ids": lambda pool: pq.write_table(
        pq.read_table(pool / packing.PACKED).replace_schema_metadata({}), pool / packing.PACKED
    ),
    "prefixes is": stated(prefixes=["5"]),
    "packed is": stated(packed="../paths.parquet"),
}


@pytest.mark.parametrize("told", DAMAGES)
def test_a_damaged_pool_is_one_line(pool: Path, run_cli: Cli, told: str, tmp_path: Path) -> None:
    DAMAGES[told](pool)
    code, said = run_cli("bench", "--pool", str(pool), "--pruner", "jaccard", "--results", str(tmp_path / "r"))
    assert code == 2 and re.search(told, said) and "Traceback" not in said, said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--ship", "--statistics", "logprobs"), "logprob"),
        (("--ship", "--push", "me/it"), "--push"),
        (("--licence", "MIT"), "--ship"),
        (("--ship", "--problems", "9"), "the bank holds"),
    ],
)
def test_what_cannot_ship_is_one_line(
    native: tuple[Path, Any], tmp_path: Path, run_cli: Cli, arguments: tuple[str, ...], told: str
) -> None:
    folder = native[0]
    sizes = () if "--problems" in arguments else ("--problems", "5")
    command = ["export-pool", "--task", "toy", "--engine", "toy", "--n", "8", *sizes, "--prefix", "5",
               "--bank", str(folder / "bank"), "--out", str(tmp_path / "out"), *arguments]  # fmt: skip
    code, said = run_cli(*command)
    assert code == 2 and told in said and "Traceback" not in said and not (tmp_path / "out").exists()


def test_the_verb_ships(native: tuple[Path, Any], tmp_path: Path, run_cli: Cli) -> None:
    folder = native[0]
    command = ["export-pool", "--ship", "--task", "toy", "--engine", "toy", "--n", "8", "--problems", "5", "--prefix", "5",
               "--bank", str(folder / "bank"), "--results", str(folder / "native"), "--out", str(tmp_path / "out")]  # fmt: skip
    for _ in range(2):  # shipped again, it takes the place of the first
        code, said = run_cli(*command)
        assert code == 0, said
    assert Pool.open(tmp_path / "out").digest == Pool.open(folder / "toyed").digest
    code, said = run_cli(
        "bench", "--pool", str(tmp_path / "out"), "--pruner", "jaccard", "--results", str(tmp_path / "r")
    )
    assert code == 0 and "scores taken from the pool: " in said and "st-bon" in said


def test_the_published_commands_of_a_real_model_go_on_where_they_ended(
    tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of ``results/publish.py`` on a small stand-in: done twice, nothing is sampled, scored or shipped anew."""
    monkeypatch.chdir(tmp_path)
    real = Real(pool="small", get="true", model="toy", licence="none", task="toy", sampling="temperature=1.0", limit=40, prefixes=(5, 9),
                problems=4, n=8, keep=2, labels="", untrained="logprob,jaccard,st-bon,asc", schedules=("5:4,9:2",), trained=(), engine="toy")  # fmt: skip
    told: list[str] = []
    for _ in range(2):
        for command in real.commands[1:]:
            code, said = run_cli(*command.split()[1:])
            assert code == 0, (command, said)
            told.append(said)
    sampled = [re.search(r"\b[1-9][0-9,]* tokens generated", said) for said in (told[0], told[len(told) // 2])]
    assert sampled[0] and not sampled[1]
    pool = Pool.open("results/pools/small")
    assert pool.about["prefixes"] == [5, 9] and pp.check_pool(pool, progress=False) == []
    code, said = run_cli("bench", "--pool", "results/pools/small", "--pruner", "jaccard", "--prefix", "5,9")
    assert code == 0 and said.count("scores taken from the pool: ") == 2


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.pool)
def test_the_published_trainings_start(
    real: Real, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a small stand-in; what a training does with its labels is tested elsewhere."""
    monkeypatch.chdir(tmp_path)
    trained: list[str] = []
    monkeypatch.setattr(training, "train_pruner", lambda plugin, *given: trained.append(plugin.name) or tmp_path)
    small = replace(
        real,
        task="hands",
        model="hands",
        engine="hf",
        limit=max(real.prefixes) + 1,
        labels="--problems 2 --n 2 --continuations 1",
    )
    for command in small.commands:
        if command.startswith("pathprune train"):
            code, said = run_cli(*command.split()[1:])
            assert code == 0, (command, said)
    assert trained == list(real.trained)


# -- the pools of results/pools ----------------------------------------------------------------------------------------

ROOT = Path(__file__).parent.parent
SHIPPED = sorted(f.parent for f in (ROOT / "results/pools").glob("*/pool.json"))


def published_of(pool: Path) -> Path:
    """The folder of published records that were made on the very paths of a shipped pool."""
    name = Pool.open(pool).about["sampled"]
    wanted = {
        "task": name["task"],
        "task_version": name["task_version"],
        "engine": name["engine"],
        "seed": name["seed"],
    }
    for record in (ROOT / "results/published").rglob("pool.parquet"):
        spec = pool_of(record.parent).header["spec"]
        if all(spec[key] == value for key, value in wanted.items()):
            return record.parent
    raise AssertionError(f"no published records of {pool}")


@pytest.mark.parametrize("pool", SHIPPED, ids=lambda p: p.name)
def test_published_rows_follow_from_the_shipped_pool(pool: Path, tmp_path: Path) -> None:
    """Bit for bit: paths and grades of the pool, with the scores that ship or are made here, give the published tables."""
    opened = Pool.open(pool)
    assert list(shipping.other_paths(opened, published_of(pool))) == []
    for published in groups_of(published_of(pool)):
        options: dict[str, Any] = {"n": published.pool.n, "keep": 8, "prefix": published.prefix, "progress": False}
        again = pp.bench("logprob,jaccard,shortest,asc", opened, results=tmp_path / "r", **options)
        one = sheet([(published, rows(published, 8))], 8).set_index("name").sort_index()
        other = again.frame().set_index("name").sort_index()
        pd.testing.assert_frame_equal(numbers(one), numbers(other)[numbers(one).columns], check_exact=True)
