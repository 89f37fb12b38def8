"""Benchmarks by name or from a file: what is read, what is asked, what is graded, and what is refused in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry
from harness.api import PathpruneError
from harness.testing import task_conformance
from tests.test_lm_eval import LOCAL

ROWS: list[dict[str, Any]] = [
    {"id": f"p{i}", "problem": f"What is {i} divided by 7?", "answer": rf"\frac{{{i}}}{{7}}"} for i in range(1, 7)
]
CHOICES: list[dict[str, Any]] = [
    {"question": f"Which is number {i}?", "choices": [f"n{(i + j) % 9}" for j in range(4)], "answer": f"n{i}"}
    for i in range(1, 7)
]
GPQA = [
    {
        "Record ID": f"r{i}",
        "Question": f"Question {i}?",
        "Correct Answer": f"right {i}",
        **{f"Incorrect Answer {j}": f"wrong {i}.{j}" for j in (1, 2, 3)},
    }
    for i in range(24)
]
ZEBRA = [
    {"id": f"lgp-test-{n}x{n}-{i}#mc-0", "puzzle": f"{n} houses", "question": "Who?", "choices": ["a", "b"], "answer": "b"}
    for i, n in enumerate((2, 3, 4, 5, 6))
]  # fmt: skip


def jsonl(folder: Path, rows: list[dict[str, Any]], name: str = "own.jsonl") -> str:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.mark.parametrize("rows", [ROWS, CHOICES], ids=["free", "choices"])
def test_a_file_is_a_task(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    label = jsonl(tmp_path, [{**row, "id": f"l{i}", **_other(row)} for i, row in enumerate(rows)], "label.jsonl")
    task = registry.task(f"file:data={jsonl(tmp_path, rows)},label={label}")
    assert [f for f in task_conformance(task) if f[1]] == []
    assert task.name == "own" and len(task.problems()) == len(rows) == task.defaults.problems


def _other(row: dict[str, Any]) -> dict[str, Any]:
    return {k: f"Again: {row[k]}" for k in ("problem", "question") if k in row}


def test_every_format_holds_the_same_problems(tmp_path: Path) -> None:
    """A version is of the content: the same in any format and place, another when one answer changes."""
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "b.json").write_text(json.dumps({"license": "MIT", "data": ROWS}))
    (tmp_path / "c.jsonl").write_text("\ufeff" + "\r\n\n".join(map(json.dumps, ROWS)))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    tasks = [registry.task(f"aime24:data={tmp_path / name}") for name in ("a.json", "b.json", "c.jsonl", "d.parquet")]
    assert all(t.problems() == tasks[0].problems() and t.version == tasks[0].version for t in tasks)
    changed = registry.task(f"aime24:data={jsonl(tmp_path, [*ROWS[:-1], {**ROWS[-1], 'answer': '7'}])}")
    assert changed.version != tasks[0].version


def test_names_of_common_dumps_are_understood(tmp_path: Path) -> None:
    dumps = [
        {"unique_id": "a", "Problem": "1+1?", "Answer": 2},
        {"problem_idx": 7, "question": "1+1?", "final_answer": "$2$"},
        {"prompt": "1+1?", "solution": r"Adding, \boxed{2}."},
        {"question": "1+1?", "answer": "One and one.\n#### 2"},
        {"question": "1+1?", "answer": 2.0},
        {"question": "1+1?", "answer": ["2"]},
        {"question": "1+1?", "answers": {"text": ["2", "2"], "answer_start": [3, 3]}},
        {"input": "1+1?", "target": "2"},
        {"instruction": "Add.", "input": "1+1?", "target": 2},
        {"question_stem": "1+1?", "label": 2},
        {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": r"\boxed{2}"}]},
        {
            "prompt": [
                {"role": "system", "content": "Add."},
                {"role": "user", "content": [{"type": "text", "text": "1+1?"}]},
            ],
            "answer": 2,
        },
        {"conversations": [{"from": "human", "value": "1+1?"}], "correct_answer": "2"},
    ]
    for row in dumps:
        task = registry.task(jsonl(tmp_path, [row]))
        (problem,) = task.problems()
        assert "1+1?" in problem.prompt and "boxed{2}" not in problem.prompt
        assert task.correct(task.answer(r"Surely \boxed{2}"), problem), row
        assert not task.correct(task.answer(r"Surely \boxed{3}"), problem), row


@pytest.mark.parametrize("field", ["body", "Body", "passage", "context", "article"])
def test_what_a_question_is_about_stands_before_it(tmp_path: Path, field: str) -> None:
    (problem,) = registry.task(
        jsonl(tmp_path, [{field: "Ann has 2 pens.", "question": "How many?", "answer": 2}])
    ).problems()
    assert problem.prompt.startswith("Ann has 2 pens.\n\nHow many?\n\n")
    whole = {field: "Ann has 2 pens.", "question": "Ann has 2 pens. How many?", "answer": 2}
    assert registry.task(jsonl(tmp_path, [whole], "whole.jsonl")).problems()[0].prompt.count("Ann") == 1


@pytest.mark.parametrize(
    "row",
    [
        {"choices": {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "answerKey": "2"},
        {"choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"},
        {"choices": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}], "answerKey": "B"},
        {"options": {"A": "x", "B": "y"}, "correct": "B"},
        {"endings": ["x", "y"], "label": 1},
        {"choices": ["x", "y"], "correct": "y"},
        {"choices": ["x", "y"], "target": ["B"]},
        {"A": "x", "B": "y", "answer": "B"},
    ],
)
def test_the_right_option_is_found_however_it_is_named(tmp_path: Path, row: dict[str, Any]) -> None:
    task = registry.task(jsonl(tmp_path, [{"question": "Which?", **row}]))
    assert [p.answer for p in task.problems()] == ["B"] and "B. y" in task.problems()[0].prompt


def test_json_lines_are_read_whatever_the_file_is_called(tmp_path: Path) -> None:
    for count in (1, 6):
        lines, named = (
            jsonl(tmp_path, ROWS[:count], f"own-{count}.jsonl"),
            jsonl(tmp_path, ROWS[:count], f"own-{count}.json"),
        )
        assert registry.task(named).problems() == registry.task(lines).problems()


def test_own_gold_is_right_and_the_neighbours_wrong(tmp_path: Path) -> None:
    task = registry.task(jsonl(tmp_path, ROWS))
    problems = task.problems()
    for problem in problems:
        said = task.answer(f"</think> The answer is ${problem.answer}$.")
        assert [task.correct(said, other) for other in problems] == [other is problem for other in problems]


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_shuffle_moves_options_and_the_letter_with_them(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    data = jsonl(tmp_path_factory.mktemp("gpqa"), GPQA)
    one, again = (registry.task(f"gpqa_diamond:data={data},shuffle={seed}") for _ in range(2))
    assert one.problems() == again.problems()
    for i, problem in enumerate(one.problems()):
        lines = [line for line in problem.prompt.splitlines() if line[1:2] == "."]
        assert sorted(line[3:] for line in lines) == sorted([f"right {i}", *(f"wrong {i}.{j}" for j in (1, 2, 3))])
        assert f"{problem.answer}. right {i}" in lines
        assert one.correct(one.answer(f'"ANSWER": "{problem.answer}"'), problem)


def test_gpqa_is_shuffled_unless_told_otherwise(tmp_path: Path) -> None:
    data = jsonl(tmp_path, GPQA)
    shuffled, published = (
        registry.task(f"gpqa_diamond:data={data}"),
        registry.task(f"gpqa_diamond:data={data},shuffle=none"),
    )
    assert {p.answer for p in shuffled.problems()} == set("ABCD") and {p.answer for p in published.problems()} == {"A"}
    assert shuffled.version != published.version


def test_zebra_puzzles_are_asked_whole_and_by_size(tmp_path: Path) -> None:
    data = jsonl(tmp_path, ZEBRA)
    assert len(registry.task(f"zebralogic:data={data}").problems()) == 5
    small = registry.task(f"zebralogic:data={data},largest=4").problems()
    assert [p.prompt.split("\n\n")[0] for p in small] == ["2 houses", "3 houses", "4 houses"]
    with pytest.raises(PathpruneError, match="no puzzle of at most 1"):
        registry.task(f"zebralogic:data={data},largest=1")


LONG = {"problem": "x" * 10_000_000, "answer": "1"}
REFUSED = {
    "empty file": ("", "has no problems"),
    "no problem": ('{"id": 1, "answer": "2"}', "line 1: no field 'problem'; it has 'id', 'answer'"),
    "no answer": ('{"problem": "a", "answer": "1"}\n{"problem": "b"}', "line 2: no field 'answer'; it has 'problem'"),
    "NaN": ('{"problem": "a", "answer": NaN}', "line 1: answer is nan"),
    "null": ('{"problem": null, "answer": "1"}', "line 1: problem is None"),
    "blank": ('{"problem": "a", "answer": "  "}', "line 1: answer is ' +'"),
    "list as gold": ('{"problem": "a", "answer": ["1", "2"]}', "line 1: answer is .'1', '2'., not one text"),
    "long chat": (
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}',
        "line 1: messages is a chat with 1 replies, not one question",
    ),
    "no chat": ('{"prompt": ["a"], "answer": "1"}', "line 1: prompt is .'a'., not a text or a list of turns"),
    "no role": ('{"prompt": [{"role": "tool", "content": "a"}], "answer": "1"}', "line 1: prompt has a turn"),
    "unread gold": (r'{"problem": "a", "answer": "\\frac{1}{2"}', "line 1: answer .* does not parse"),
    "unboxed solution": ('{"problem": "a", "solution": "so it is"}', r"line 1: solution has neither \\boxed"),
    "repeated id": ('{"id": 7, "problem": "a", "answer": 1}\n' * 2, "line 2: id '7' is also that of line 1"),
    "no JSON": ('{"problem": "a", "answer": "1"}\n{"problem": ', "line 2 is not JSON"),
    "no object": ("[1]", "line 1: not an object"),
    "10 MB": (json.dumps(LONG), "line 1: the problem has 10,000,000 characters, more than 1,000,000"),
    "no such option": (
        '{"problem": "a", "choices": ["x", "y"], "answer": "C"}',
        "line 1: the answer 'C' is none of the 2",
    ),
    "one option": (
        '{"problem": "a", "choices": ["x"], "answer": "A"}',
        "line 1: choices is not a list of 2 to 26 texts",
    ),
    "a problem twice": (
        '{"problem": "2 + 2?", "answer": "4"}\n{"problem": "x", "answer": "1"}\n{"problem": " 2  +\\n2?", "answer": "5", "id": "b"}',
        "line 3: the problem is also that of line 1",
    ),
    "a choice twice": (
        '{"problem": "a", "choices": ["x", "y"], "answer": "A"}\n{"problem": "a", "choices": ["y", "x"], "answer": "A"}',
        "line 2: the problem is also that of line 1",
    ),
    "two kinds": (
        '{"problem": "a", "answer": "1"}\n{"problem": "b", "choices": ["x", "y"], "answer": "A"}',
        "some problems have options and some do not",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_files_are_refused_by_row(tmp_path: Path, case: str) -> None:
    text, message = REFUSED[case]
    file = tmp_path / "own.jsonl"
    file.write_text(text)
    with pytest.raises(PathpruneError, match=message) as raised:
        registry.task(str(file))
    assert "\n" not in str(raised.value) and "own.jsonl" in str(raised.value) and len(str(raised.value)) < 500


def test_one_question_with_other_options_or_another_story_is_another_problem(tmp_path: Path) -> None:
    row = {"problem": "Which?", "choices": ["x", "y"], "answer": "A"}
    assert len(registry.task(jsonl(tmp_path, [row, {**row, "choices": ["x", "z"]}])).problems()) == 2
    told = [{"problem": "How many?", "answer": 2, "context": about} for about in ("Ann has 2.", "Bo has 2.")]
    assert len(registry.task(jsonl(tmp_path, told)).problems()) == 2


@pytest.mark.parametrize("kind", ["file", "aime24"])
def test_nobody_trains_on_test_problems(kind: str, tmp_path: Path) -> None:
    label = jsonl(tmp_path, [{**ROWS[-1], "id": "other"}], "label.jsonl")
    task = registry.task(f"{kind}:data={jsonl(tmp_path, ROWS)},label={label}")
    with pytest.raises(
        PathpruneError, match=rf"label.jsonl, line 1: the problem is a test problem, .*own.jsonl, line {len(ROWS)};"
    ):
        task.problems("label")


def test_a_published_dump_is_taken_as_it_is(tmp_path: Path) -> None:
    twice = [{**ROWS[0], "id": name} for name in "ab"]
    assert len(registry.task(f"aime24:data={jsonl(tmp_path, twice)}").problems()) == 2


@pytest.mark.parametrize("name", ["own.json", "own.parquet"])
def test_other_bytes_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00PAR")
    with pytest.raises(PathpruneError, match=f"{name} is not"):
        registry.task(str(tmp_path / name))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("aime2024", "did you mean aime24"),
        ("aime24:dato=x.json", "data"),
        ("gpqa_diamond:data=x.json,shuffle=yes", "shuffle is a seed"),
        ("nowhere.jsonl", "no file of problems at nowhere.jsonl"),
        ("file:data=problems.txt", "problems.txt"),
    ],
)
def test_bad_specs_are_refused(spec: str, message: str) -> None:
    with pytest.raises(PathpruneError, match=message) as raised:
        registry.task(spec)
    assert "\n" not in str(raised.value)


def test_a_split_without_a_file_says_how_to_name_one(tmp_path: Path) -> None:
    task = registry.task(f"aime24:data={jsonl(tmp_path, ROWS)}")
    with pytest.raises(PathpruneError, match=r"aime24 has no label problems; name a file of them: .*label=FILE"):
        task.problems("label")
    with pytest.raises(PathpruneError, match="split 'tset' is not one of"):
        task.problems("tset")


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path), "COLUMNS": "400"}
    command = [str(Path(sys.executable).parent / "pathprune"), "bench", "--task", "hmmt25", "--results", str(tmp_path)]
    ran = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, timeout=300)
    assert ran.returncode != 0 and "Traceback" not in ran.stderr
    (line,) = ran.stderr.strip().splitlines()
    assert "MathArena/hmmt_feb_2025 cannot be loaded from the hub" in line and "data=FILE" in line


@pytest.mark.parametrize("kind", ["aime24", "jsonl", "reasoning_gym", "lm_eval"])
def test_a_bench_on_each_kind_of_task(kind: str, tiny_model: str, tmp_path: Path, run_cli: Any) -> None:
    """The whole way with a folder of transformers; again, it replays what the record holds."""
    data = jsonl(tmp_path, [{**row, "prompt": row["problem"]} for row in ROWS])
    yaml = LOCAL | {
        "dataset_kwargs": {"data_files": {"test": data, "train": data}, "cache_dir": str(tmp_path / "cache")}
    }
    (tmp_path / "local.yaml").write_text(json.dumps(yaml))
    spec = {
        "aime24": f"aime24:data={data}",
        "jsonl": data,
        "reasoning_gym": "reasoning_gym:chain_sum,max_terms=2",
        "lm_eval": f"lm_eval:{LOCAL['task']},include={tmp_path},trust=true",
    }[kind]
    command = ["bench", "--task", spec, "--model", tiny_model, "--problems", "3", "--n", "4", "--keep", "2"]
    command += ["--max-tokens", "24", "--prefix", "8", "--results", str(tmp_path / "r"), "--bank", str(tmp_path / "b")]
    code, out = run_cli(*command, "--pruner", "jaccard,logprob")
    assert code == 0 and "jaccard" in out and "logprob" in out, out
    (pool,) = (tmp_path / "r").rglob("pool.jsonl")
    record = pool.read_text()
    assert record.count('"stopped"') == 3 and '"dirty"' in record + "".join(
        p.read_text() for p in pool.parent.glob("*.json*")
    )
    code, out = run_cli(*command, "--pruner", "entropy")
    assert code == 0 and "0 tokens generated" in out and pool.read_text() == record, out
