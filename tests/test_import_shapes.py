"""Files of paths that others sampled: every known shape is read as it is meant, and nothing is read that is not there."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.api import PathpruneError
from harness.imports import gather, shapes
from harness.imports.finding import sources
from harness.imports.opening import read
from harness.imports.rows import ImportedProblem, Probe
from harness.imports.watch import Watch

GOLDEN = Path(__file__).parent / "fixtures" / "imports"
SUM, PRODUCT = "What is 2+2?", "What is 3*3?"


def told(problem: ImportedProblem) -> tuple[Any, ...]:
    """A problem without what a path does not say, and without the place."""
    return problem.id, problem.prompt, problem.golds, [said(path) for path in problem.paths]


def said(path: Any) -> dict[str, Any]:
    fields = {name: value for name, value in vars(path).items() if name != "statistics" and value not in (None, (), {})}
    return fields | {name: array.tolist() for name, array in path.statistics.items() if name != "margin"}


def every(*files: Any, **options: Any) -> list[tuple[Any, ...]]:
    return [told(problem) for problem in read(files, **options)]


def probe(position: int, answer: str | None) -> Probe:
    return Probe(position, answer)


TEXTS = ["Two and two make \\boxed{4}.", "I count \\boxed{5}.", "It is \\boxed{4}."]
EXPECTED: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "problems.jsonl": (
        "fields",
        [
            (
                "sum",
                SUM,
                ("4",),
                [
                    {
                        "text": TEXTS[0],
                        "tokens": (5, 6),
                        "length": 2,
                        "answer": "4",
                        "correct": True,
                        "finish": "stop",
                        "logprob": [-0.5, -0.25],
                    },
                    {
                        "text": TEXTS[1],
                        "tokens": (7,),
                        "length": 1,
                        "answer": "5",
                        "correct": False,
                        "finish": "length",
                        "logprob": [-1.0],
                    },
                    {
                        "text": TEXTS[2],
                        "tokens": (8, 9, 2),
                        "length": 3,
                        "answer": "4",
                        "correct": True,
                        "finish": "stop",
                        "logprob": [-0.125, 0.0, -2.0],
                    },
                ],
            ),
            (
                "product",
                PRODUCT,
                ("9", "nine"),
                [{"text": "\\boxed{9}", "tokens": (3,), "length": 1, "answer": "", "logprob": [-0.5]}],
            ),
        ],
    ),
    "paths.csv": (
        "fields",
        [
            (
                None,
                SUM,
                ("4",),
                [
                    {"text": "So\nit is 4", "length": 7, "answer": "4", "correct": True},
                    {"text": "no idea", "length": 3, "answer": "", "correct": False},
                ],
            ),
            (None, PRODUCT, ("9",), [{"text": "6, I think", "length": 5, "answer": "6", "correct": False}]),
        ],
    ),
    "samples_sums_2026-01-01.jsonl": (
        "lm_eval",
        [
            (
                "0",
                SUM,
                ("4",),
                [
                    {"text": " 2+2 is 4. The answer is 4.", "answer": "4"},
                    {"text": " The answer is 5.", "answer": "5"},
                    {"text": " I don't know.", "answer": ""},
                ],
            ),
            (
                "1",
                PRODUCT,
                ("9",),
                [
                    {"text": " The answer is 9.", "answer": "9"},
                    {"text": "9", "answer": ""},
                    {"text": " 6", "answer": ""},
                ],
            ),
        ],
    ),
    "openai_chat.jsonl": (
        "openai",
        [
            (
                None,
                SUM,
                ("4",),
                [
                    {
                        "text": "It is 4",
                        "length": 2,
                        "finish": "stop",
                        "pieces": ["It", " is 4"],
                        "logprob": [-0.5, -0.25],
                        "confidence": [1.0, 1.25],
                    },
                    {
                        "text": "<think>2+2?</think>5",
                        "length": 2,
                        "finish": "length",
                        "logprob": [-0.125, -2.5],
                        "confidence": [1.625, 1.5],
                    },
                ],
            )
        ],
    ),
    "openai_completions.jsonl": (
        "openai",
        [
            (
                None,
                "2+2=",
                ("4",),
                [
                    {
                        "text": "4.",
                        "length": 2,
                        "finish": "stop",
                        "pieces": ["4", "."],
                        "logprob": [-0.5, -0.25],
                        "confidence": [0.75, 1.25],
                    },
                    {
                        "text": "five",
                        "tokens": (17, 3),
                        "length": 2,
                        "finish": "length",
                        "logprob": [-0.75, -0.5],
                        "confidence": [1.25, 0.75],
                    },
                ],
            )
        ],
    ),
    "openai_batch.jsonl": (
        "openai",
        [
            (
                "sum",
                None,
                (),
                [{"text": "4", "length": 3, "finish": "stop"}, {"text": "five", "length": 5, "finish": "stop"}],
            ),
            ("product", None, (), [{"text": "9", "length": 4, "finish": "stop"}]),
        ],
    ),
    "vllm.jsonl": (
        "vllm",
        [
            (
                None,
                "2+2=",
                ("4",),
                [
                    {
                        "text": "4.",
                        "tokens": (4, 7),
                        "length": 2,
                        "finish": "stop",
                        "pieces": ["4", "."],
                        "logprob": [-0.5, -2.5],
                        "confidence": [0.75, 1.125],
                    },
                    {
                        "text": "5",
                        "tokens": (5,),
                        "length": 1,
                        "finish": "length",
                        "pieces": ["5"],
                        "logprob": [-1.0],
                        "confidence": [0.75],
                    },
                ],
            )
        ],
    ),
    "qwen_math.jsonl": (
        "qwen_math",
        [
            (
                "3",
                SUM,
                ("4",),
                [
                    {"text": TEXTS[0], "answer": "4", "correct": True, "rewards": {"pred_score": 2.5}},
                    {"text": TEXTS[1], "answer": "5", "correct": False, "rewards": {"pred_score": -1.0}},
                    {"text": TEXTS[2], "answer": "", "correct": False, "rewards": {"pred_score": 0.25}},
                ],
            )
        ],
    ),
    "inspect_ai.json": (
        "inspect_ai",
        [
            (
                "1",
                SUM,
                ("4",),
                [
                    {"text": "It is 4", "length": 6, "answer": "4", "correct": True, "finish": "stop"},
                    {"text": "It is 5", "length": 6, "answer": "5", "correct": False, "finish": "length"},
                ],
            ),
            (
                "2",
                PRODUCT,
                ("9", "nine"),
                [{"text": "<think>3*3</think>9", "length": 6, "answer": "9", "correct": True, "finish": "stop"}],
            ),
        ],
    ),
    "parallel_probe.json": (
        "parallel_probe",
        [
            (
                None,
                SUM,
                ("4",),
                [
                    {"length": 8, "answer": "4", "probes": (probe(5, None), probe(8, "4"))},
                    {"length": 4, "answer": "", "probes": (probe(4, "3"),)},
                ],
            )
        ],
    ),
    "consol": (
        "consol",
        [
            ("7", None, (), [{"length": 1560, "answer": "204.0"}, {"length": 1365, "answer": "17.0"}]),
            ("12", None, (), [{"length": 99, "answer": "3.0"}]),
        ],
    ),
    "open_r1.jsonl": (
        "open_r1",
        [
            (
                "u1",
                SUM,
                ("4",),
                [
                    {"text": "<think>2</think>\n\\boxed{4}", "correct": True, "finish": "stop"},
                    {"text": "<think>2", "correct": False, "finish": "length"},
                ],
            )
        ],
    ),
    "matharena.jsonl": (
        "matharena",
        [
            (
                "1",
                SUM,
                ("4",),
                [
                    {"text": "\\boxed{4}", "length": 9, "answer": "4", "correct": True},
                    {"text": "I give up", "length": 7, "answer": "", "correct": False},
                ],
            )
        ],
    ),
    "best_of_n.jsonl": (
        "best_of_n",
        [
            (
                "a/1",
                SUM,
                ("4",),
                [
                    {"text": "## Step 1\n4\n\n\\boxed{4}", "length": 11, "rewards": {"scores": [0.5, 0.75]}},
                    {"text": "\\boxed{5}", "length": 4, "rewards": {"scores": 0.25}},
                ],
            )
        ],
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_known_shape_is_read_as_it_is_meant(name: str) -> None:
    shape, problems = EXPECTED[name]
    reading = read([GOLDEN / name])
    assert [told(problem) for problem in reading] == problems
    assert reading.shape == shape and not reading.skipped
    assert reading.rows == sum(source["rows"] for source in reading.sources) > 0
    assert reading.bytes_read == reading.bytes and reading.problems == len(problems)


def test_every_golden_file_has_its_test() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_row_fits_its_shape_and_no_other(name: str) -> None:
    first = next(iter(sources([GOLDEN / name])[0].rows(shapes.is_row))).row
    known = [shape.name for shape in shapes.shapes().values() if shape.name != shapes.ANY and shape.fits(first)]
    assert known == [EXPECTED[name][0]] if EXPECTED[name][0] != shapes.ANY else not known


def test_mars_keeps_its_confidences_to_the_bit(tmp_path: Path) -> None:
    confidences = np.array([1.25, 0.333, 7.5], np.float16)
    a_probe = {"position": 2, "answer": "4", "is_correct": True, "raw_text": "4}", "avg_conf": 1.5}
    rows = [
        {
            "qid": 3,
            "trace_idx": i,
            "ground_truth": "4",
            "extracted_answer": answer,
            "confs": confidences[:n],
            "probes": probes,
        }
        for i, (answer, n, probes) in enumerate([("4", 3, [a_probe]), (None, 2, []), ("5", 1, [])])
    ]
    kind = pa.struct([("position", pa.int64()), ("answer", pa.string()), ("is_correct", pa.bool_()), ("raw_text", pa.string()), ("avg_conf", pa.float64())])  # fmt: skip
    schema = pa.schema([("qid", pa.int64()), ("trace_idx", pa.int64()), ("ground_truth", pa.string()), ("extracted_answer", pa.string()), ("confs", pa.list_(pa.float16())), ("probes", pa.list_(kind))])  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "mars.parquet")
    reading = read([tmp_path / "mars.parquet"])
    (problem,) = reading
    assert (reading.shape, problem.id, problem.golds) == ("mars", "3", ("4",))
    for path, n in zip(problem.paths, (3, 2, 1), strict=True):
        assert path.statistics["confidence"].tobytes() == confidences[:n].tobytes() and path.length == n
        assert set(path.statistics) == {"confidence"}
    assert [path.answer for path in problem.paths] == ["4", "", "5"]
    assert problem.paths[0].probes == (Probe(2, "4", True, 1.5, "4}"),)


def as_eval(folder: Path) -> Path:
    log = json.loads((GOLDEN / "inspect_ai.json").read_text())
    with zipfile.ZipFile(folder / "log.eval", "w") as archive:
        archive.writestr("header.json", json.dumps({k: v for k, v in log.items() if k != "samples"}))
        for sample in reversed(log["samples"]):
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    return folder / "log.eval"


def test_a_zipped_log_says_what_the_log_says(tmp_path: Path) -> None:
    assert every(as_eval(tmp_path)) == every(GOLDEN / "inspect_ai.json")


@pytest.mark.parametrize(("method", "name"), [(93, "zip method 93, zstd"), (20, "zstd"), (97, "zip method 97")])
def test_a_log_that_is_packed_otherwise_says_how_to_unpack_it(method: int, name: str, tmp_path: Path) -> None:
    file = as_eval(tmp_path)
    data = file.read_bytes()
    for sign, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):  # of each file, and in the directory
        parts = data.split(sign)
        data = sign.join([parts[0], *(p[: at - 4] + method.to_bytes(2, "little") + p[at - 2 :] for p in parts[1:])])
    file.write_bytes(data)
    with pytest.raises(PathpruneError, match="inspect log convert") as error:
        list(read([file]))
    assert name in str(error.value) and str(file) in str(error.value) and "damaged" not in str(error.value)


def as_zst(folder: Path) -> Path:
    with pa.output_stream(str(folder / "a.jsonl.zst"), compression="zstd") as stream:
        stream.write((GOLDEN / "problems.jsonl").read_bytes())
    return folder / "a.jsonl.zst"


def as_gz(folder: Path) -> Path:
    (folder / "a.jsonl.gz").write_bytes(gzip.compress((GOLDEN / "problems.jsonl").read_bytes()))
    return folder / "a.jsonl.gz"


def as_json(folder: Path) -> Path:
    rows = [json.loads(line) for line in (GOLDEN / "problems.jsonl").read_text().splitlines()]
    (folder / "a.json").write_text(json.dumps({"about": "sums", "data": rows}, indent=1))
    return folder / "a.json"


def as_folder(folder: Path) -> Path:
    for number, line in enumerate((GOLDEN / "problems.jsonl").read_text().splitlines()):
        (folder / f"part-{number}.jsonl").write_text(line)
    (folder / "README.md").write_text("# sums")
    return folder


def as_parquet(folder: Path) -> Path:
    rows = [json.loads(line) for line in (GOLDEN / "problems.jsonl").read_text().splitlines()]
    rows[0]["gold"] = [rows[0]["gold"]]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet", row_group_size=1)
    return folder / "a.parquet"


@pytest.mark.parametrize("write", [as_zst, as_gz, as_json, as_folder, as_parquet])
def test_every_kind_of_file_gives_the_same_problems(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    assert every(write(tmp_path)) == EXPECTED["problems.jsonl"][1]


def test_a_data_set_of_the_hub_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    as_parquet(tmp_path / "data")
    asked = []
    monkeypatch.setattr("harness.hub.pull_data", lambda address, patterns: asked.append(address) or tmp_path)
    reading = read(["hf://owner/name/data"])
    assert [told(problem) for problem in reading] == EXPECTED["problems.jsonl"][1]
    assert asked == ["hf://owner/name"] and reading.sources[0]["file"] == "hf://owner/name/data/a.parquet"


def scattered(folder: Path, problems: int, paths: int, tokens: int, shuffled: bool) -> Path:
    rows = [(problem, path) for problem in range(problems) for path in range(paths)]
    if shuffled:
        random.Random(0).shuffle(rows)
    table = pa.table(
        {
            "problem": [f"question {problem}" for problem, _ in rows],
            "text": [f"path {path} of {problem}" for problem, path in rows],
            "logprobs": pa.array([-np.full(tokens, path / 64, np.float32) for _, path in rows], pa.list_(pa.float32())),
        }
    )
    file = folder / f"{shuffled}.parquet"
    pq.write_table(table, file, row_group_size=16)
    return file


@pytest.mark.parametrize("spooled", [0, 64 << 20])
def test_scattered_rows_of_a_problem_are_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spooled: int
) -> None:
    monkeypatch.setattr(gather, "SPOOLED", spooled)
    problems = every(scattered(tmp_path, 9, 7, 3, shuffled=True))
    in_order = every(scattered(tmp_path, 9, 7, 3, shuffled=False))
    key: Callable[[Any], str] = lambda path: path["text"]  # noqa: E731
    assert [problem[1] for problem in problems] != [problem[1] for problem in in_order]  # as they first appear
    assert sorted((p, sorted(paths, key=key)) for _, p, _, paths in problems) == [
        (p, paths) for _, p, _, paths in in_order
    ]


@pytest.mark.parametrize("shuffled", [False, True])
def test_memory_is_that_of_one_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffled: bool) -> None:
    monkeypatch.setattr(gather, "SPOOLED", 1 << 18)
    monkeypatch.setattr("harness.imports.parquet.BATCH", 1 << 18)
    file = scattered(tmp_path, 40, 16, 4_000, shuffled)
    of_one = 16 * 4_000 * 2
    tracemalloc.start()
    try:
        assert sum(len(problem.paths) for problem in read([file])) == 40 * 16
        assert tracemalloc.get_traced_memory()[1] < 10 * of_one  # of 40
    finally:
        tracemalloc.stop()


def write(folder: Path, *rows: Any) -> Path:
    file = folder / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_top_k_gives_what_its_definition_allows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in (1, 2, 19, 20, 25):
        logits = rng.normal(size=(4, 40)) * 3
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        top = -np.sort(-logs, axis=1)[:, :k]
        row = {
            "problem": SUM,
            "text": "4",
            "logprobs": logs[:, 0].tolist(),
            "top_logprobs": rng.permuted(top, axis=1).tolist(),
        }
        ((path,),) = [problem.paths for problem in read([write(tmp_path, row)])]
        statistics = path.statistics
        assert set(statistics) == {"logprob", "confidence"} | ({"margin"} if k > 1 else set()) | (
            {"top_entropy"} if k >= 20 else set()
        )
        np.testing.assert_allclose(statistics["logprob"], logs[:, 0], rtol=1e-3)
        np.testing.assert_allclose(statistics["confidence"], -top[:, :20].mean(axis=1), rtol=1e-3)
        if k > 1:
            np.testing.assert_allclose(
                statistics["margin"], np.exp(top[:, 0]) - np.exp(top[:, 1]), rtol=1e-2, atol=1e-4
            )
        if k >= 20:
            shares = np.exp(top[:, :20]) / np.exp(top[:, :20]).sum(axis=1, keepdims=True)
            np.testing.assert_allclose(statistics["top_entropy"], -(shares * np.log(shares)).sum(axis=1), rtol=1e-2)


def test_k_is_one_for_all_paths_and_is_told(tmp_path: Path) -> None:
    rows = [{"problem": SUM, "text": "4", "top_logprobs": [[-0.5, -1.0][:k] for _ in range(3)]} for k in (2, 1)]
    reading = read([write(tmp_path, *rows)], skip_bad=True)
    assert [len(problem.paths) for problem in reading] == [1] and reading.mapping["top_k"] == "2"
    assert "line 2" in reading.skipped[0] and "1 most likely tokens" in reading.skipped[0]


def test_what_is_mapped_is_read_from_there(tmp_path: Path) -> None:
    row = {"task": {"q": SUM}, "out": {"raw": "\\boxed{4}", "n": 3}, "answer": "5", "gold": "4", "text": "not this"}
    mapping = {"problem": "task.q", "text": "out.raw", "length": "out.n", "answer": "", "gold": "answer"}
    reading = read([write(tmp_path, row)], mapping)
    assert [told(problem) for problem in reading] == [(None, SUM, ("5",), [{"text": "\\boxed{4}", "length": 3}])]
    assert reading.mapping == {target: field for target, field in mapping.items() if field}


@pytest.mark.parametrize(
    ("row", "gold", "answer"),
    [
        ({"answer": "4", "text": "It is 5"}, ("4",), None),
        ({"answer": "5", "gold": "4", "text": "It is 5"}, ("4",), "5"),
        ({"answer": "5", "length": 3}, (), "5"),
        ({"answer": ["5"], "text": ["It is 5"]}, (), "5"),
        ({"answer": "4", "pred": "5"}, ("4",), "5"),
        ({"solution": "So \\boxed{4}.", "response": "It is 5"}, ("4",), None),
    ],
)
def test_whose_an_answer_is(tmp_path: Path, row: dict[str, Any], gold: tuple[str, ...], answer: str | None) -> None:
    ((problem,),) = [list(read([write(tmp_path, {"question": SUM, **row})]))]
    assert (problem.golds, problem.paths[0].answer) == (gold, answer)


def test_ids_that_differ_from_path_to_path_name_no_problem(tmp_path: Path) -> None:
    rows = [{"id": i, "question": [SUM, PRODUCT][i % 2], "text": str(i)} for i in range(6)]
    assert [(p[0], p[1], len(p[3])) for p in every(write(tmp_path, *rows))] == [(None, SUM, 3), (None, PRODUCT, 3)]
    rows = [{"id": i, "question": f"{i}?", "text": str(i)} for i in range(3)]
    assert [p[0] for p in every(write(tmp_path, *rows))] == ["0", "1", "2"]


def test_a_field_may_first_stand_in_a_later_row(tmp_path: Path) -> None:
    rows = [{"question": SUM, "text": "4"}, {"question": SUM, "text": "5", "id": 7, "correct": False, "gold": "4"}]
    rows.append({"question": SUM, "text": "6", "answer": "6"})  # whose an answer is was told by the first row
    assert every(write(tmp_path, *rows)) == [
        (None, SUM, ("4",), [{"text": "4"}, {"text": "5", "correct": False}, {"text": "6"}])
    ]


def test_a_reading_can_be_gone_through_again(tmp_path: Path) -> None:
    rows = [{"id": i % 2, "question": f"{i % 2}?", "text": "4" if i != 2 else 4} for i in range(6)]
    reading = read([write(tmp_path, *rows)], skip_bad=True)
    first, second = ([told(problem) for problem in reading] for _ in range(2))
    assert first == second and [len(paths) for *_, paths in first] == [2, 3]
    assert len(reading.skipped) == 1 and reading.rows == 6


def long(count: int) -> bytes:
    """Lines of paths that no compression makes small."""
    rng = random.Random(0)
    rows = ({"problem": f"{i // 4}?", "text": rng.randbytes(300).hex()} for i in range(count))
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def packed(folder: Path, ending: str) -> Path:
    """The same paths as one file of a kind."""
    lines, file = long(4_000), folder / f"a{ending}"
    if ending.endswith(".zst"):
        with pa.output_stream(str(file), compression="zstd") as stream:
            stream.write(lines)
    elif ending == ".parquet":
        pq.write_table(
            pa.Table.from_pylist([json.loads(line) for line in lines.splitlines()]), file, row_group_size=100
        )
    elif ending == ".json":
        file.write_text(json.dumps([json.loads(line) for line in lines.splitlines()]))
    elif ending == ".csv":
        rows = [json.loads(line) for line in lines.splitlines()]
        file.write_text("problem,text\n" + "".join(f"{row['problem']},{row['text']}\n" for row in rows))
    else:
        file.write_bytes(gzip.compress(lines) if ending.endswith(".gz") else lines)
    return file


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".csv", ".parquet"])
def test_how_far_it_is_is_told_in_bytes_inside_one_file(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.imports.files.BLOCK", 1 << 14)
    file, told = packed(tmp_path, ending), []
    watch = Watch(lambda done, total, note: told.append((done, total, note)), every=0)
    reading = read([file], watch=watch)
    reading._gathered.count()  # the first pass is told of too
    size, first = file.stat().st_size, len(told)
    assert sum(1 for _ in reading) == 1_000
    assert {total for done, total, _ in told if done} == {size}
    for part in (told[1:first], told[first:]):
        positions = [done for done, *_ in part if done]
        assert positions == sorted(positions) and positions[-1] == size
        assert len(set(positions)) > 4 and positions[0] < size / 2
    assert "belong together" in told[first - 1][2] and reading.sources and "hashing" in told[-1][2]


def test_a_watch_tells_seldom_and_that_all_is_done() -> None:
    told: list[int] = []
    watch = Watch(lambda done, total, note: told.append(done), every=3600)
    for done in range(100):
        watch.at(done, 100)
    watch.finish()
    assert told == [0, 100]


def test_another_filter_of_lm_eval_is_mapped() -> None:
    file = GOLDEN / "samples_sums_2026-01-01.jsonl"
    assert [["answer" in path for path in paths] for *_, paths in every(file, mapping={"filter": "score-first"})] == [
        [False] * 3
    ] * 2
    with pytest.raises(PathpruneError, match="no path in 4 rows"):
        every(file, mapping={"filter": "maj@8"})


def test_of_a_chat_the_last_reply_is_the_path(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": SUM},
        {"role": "assistant", "content": "5?"},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "reasoning": "No.", "content": "4"},
    ]
    expected = [(None, f"{SUM}\n\nSure?", (), [{"text": "<think>No.</think>4"}])]
    assert every(write(tmp_path, {"messages": turns})) == expected
    assert every(write(tmp_path, {"problem": SUM, "messages": [turns, turns[:3]]}))[0][3] == [
        {"text": "<think>No.</think>4"},
        {"text": "5?"},
    ]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mapping": {"txt": "out"}}, "did you mean text?"),
        ({"mapping": {"text": "respons"}}, "did you mean response?"),
        ({"mapping": {"text": "meta.n.x"}}, "no field meta.n.x"),
        ({"shape": "marz"}, "did you mean mars?"),
    ],
)
def test_a_wrong_name_is_told_with_the_right_one(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(PathpruneError, match=words.replace("?", r"\?")):
        read([write(tmp_path, {"question": SUM, "response": "4", "meta": {"n": 1}})], **wrong)


OWN = {"problem": SUM, "gold": "4", "text": "It is 4"}
FOUR = {"problem": SUM, "text": ["4", "5"], "correct": [True, False]}
CHAT = {
    "problem": SUM,
    "response": {"choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}]},
}
LP = {"token": "4", "logprob": -0.5, "top_logprobs": [{"token": "4", "logprob": -0.5}]}


def with_logprobs(*entries: Any) -> dict[str, Any]:
    choice = {"message": {"content": "4"}, "logprobs": {"content": list(entries)}}
    return {"problem": SUM, "response": {"choices": [choice]}}


# A row that is wrong behind one that is right, and what the line about it says.
BAD_ROWS: dict[str, tuple[Any, Any, str]] = {
    "no text": (OWN, {"problem": SUM, "gold": "4"}, "no field of a path"),
    "text is a number": (OWN, OWN | {"text": 4}, "text must be a text, not 4"),
    "text is an object": (OWN, OWN | {"text": {"a": 1}}, "must be a text"),
    "null among texts": (FOUR, FOUR | {"text": ["4", None]}, "a text is null"),
    "half a surrogate pair": (OWN, OWN | {"text": "\ud800"}, "a lone surrogate"),
    "no problem": (OWN, {"text": "4"}, "no field identifies its problem"),
    "a list, no object": (OWN, ["4"], "not an object"),
    "more grades than paths": (FOUR, FOUR | {"correct": [True, False, True]}, "correct has 3 entries and text has 2"),
    "one grade for two paths": (FOUR, FOUR | {"correct": True}, "correct is True, but other fields have an entry per path"),
    "a grade that is none": (OWN, OWN | {"correct": 0.5}, "must be right or wrong"),
    "a length that is none": (OWN, OWN | {"length": -3}, "must be an integer"),
    "a length in words": (OWN, OWN | {"length": "long"}, "must be an integer"),
    "an ending that is none": (OWN, OWN | {"finish_reason": "content_filter"}, "must be a stop"),
    "token ids below 0": (OWN, OWN | {"token_ids": [1, -2]}, "must be a list of token ids"),
    "token ids with a half": (OWN, OWN | {"token_ids": [1.5]}, "must be a list of token ids"),
    "NaN": (OWN, OWN | {"logprobs": [-0.5, math.nan]}, "nan at token 2"),
    "minus infinity": (OWN, OWN | {"logprobs": [-math.inf]}, "-inf at token 1"),
    "null": (OWN, OWN | {"logprobs": [-0.5, None]}, "at token 2"),
    "probabilities": (OWN, OWN | {"logprobs": [0.9]}, "a log-probability is at most 0"),
    "a word for numbers": (OWN, OWN | {"logprobs": "none"}, "logprobs must be a list, not 'none'"),
    "unlike lengths": (OWN, OWN | {"logprobs": [-1.0], "token_ids": [1, 2]}, "disagree on the number of tokens: token_ids 2, logprob 1"),
    "a length that contradicts": (OWN, OWN | {"length": 3, "token_ids": [1, 2]}, "token_ids 2, length 3"),
    "confidence below 0": (OWN, OWN | {"confs": [-1.5]}, "confidence is never negative"),
    "OpenAI's -9999": (with_logprobs(LP), with_logprobs(LP | {"logprob": -9999.0}), "-9999 at token 1, which marks"),
    "-9999 in the top": (with_logprobs(LP), with_logprobs(LP | {"top_logprobs": [{"token": "x", "logprob": -9999.0}]}), "-9999 at token 1"),
    "a top that is missing": (with_logprobs(LP), with_logprobs(LP, LP | {"top_logprobs": []}), "0 most likely tokens"),
    "no choices": (CHAT, {"problem": SUM, "response": {"choices": []}, "error": "overloaded"}, "overloaded"),
    "a path twice": (OWN | {"trace_idx": 1}, OWN | {"trace_idx": 1}, "path 1 of problem .* twice, first in .*line 1"),
    "two questions of one id": (OWN | {"id": 1}, OWN | {"id": 1, "problem": PRODUCT}, "its own id"),
    "two golds of one problem": (OWN, OWN | {"gold": "5"}, "gold answer '5'"),
    "a gold answer that is none": (OWN, OWN | {"gold": "\\frac{1"}, "gold .* does not parse as an answer"),
    "a probe without position": (OWN, OWN | {"probes": [{"answer": "4"}]}, "position and answer"),
    "two probes at one position": (OWN, OWN | {"probes": [{"position": 5, "answer": "4"}] * 2}, "two answers at position 5"),
    "a reward that is none": (OWN, OWN | {"reward": "high"}, "must be one number|must be a list"),
    "another shape": (CHAT, OWN, "no response with choices"),
    "a length beyond 32 bits": (OWN, OWN | {"length": 2**31}, "length must be an integer from 0 to 2,147,483,647, not 2147483648"),
    "a length beyond any float": (OWN, OWN | {"length": 10**400}, "length must be an integer, not 1"),
    "a probe beyond 32 bits": (OWN, OWN | {"probes": [{"position": 2**31, "answer": "4"}]}, "probes.position must be an integer from 0 to 2,147,483,647"),
    "a probe that is sure of nothing": (OWN, OWN | {"probes": [{"position": 1, "answer": "4", "confidence": math.nan}]}, "nan at probe 1"),
    "token ids as floats": (OWN, OWN | {"token_ids": [1.0, 2.0]}, "token_ids must be a list of token ids"),
    "token ids beyond 64 bits": (OWN, OWN | {"token_ids": [2**70]}, "must be a list of token ids"),
    "token ids as truths": (OWN, OWN | {"token_ids": [True]}, "must be a list of token ids"),
    "a log-probability beyond any float": (OWN, OWN | {"logprobs": [-(10**400)]}, "logprobs must be one number per token"),
    "an infinite reward": (OWN, OWN | {"reward": math.inf}, "reward is inf at score 1"),
    "a reward without a name": (OWN, OWN | {"reward": {"": 1}}, "a reward named ''"),
    "a reward of two lines": (OWN, OWN | {"reward": {"a\nb": 1}}, "a reward named 'a.*nb'"),
    "a problem that is a number": (OWN, OWN | {"problem": 5}, "problem is 5, not a text"),
    "an id that is a truth": (OWN | {"id": 1}, OWN | {"id": True}, "id must be a text or a number, not True"),
    "a gold answer that is an object": (OWN, OWN | {"problem": PRODUCT, "gold": {"a": 1}}, "gold is .*not one text or number"),
    "NUL in a text": (OWN, OWN | {"text": "a\x00b"}, "NUL or a lone surrogate"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_one_line_and_can_be_left_out(tmp_path: Path, name: str) -> None:
    right, wrong, words = BAD_ROWS[name]
    file = write(tmp_path, right, wrong)
    with pytest.raises(PathpruneError, match=words) as error:
        list(read([file]))
    line = str(error.value)
    assert line.startswith(f"{file}, line 2: ") and "\n" not in line and "skip_bad" in line.lower().replace("-", "_")
    reading = read([file], skip_bad=True)
    (problem,) = reading
    assert len(problem.paths) == len(next(iter(read([write(tmp_path, right)]))).paths)
    assert reading.skipped == [reading.skipped[0]] and reading.skipped[0].startswith(f"{file}, line 2: ")
    assert reading.rows == 2


GOOD = json.dumps(OWN).encode() + b"\n"
PARQUET = b"PAR1" + b"\x00" * 64
BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "cut gz": ("a.jsonl.gz", gzip.compress(GOOD * 2000, mtime=0)[:-40], "damaged or truncated"),
    "no gz": ("a.jsonl.gz", GOOD, "damaged or truncated"),
    "cut zst": ("a.jsonl.zst", pa.compress(GOOD * 2000, "zstd", asbytes=True)[:-20], "damaged or truncated"),
    "no zst": ("a.jsonl.zst", GOOD, "damaged or truncated"),
    "gz named jsonl": ("a.jsonl", gzip.compress(GOOD), "is a gzip file, not .jsonl"),
    "Parquet named jsonl": ("a.jsonl", PARQUET, "is a Parquet file, not .jsonl"),
    "bytes named json": ("a.json", b"\x01\x00\x02", "is a binary file"),
    "no Parquet": ("a.parquet", GOOD, "damaged or truncated"),
    "cut Parquet": ("a.parquet", PARQUET, "damaged or truncated"),
    "no zip": ("a.eval", GOOD, "damaged or truncated"),
    "empty": ("a.jsonl", b"", "has no rows"),
    "white space": ("a.json", b" \n\n", "has no rows"),
    "header alone": ("a.csv", b"problem,text\n", "has no rows"),
    "unknown ending": ("a.txt", GOOD, "unknown kind of file '.txt'"),
    "Parquet in gz": ("a.parquet.gz", GOOD, "gunzip"),
    "not JSON": ("a.json", b'{"problem": ', "is not JSON"),
    "a number": ("a.json", b"3", "not a list"),
    "several lists": ("a.json", json.dumps({"a": [OWN], "b": [OWN]}).encode(), "2 lists"),
    "nested too deep": ("a.json", b"[" * 100_000, "nested too deeply"),
    "not JSON in a line": ("a.jsonl", GOOD + b"{oops\n", "line 2 is not JSON"),
    "too deep in a line": ("a.jsonl", GOOD + b'{"a":' * 100_000 + b"\n", "line 2 is nested too deeply"),
    "a field twice": ("a.jsonl", GOOD + b'{"text": "a", "text": "b"}\n', "line 2 is not JSON: the field 'text' appears twice"),
    "not UTF-8": ("a.jsonl", GOOD + b'{"text": "\xff"}\n', "line 2: is not UTF-8"),
    "not UTF-8 in a cell": ("a.csv", b"problem,text\n1,\xff\n", "is not UTF-8"),
    "an open quote": ("a.csv", b'problem,text\n1,"4', "not CSV"),
    "too many cells": ("a.csv", b"problem,text\n1,4\n1,4,5\n", "row 2: has 3 cells, and the header 2"),
    "UTF-16": ("a.jsonl", GOOD.decode().encode("utf-16"), "is UTF-16 text, and only UTF-8 is read"),
    "UTF-16 without a mark": ("a.json", GOOD.decode().encode("utf-16-le"), "is UTF-16 text"),
    "UTF-16 in cells": ("a.csv", "problem,text\n1,4\n".encode("utf-16-be"), "is UTF-16 text"),
    "Latin-1 in a cell": ("a.csv", "problem,text\n1,4\n1,caf\u00e9\n".encode("latin-1"), "line 3, is not UTF-8"),
    "semicolons": ("a.csv", b"problem;text\n1;4\n", "separated by ';'; use commas"),
    "tabs": ("a.csv", b"problem\ttext\n1\t4\n", "use commas"),
    "no header": ("a.csv", b"1+1?,4\n2+2?,4\n", "no field identifies its problem"),
    "one object in lines": ("a.jsonl", json.dumps(OWN, indent=1).encode(), "over many lines; name it .json"),
    "a number of many digits": ("a.jsonl", b'{"length": ' + b"9" * 5000 + b"}\n", "thousands of digits"),
    "a comma too many": ("a.json", b"[" + GOOD.strip() + b",]", "is not JSON"),
    "a line cut short": ("a.jsonl", GOOD + GOOD[:30], "line 2 is not JSON"),
    "NUL in a file": ("a.csv", b"problem,text\n1,a\x00b\n", "is a binary file"),
    "one column twice": ("a.csv", b"text,text\n1,4\n", "two columns with the same name"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str) -> None:
    file, content, words = BAD_FILES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(PathpruneError) as error:
        list(read([tmp_path / file]))
    line = str(error.value)
    assert words in line and str(tmp_path / file) in line and "\n" not in line and len(line) < 1000


def linked(folder: Path) -> None:
    (folder / "b.jsonl").symlink_to("nowhere")


def linked_folder(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "more").symlink_to(folder.parent / "elsewhere")


# What else stands in a folder with a good file, and what is said of it; "" where it is nothing wrong.
FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "one bad file": (lambda folder: (folder / "b.jsonl").write_text("{oops"), "b.jsonl, line 1 is not JSON"),
    "one empty file": (lambda folder: (folder / "b.jsonl").touch(), "b.jsonl has no rows"),
    "a link to nothing": (linked, "b.jsonl is a broken link to 'nowhere'"),
    "a link to a folder": (linked_folder, "more links to a folder, which is not followed"),
    "a link in a circle": (lambda folder: (folder / "self").symlink_to(folder), ""),
    "a hidden folder": (lambda folder: ((folder / ".git").mkdir(), (folder / ".git/a.jsonl").write_text("{")), ""),
    "a folder called like a file": (lambda folder: (folder / "c.jsonl").mkdir(), ""),
    "another kind": (lambda folder: (folder / "b.csv").write_text("problem,text\n1,4\n"), "several kinds (.csv, .jsonl)"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_in_a_folder_is_left_out_without_a_word(name: str, tmp_path: Path) -> None:
    add, words = FOLDERS[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_bytes(GOOD)
    add(tmp_path / "in")
    if not words:
        assert len(every(tmp_path / "in")) == 1
        return
    with pytest.raises(PathpruneError) as error:
        list(read([tmp_path / "in"]))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_cannot_be_read_twice_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for file, words in ((tmp_path / "pipe.jsonl", "a device or a pipe"), (Path("/dev/null"), "a device or a pipe")):
        with pytest.raises(PathpruneError, match=words):
            read([file])
    (tmp_path / "self.jsonl").symlink_to("self.jsonl")
    with pytest.raises(PathpruneError, match=r"is a broken link to 'self\.jsonl'"):
        read([tmp_path / "self.jsonl"])


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_endings_of_lines_and_a_mark_in_front_change_nothing(ending: str, mark: bytes, tmp_path: Path) -> None:
    text = "problem,gold,text\nWhat is 2+2?,4,It is 4\n".replace("\n", ending)
    (tmp_path / "a.csv").write_bytes(mark + text.encode())
    assert every(tmp_path / "a.csv") == [(None, SUM, ("4",), [{"text": "It is 4"}])]
    if ending != "\r":
        (tmp_path / "a.jsonl").write_bytes(mark + (GOOD + GOOD).replace(b"\n", ending.encode()))
        assert every(tmp_path / "a.jsonl") == [(None, SUM, ("4",), [{"text": "It is 4"}] * 2)]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text": [None]}, "a text is null"),
        ({"text": pa.array([1], pa.timestamp("s"))}, "must be a text"),
        ({"text": pa.array([b"\xff"])}, "must be a text"),
        ({"token_ids": pa.array([[1.0, 2.0]])}, "must be a list of token ids"),
        ({"token_ids": pa.array([[1, None]])}, "must be a list of token ids"),
        ({"token_ids": pa.array([[2**63 + 5]], pa.list_(pa.uint64()))}, "must be a list of token ids"),
        ({"logprobs": pa.array([[-1.0, None]])}, "nan at token 2"),
        ({"reward": pa.array([float("inf")])}, "inf at score 1"),
    ],
)
def test_a_column_of_another_type_is_one_line(columns: dict[str, Any], words: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"problem": [SUM], "gold": ["4"], "text": ["4"]} | columns), tmp_path / "a.parquet")
    with pytest.raises(PathpruneError, match=f"row 1: .*{words}"):
        list(read([tmp_path / "a.parquet"]))


def test_types_that_parquet_has_are_read(tmp_path: Path) -> None:
    columns = {
        "problem": pa.array([SUM]).dictionary_encode(), "gold": pa.array([4], pa.decimal128(5, 0)), "text": pa.array(["4"], pa.large_string()),
        "logprobs": pa.array([[-1.0, -2.0]], pa.list_(pa.float64(), 2)), "confidence": pa.array([[1.0, 2.0]], pa.large_list(pa.float32())),
        "reward": pa.array([[("rm", 0.5)]], pa.map_(pa.string(), pa.float64())),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    ((_, _, golds, (path,)),) = every(tmp_path / "a.parquet")
    assert (
        golds == ("4",)
        and path["logprob"] == [-1.0, -2.0]
        and path["confidence"] == [1.0, 2.0]
        and path["rewards"] == {"rm": 0.5}
    )
    twice = pa.Table.from_arrays([pa.array([SUM]), pa.array(["4"]), pa.array(["5"])], names=["problem", "text", "text"])
    pq.write_table(twice, tmp_path / "b.parquet")
    with pytest.raises(PathpruneError, match=r"b\.parquet has two columns of one name: text"):
        list(read([tmp_path / "b.parquet"]))


def test_a_gold_answer_may_be_larger_than_any_float(tmp_path: Path) -> None:
    ((_, _, golds, _),) = every(write(tmp_path, OWN | {"gold": 10**400}))
    assert golds[0].startswith("1000") and len(golds[0]) == 401


WEIRD: list[Any] = [
    None,
    True,
    -1,
    1.5,
    math.nan,
    10**30,
    "",
    "[1",
    [],
    [None],
    [1, "x"],
    [[]],
    [{}],
    {},
    {"a": 1},
    "\ud800",
]


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a row."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from spots(value[key], (*path, key))


def put(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """The row with something else at a place."""
    if not path:
        return other
    changed = value.copy()
    changed[path[0]] = put(value[path[0]], path[1:], other)
    return changed


@pytest.mark.parametrize("name", [name for name in EXPECTED if "." in name and not name.endswith("csv")])
def test_whatever_stands_in_a_row_is_read_or_is_one_line(tmp_path: Path, name: str) -> None:
    row = next(iter(sources([GOLDEN / name])[0].rows(shapes.is_row))).row
    rng = random.Random(name)
    for path in rng.sample(places := list(spots(row)), min(25, len(places))):
        for other in rng.sample(WEIRD, 4):
            file = write(tmp_path, *[row] * rng.randrange(2), put(row, path, other))
            try:
                paths = [path for problem in read([file]) for path in problem.paths]
            except PathpruneError as error:
                assert str(error).startswith(str(file)) and "\n" not in str(error)
            else:
                assert all({len(array) for array in path.statistics.values()} <= {path.length} for path in paths)


def test_a_file_that_is_cut_short_is_no_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(GOOD * 2000, mtime=0)[:-40])
    with pytest.raises(PathpruneError, match="truncated"):
        list(read([tmp_path / "a.jsonl.gz"], skip_bad=True))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "no file of paths is named"),
        (["missing.jsonl"], "did you mean"),
        (["b\x00d"], "no file of paths"),
        (["empty"], "no file of paths in the folder"),
        (["mixed"], "several kinds"),
        (["hf://owner"], "hf://owner/name"),
        (["misssing.jsonl", "misssing.jsonl"], "named twice"),
    ],
)
def test_names_that_name_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("misssing.jsonl").write_bytes(GOOD)
    Path("empty").mkdir()
    Path("mixed").mkdir()
    Path("mixed/a.csv").write_text("problem,text\n1,4\n")
    Path("mixed/a.jsonl").write_bytes(GOOD)
    with pytest.raises(PathpruneError, match=words):
        read(files)
