"""The paths of one problem, in a terminal and as data; tables at the width of a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import pathprune as pp
from harness import registry, report, vote
from harness.replay.pool import kept_mask
from harness.report.examples import examples
from harness.report.problem import show
from harness.report.rows import Row, rows
from harness.report.screen import Notes, Screen
from harness.report.table import Table
from harness.runners.bench import bench
from harness.runners.run import Run
from harness.text import folded

Make = Callable[..., Run]
Cli = Callable[..., tuple[int, str]]
KEEP = 3


@pytest.fixture
def table(toy_run: Make, tmp_path: Path) -> Table:
    """Methods by score and one with a rule of its own on the toy task, at two prefix lengths; the first of the tables."""
    for prefix in (5, 9):
        names = ("logprob", "jaccard", "deepconf-offline")
        bench(toy_run(prefix=prefix), [registry.pruner(name) for name in names], lambda done, note: None)
    return Table(next(iter(report.groups(toy_run().results))), (), KEEP, tmp_path / "bank")


def printed(what: Any, width: int) -> str:
    console = Console(width=width, markup=False, emoji=False, color_system=None)
    with console.capture() as text:
        console.print(what)
    return text.get()


@pytest.mark.parametrize("name", ["logprob", "jaccard", "deepconf-offline"])
def test_what_is_shown_is_what_the_table_counts(table: Table, name: str) -> None:
    method = next(m for m in table.group.judged if m.name == name)
    own = method.spent is not None
    mask = method.values > 0 if own else kept_mask(method.pool, method.values, KEEP, table.group.prefix)
    for row, problem in enumerate(table.group.pool.problems):
        found = table.show(problem, name)
        frame = found.frame().sort_values("index")
        assert frame[f"{name} kept"].tolist() == mask[row].tolist()
        assert np.allclose(frame[name], method.values[row]) and frame.correct.tolist() == found.correct.tolist()
        kept = frame[frame[f"{name} kept"]]
        weights = kept[name].to_numpy() if own else np.ones(len(kept))
        winner = vote.heaviest(kept.answer.tolist(), weights)
        right, dropped = int(kept.correct.sum()), int((frame.correct & ~frame[f"{name} kept"]).sum())
        assert (
            f"keeps {len(kept)} of 8 paths, {right} of them right; {dropped} of the {8 - len(kept)}"
            in found.summaries()[0]
        )
        verdict = "right" if frame[frame.answer == winner].correct.any() else "wrong"
        assert found.summaries()[0].endswith(f"which is {verdict}.") and f"kept vote {winner} (" in found.summaries()[0]


def test_paths_stand_by_the_first_methods_score_and_may_be_chosen(table: Table) -> None:
    found = table.show(0, "jaccard,logprob")
    scores = found.frame()["jaccard"].tolist()
    assert scores == sorted(scores, reverse=True) and found.frame()["jaccard kept"].tolist() == [True] * 3 + [False] * 5
    chosen = found.only("dropped", "right").frame()
    assert not chosen["jaccard kept"].any() and chosen.correct.all()
    assert len(chosen) == int((found.frame().correct & ~found.frame()["jaccard kept"]).sum())
    with pytest.raises(pp.PathpruneError, match="did you mean kept"):
        found.only("kep")


def test_eighty_columns_hold_it(table: Table) -> None:
    found = table.show(1, "logprob,deepconf-offline")
    text = printed(found, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert all(line in " ".join(text.split()) for line in (found.question, found.everyone(), *found.summaries()))
    assert text.count("right\n") == 0 and text.count(" wrong ") + text.count(" right ") >= 8
    for prefix in found.prefixes:
        assert prefix.split()[0] in text
    json.dumps(found.data(), allow_nan=False)


def test_texts_that_are_nowhere_are_one_line_with_the_command_that_samples_them(
    table: Table, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lost = Table(table.group, (), KEEP, tmp_path / "elsewhere").show(0, "logprob")
    assert not lost.prefixes and len(lost.notes) == 1 and len(lost.frame()) == 8
    command = lost.notes[0].partition("again: ")[2]
    assert run_cli(*command.split()[1:])[0] == 0
    again = Table(table.group, (), KEEP, tmp_path / "elsewhere").show(0, "logprob")
    assert again.prefixes == table.show(0, "logprob").prefixes and again.texts == table.show(0, "logprob").texts


def test_the_verb_and_what_it_refuses(table: Table, tmp_path: Path, run_cli: Cli) -> None:
    places = ("--results", str(tmp_path / "results"), "--bank", str(tmp_path / "bank"), "--keep", "3")
    code, out = run_cli("show", "2", *places, "--pruner", "jaccard", "--which", "kept")
    assert code == 0 and "jaccard keeps 3 of 8" in out and "choose one with only, e.g. prefix=9" in out
    code, out = run_cli("show", "toy-test-00002", *places, "--only", "prefix=9", "--out", str(tmp_path / "one.html"))
    assert code == 0 and "toy-test-00002" in (tmp_path / "one.html").read_text()
    for words, told in (
        (("toy-test-0002",), "did you mean toy-test-00002?"),
        (("6",), "a number from 0 to 5"),
        (("9" * 30,), "a number from 0 to 5"),
        (("0", "--pruner", "jacard"), "did you mean jaccard?"),
        (("0", "--which", "lost"), "unknown kind of path"),
        (("0", "--only", "prefix=7"), "prefix=7"),
        (("L5-logprob.jsonl",), "pathprune record"),
    ):
        code, out = run_cli("show", *words, *places)
        assert code == 2 and told in out.replace("\n", " ") and "Traceback" not in out


def test_from_python(table: Table, tmp_path: Path) -> None:
    found = pp.show(3, "logprob", results=tmp_path / "results", bank=tmp_path / "bank", keep=KEEP, only="prefix=5")
    assert isinstance(found, pp.Shown) and found.frame().equals(table.show(3, "logprob").frame())
    assert "<table" in found._repr_html_() and "logprob keeps 3" in repr(found)
    for wrong in (True, 1.5, None):
        with pytest.raises(pp.PathpruneError, match="an id or a number"):
            pp.show(wrong, results=tmp_path / "results")  # type: ignore[arg-type]


def test_an_imported_pool_shows_its_texts_and_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        {
            "id": f"q{q}",
            "prompt": f"What is {q}?",
            "completion": f"So it is {i % 2 + q} . The answer is \\boxed{{{i % 2 + q}}}",
            "target": str(q),
        }
        for q in range(3)
        for i in range(8)
    ]
    Path("paths.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mapping = {"text": "completion", "gold": "target", "problem": "prompt", "id": "id"}
    pool = pp.import_pool("paths.jsonl", "mine", mapping=mapping, grades="ours", progress=False)
    pp.bench(pool, "jaccard", prefix="3words", progress=False)
    found = pp.show("q1", only="task=mine")
    assert found.question == "What is 1?" and found.keep == 1 and [c.name for c in found.choices] == ["jaccard"]
    assert set(found.prefixes) == {"So it is"} and found.correct.tolist() == [True, False] * 4


def test_examples_are_of_every_kind_that_the_table_has(table: Table, tmp_path: Path) -> None:
    found = examples(table.group, KEEP, table.show)
    assert 1 <= len(found) <= 3 and len({one["problem"] for one in found}) == len(found)
    for one in found:
        first = one["choices"][0]
        if one["why"].startswith("Pruning mends"):
            assert one["everyone"].endswith("wrong.") and first["summary"].endswith("right.")
        if one["why"].startswith("Pruning spoils"):
            assert one["everyone"].endswith("right.") and first["summary"].endswith("wrong.")
    assert examples(table.group, KEEP, Table(table.group, (), KEEP, tmp_path / "none").show) == []


def test_several_cuts_are_refused(table: Table) -> None:
    from dataclasses import replace

    from harness.spec import Stage

    staged = replace(table.group, stages=(Stage(5, 4), Stage(9, 2)))
    with pytest.raises(pp.PathpruneError, match="one cut"):
        show(staged, KEEP, 0, None, lambda name: [])


LONG = "slimsc-online:min_tokens=8,threshold=0.9"


@given(st.text("abc-:,=+/@_ ", max_size=60), st.integers(1, 20))
def test_a_name_is_folded_behind_its_separators(name: str, width: int) -> None:
    lines = folded(name, width)
    assert "".join(lines) == name and all(len(line) <= width for line in lines)
    for line, after in pairwise(lines):
        word = re.split(r"(?<=[-:,=+/@_ ])", line)[-1]
        assert not word or len(word) == width, (line, after)  # within a word only where the word fills the line


def test_a_method_heads_its_column_in_words() -> None:
    assert folded("deepconf-bottom:window=8", 15) == ["deepconf-", "bottom:window=8"]
    assert folded("", 9) == [""] and folded("self-certainty", 15) == ["self-certainty"]


def test_what_is_piped_is_as_wide_as_it_needs(run_cli: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """Each row of a table and each note is one line of a file, and no line is filled with spaces."""
    where = ("--task", "toy", "--engine", "toy", "--model", "toy", "--n", "6", "--keep", "3", "--problems", "4", "--max-tokens", "40", "--prefix", "5")  # fmt: skip
    folders = ("--results", str(tmp_path / "results"), "--bank", str(tmp_path / "bank"))
    code, text = run_cli("bench", *where, *folders, "--pruner", "logprob,deepconf-bottom:window=8")
    assert code == 0, text
    lines = text.splitlines()
    assert "a wider terminal" not in text and max(map(len, lines)) < 3000
    (note,) = [line for line in lines if line.startswith("The row `all`")]
    assert note.rstrip().endswith(
        "one comparison; the median method's paired differences, and those of least and most spread)."
    )
    code, text = run_cli("show", "toy-test-00001", *folders, "--pruner", "logprob,deepconf-bottom:window=8")
    assert code == 0, text
    assert max(map(len, text.splitlines())) < 500 and all(
        len(line) - len(line.rstrip()) < 100 for line in text.splitlines()
    )


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_a_table_takes_a_line_per_row_at_any_width(table: Table, width: int) -> None:
    shown = rows(table.group, KEEP)
    text = printed(Screen(table.group, KEEP, shown), width)
    lines = text.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width and "…" not in text
    for row in shown:
        assert sum(line.startswith(row.name.partition(" = ")[0] + " ") for line in lines) == 1
    head = next(line for line in lines if line.startswith("pruner "))
    assert ("cons@3" in head) == (width >= 80)
    if width != 140:  # what has no room is named
        assert ("also show" in " ".join(text.split())) == (width < 140)


def test_what_is_said_of_several_rows_is_said_once() -> None:
    notes = Notes(64)
    told = ["own rule: 8.3 of 64 paths vote, stale", "stale, 2 errors", "", "2 methods that keep the same paths"]
    marks = [
        notes.mark(Row(name, "control", "x", note=note))
        for name, note in zip(("a", "b", "c", "d = e"), told, strict=True)
    ]
    assert marks == ["8.3 vote a", "a b", "", "c"]
    assert [*notes.explained()][1:] == ["a: stale", "b: 2 errors", "c: d keeps the same paths as e"]


def test_a_long_name_is_broken_between_its_options(table: Table) -> None:
    text = printed(Screen(table.group, KEEP, [Row(LONG, "external-fixed", "x")]), 100)
    assert "slimsc-online:min_tokens=8,\n" in text.replace(" ", "").replace("-\n", "\n") or "threshold=0.9" in text
    assert all(part in text for part in LONG.replace(",", ", ").split(", "))
