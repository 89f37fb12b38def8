"""What is read is held to what is written: a changed record, bank or label file is named, and never drawn as if it were right."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness import registry, report
from harness.api import PathpruneError, Problem
from harness.learn import label_parts
from harness.learn.labels import FORMAT, SCHEMA, LabelCost, LabelRecipe
from harness.pools.bank import PROBLEM, Bank
from harness.public import named
from harness.report import latex, overhead
from harness.report.rows import rows
from harness.report.screen import Screen
from harness.report.sheet import defused, sheet
from harness.report.tables import markdown, plain
from harness.runners.bench import bench
from harness.runners.live import run_live
from harness.runners.run import Run
from harness.spec import RunSpec, parse_stages
from harness.store import packed, provenance, records
from harness.store.names import file_name, is_file_name
from harness.store.packed import Packed
from harness.store.records import pack
from harness.text import one_line, private

FIXTURES = Path(__file__).parent / "fixtures" / "records"
POOL, SCORES, RULE, LIVE = (
    "pool.jsonl",
    "L22-stop-9555c1e7.jsonl",
    "own-rule-slimsc-online-5aa3c541.jsonl",
    "live/L22-stop-0f6a3eee.jsonl",
)
NAN = math.nan
Lines = list[Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pool's folder, to be spoiled: 4 problems, 64 paths each, of at most 300 tokens."""
    shutil.copytree(FIXTURES, tmp_path / "r")
    return tmp_path / "r" / "hands-v1" / "hands-ab5e39d2a68e"


def lines_of(file: Path) -> Lines:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file: Path, lines: Lines) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def drawn(folder: Path) -> list[str]:
    """All numbers of all tables of a results folder, as text."""
    shown = [markdown(group, 8, rows(group, 8)) for group in report.groups(folder.parents[1])]
    return [*shown, str(overhead.stored(folder))]


def spoil(holder: Any, path: str, value: Any) -> None:
    """Put a value at ``a.b.0`` of nested objects and lists; ``...`` takes away what is there."""
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in way:
        holder = holder[step]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value


HEADERS: list[tuple[str, str, list[Any]]] = [
    (POOL, "spec.task", ["../../away", "a/b", "", 5, None, "a\nb", "\u202ex", ...]), (POOL, "spec.task_version", ["../1", 1, ...]),
    (POOL, "spec.n", [0, 63, 65, -1, 64.0, "64", None, ...]), (POOL, "spec.max_tokens", [1, 10.5, None, ...]), (POOL, "spec.seed", ["0", 0.5, ...]),
    (POOL, "spec.engine", ["hf", None, ...]), (POOL, "spec.engine.model", ["../m", 5, ...]), (POOL, "spec.engine.fingerprint", [5, "", ...]),
    (POOL, "spec.engine.sampling", [5, "hot"]), (POOL, "spec.engine.dtype", [5, [], "a\nb"]), (POOL, "spec", [5, None, [], ...]),
    (POOL, "flops", [{}, None, 5, {"per_token": -1, "attention": 1}, {"per_token": NAN, "attention": 1}, {"per_token": "x", "attention": 1}, ...]),
    (SCORES, "quadrant", ["nonsense", 5, [], ...]), (SCORES, "fidelity", [5, None, "a\nb", ...]), (SCORES, "vote", ["brda", 5, []]),
    (SCORES, "role", ["king", 5, [], "own-rule"]), (SCORES, "label_tokens", [-1, 1.5, "9", True, 10**400]), (SCORES, "pointwise", [1, "yes"]),
    (SCORES, "source", [5, ...]), (SCORES, "spec.prefix", [0, -22, 22.5, "22", 300, None, ...]), (SCORES, "spec.pruner", [5, "", "a\nb", "\u202ex"]),
    (SCORES, "spec.code", [5, None, ...]), (SCORES, "spec.n", [32, 128, "64", ...]), (SCORES, "spec.seed", [1]), (SCORES, "spec.max_tokens", [512]),
    (SCORES, "was", [5, []]), (RULE, "spec.prefix", [22]), (RULE, "role", ["method"]), (LIVE, "device", [5, {}, {"device": 5}, ...]),
    (SCORES, "spec.stages", ["x", [[22, 8]]]), (LIVE, "spec.stages", ["x", [], 5, [5], [[22]], [["x", 8]]]), (LIVE, "spec.keep", ["x", 0, ...]), (LIVE, "spec.live", [1, "x"]),
]  # fmt: skip
FIELDS: list[tuple[str, str, list[Any]]] = [
    *((POOL, name, [None, 5, "x", [], ...]) for name in ("answers", "correct", "lengths", "stopped")),
    (POOL, "answers.0", [5, [], 1.5]), (POOL, "correct.0", [5, -1, 2, 0.5, None, "1", NAN]), (POOL, "stopped.0", [2, -1, None, 0.5]),
    (POOL, "lengths.0", [-1, 301, 10**30, 89.5, "89", None, NAN]), (POOL, "prompt", [-1, 4.5, "x", None, NAN, ...]),
    (POOL, "paths", ["another pool", 5, None, "", "02039AC9EAEE", ...]), (POOL, "problem", [5, None, "", ...]),
    (SCORES, "scores", [None, 5, "x", [], [0.5], ...]), (SCORES, "scores.0", [NAN, math.inf, -math.inf, 1e300, "x", None, True, [], 10**400]),
    (SCORES, "cost", [5, None, [], {}, ...]), (SCORES, "cost.generated", [10**400, 2**53, -1, 1.5, "x", None, NAN, ...]), (SCORES, "cost.flops", [1.7e308, -1, NAN, math.inf, "x", ...]),
    (SCORES, "cost.new", [5]), (SCORES, "each", [5, {"probed": -1}, {"probed": 10**9}, {"new": 1}, {"probed": [1]}, {"flops": NAN}]),
    (SCORES, "error", [5, None, []]), (SCORES, "problem", [5, None, "", ...]),
    (RULE, "weights", [[], 5, ...]), (RULE, "weights.0", [-1.0, NAN, math.inf, "x", None]),
    (RULE, "spent", [[], 5, ...]), (RULE, "spent.0", [-1, 1.5, 300, 10**30, "x", None, NAN]), (RULE, "cost.verifier", [-5]),
    (LIVE, "kept", [[0, 0], [64], [-1], [1, 0], [0.5], 5, ...]), (LIVE, "answers", [[], 5, ["x"] * 64, ...]), (LIVE, "voted", [5, [], ...]),
    (LIVE, "correct", [2, -1, 0.5, "x", ...]), (LIVE, "right", [-1, 65, 0.5, ...]), (LIVE, "cost", [{}, 5, ...]), (LIVE, "earlier", [[[64]], [5], 5, None, "x"]),
    (LIVE, "seconds", [{}, 5, {"launch": 1, "check": 1}, {"launch": NAN, "check": 1, "resume": 1}, {"launch": -1, "check": 1, "resume": 1}, ...]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "value", "number"),
    [(n, p, v, 0) for n, p, vs in HEADERS for v in vs] + [(n, p, v, 1) for n, p, vs in FIELDS for v in vs],
    ids=str,
)
@pytest.mark.parametrize("sealed", [False, True], ids=["journal", "snapshot"])
def test_a_field_that_is_not_what_benches_write_is_refused(
    name: str, path: str, value: Any, number: int, sealed: bool, folder: Path
) -> None:
    lines = lines_of(folder / name)
    spoil(lines[number], path, value)
    if sealed:  # by somebody who knows how: the checksum is right
        if not isinstance(lines[number].get("problem" if number else "spec"), str if number else dict):
            pytest.skip("a snapshot is read by its records' specs")
        snapshot, known = records.snapshot_of(folder / name)
        packed.write(snapshot, [Packed(known, lines[0], lines[1:])])
        (folder / name).unlink()
    else:
        write(folder / name, lines)
    with pytest.raises(PathpruneError) as refused:
        drawn(folder)
    said = str(refused.value)
    assert "\n" not in said and (snapshot.name if sealed else Path(name).name) in said
    assert "delete" not in said


def test_what_benches_write_is_read(folder: Path) -> None:
    before = drawn(folder)
    pack(folder)
    assert drawn(folder) == before


def test_a_damaged_line_says_what_is_lost_and_which_command_makes_it_again(folder: Path) -> None:
    file = folder / SCORES
    text = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*text[:2], "{nonsense}\n", *text[3:]]))
    with pytest.raises(
        PathpruneError, match=r"damaged at line 3.*its other 4 lines are good; move it away.*scored again.*stop"
    ):
        drawn(folder)
    file.write_text("[" * 100_000 + "\n")
    with pytest.raises(PathpruneError, match="damaged at line 1"):
        drawn(folder)


def test_two_results_for_one_problem_are_refused_and_equal_ones_are_one(folder: Path) -> None:
    lines, before = lines_of(folder / SCORES), drawn(folder)
    write(folder / SCORES, [*lines, lines[1]])
    assert drawn(folder) == before
    write(folder / SCORES, [*lines, lines[1] | {"scores": lines[2]["scores"]}])
    with pytest.raises(PathpruneError, match="two different results"):
        drawn(folder)


@pytest.mark.parametrize(
    ("stated", "says"),
    [("pathprune-record/2", "newer pathprune.*upgrade"), ("other/9", "is not a pathprune-record/1 file; move it out")],
)
def test_a_newer_format_is_no_damage(stated: str, says: str, folder: Path) -> None:
    header, *rest = lines_of(folder / SCORES)
    write(folder / SCORES, [header | {"format": stated}, *rest])
    with pytest.raises(PathpruneError, match=says):
        drawn(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_an_unreadable_file_is_no_damage(folder: Path) -> None:
    (folder / SCORES).chmod(0)
    with pytest.raises(PathpruneError, match=r"cannot read .*not changed"):
        drawn(folder)


def test_no_record_leads_out_of_its_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.move(folder / SCORES, tmp_path / "outside.jsonl")
    (folder / SCORES).symlink_to(tmp_path / "outside.jsonl")
    with pytest.raises(PathpruneError, match="is a link out of its folder"):
        drawn(folder)
    (folder / SCORES).unlink()
    lines = lines_of(tmp_path / "outside.jsonl")
    agree = packed._agree
    for name in ("../outside.jsonl", "live/../../x.jsonl", "/etc/passwd", "..", "a/b.jsonl", "", "live/"):
        with monkeypatch.context() as patched:  # our own writer refuses such a name
            patched.setattr(packed, "_agree", lambda *_: None)
            packed.write(folder / "L22.parquet", [Packed(name, lines[0], lines[1:])])
        assert packed._agree is agree
        with pytest.raises(PathpruneError, match="names a record"):
            drawn(folder)


JSONS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 400),
    st.floats(),
    st.sampled_from([10**30, "", "x", "../x", "\u202e", [], {}, [[]], {"a": []}]),
)


@st.composite
def mutations(draw: Any) -> tuple[str, int, list[Any], Any]:
    """(record, line, where, what): any node of any line takes any value, or goes."""
    name = draw(st.sampled_from([POOL, SCORES, RULE, LIVE]))
    lines = lines_of(FIXTURES / "hands-v1" / "hands-ab5e39d2a68e" / name)
    number = draw(st.integers(0, len(lines) - 1))
    node, way = lines[number], []
    while isinstance(node, dict | list) and node and (not way or draw(st.booleans())):
        way.append(draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node)))))
        node = node[way[-1]]
    return name, number, way, draw(st.one_of(st.just(...), JSONS))


# Where another value is as good as the one that is there: no reader could tell, and some change what is drawn.
FREE = {
    "scores",
    "weights",
    "spent",
    "answers",
    "correct",
    "lengths",
    "stopped",
    "prompt",
    "paths",
    "cost",
    "kept",
    "right",
    "voted",
    "seconds",
    "problem",
    "error",
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=mutations())
@example(change=(POOL, 0, ["flops", "attention"], 10**30))
@example(change=(SCORES, 1, ["cost", "flops"], 10**30))
@example(change=(SCORES, 1, ["cost", "flops"], 10**99))
@example(change=(LIVE, 0, ["spec", "pruner"], None))
def test_any_change_of_a_record_gives_a_table_or_one_line(
    change: tuple[str, int, list[Any], Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name, number, way, value = change
    root = tmp_path_factory.mktemp("fuzz") / "r"
    shutil.copytree(FIXTURES, root)
    folder = root / "hands-v1" / "hands-ab5e39d2a68e"
    lines = lines_of(folder / name)
    holder = lines[number]
    for step in way[:-1]:
        holder = holder[step]
    before, gone = holder[way[-1]], value is ...
    if gone:
        del holder[way[-1]]
    else:
        holder[way[-1]] = value
    write(folder / name, lines)
    try:
        shown = drawn(folder)
    except PathpruneError as error:
        assert "\n" not in str(error)
        return
    assert all("nan" not in text and "inf" not in text for text in shown)
    if number and not gone and not (type(value) is type(before) or isinstance(value, float | int | None)):
        assert way[0] not in FREE - {"answers", "voted"} or shown == drawn(FIXTURES / "hands-v1" / "hands-ab5e39d2a68e")


INTEGERS = st.one_of(st.integers(-5, 70), st.just(10**30), st.floats(), st.none(), st.text(max_size=3), st.booleans())


@settings(max_examples=300, deadline=None)
@given(
    n=INTEGERS, limit=INTEGERS, seed=INTEGERS, ended=st.one_of(st.just("count"), st.text(max_size=3)),
    vote=st.one_of(st.just("majority"), st.text(max_size=3)), task=st.one_of(st.just("toy"), st.text(max_size=5)),
    stages=st.one_of(st.lists(st.tuples(INTEGERS, INTEGERS), max_size=3), st.just([(5, 2)]), st.integers()),
)  # fmt: skip
def test_any_arguments_of_a_run_are_a_run_or_one_line(stages: Any, task: str, **rest: Any) -> None:
    engine = {"engine": "toy", "model": "toy", "fingerprint": "0"}
    try:
        spec = RunSpec(task, "1", engine, stages=stages, **rest)
    except PathpruneError as error:
        assert str(error)
        return
    assert 1 <= spec.keep <= spec.n and spec.folder(Path("/r")).parent.parent == Path("/r")


SPECS = st.one_of(
    st.text(max_size=12),
    st.lists(
        st.sampled_from(
            ["toy", "first", ":", "=", ",", "@", "skill", "nan", "1", "٣", "-1", "/", "..", ".py", " ", "true", "1e999"]
        ),
        max_size=8,
    ).map("".join),
)


@settings(max_examples=300, deadline=None)
@given(text=SPECS)
def test_any_spec_is_an_object_or_one_line(text: str) -> None:
    for read in (registry.options_of, registry.pruner, registry.task, parse_stages, report.terms_of):
        try:
            read(text)
        except PathpruneError as error:
            assert str(error)


# A bank


@pytest.fixture
def banked(toy_run: Callable[..., Run]) -> tuple[Bank, Problem, Path]:
    run = toy_run(problems=1)
    bench(run, [registry.pruner("first")], lambda *_: None)
    bank, (problem,) = run.opened_bank(), run.chosen()
    assert len(bank.get(problem, 0)) == 8
    return bank, problem, bank.file(problem)


def with_column(table: pa.Table, name: str, values: Any, kind: Any = None) -> pa.Table:
    at = table.column_names.index(name)
    return table.set_column(at, name, pa.array(values, kind or table.schema.field(name).type))


def edited(name: str, change: Callable[[list[Any]], list[Any]], kind: Any = None) -> Callable[[pa.Table], pa.Table]:
    return lambda table: with_column(table, name, change(table[name].to_pylist()), kind)


SPOILED: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    **{f"no {name}": (lambda t, name=name: t.drop_columns([name]), f"no column {name}") for name in ("index", "tokens", "text", "finish", "logprob")},
    "a column of numbers for texts": (edited("text", lambda v: [1] * len(v), pa.int32()), "column text is of type"),
    "tokens as texts": (edited("tokens", lambda v: [["x"]] * len(v), pa.list_(pa.string())), "column tokens is of type"),
    "a gap": (edited("text", lambda v: [None, *v[1:]]), "column text has gaps"),
    "a token below zero": (edited("tokens", lambda v: [[-1, *v[0][1:]], *v[1:]]), "a token"),
    "no token": (edited("tokens", lambda v: [[None, *v[0][1:]], *v[1:]]), "a token"),
    "more tokens than the limit": (edited("tokens", lambda v: [[1] * 49, *v[1:]]), "more than the limit of 48"),
    "a finish of another word": (edited("finish", lambda v: ["done", *v[1:]]), "'done'"),
    "an index twice": (edited("index", lambda v: [0, 0, *v[2:]]), "numbered"),
    "an index left out": (lambda t: t.slice(1), "numbered"),
    "statistics of another length": (edited("logprob", lambda v: [v[0][:-1], *v[1:]]), "logprob"),
    "a statistic with a gap": (edited("logprob", lambda v: [[None, *v[0][1:]], *v[1:]]), "logprob"),
    "another problem": (lambda t: t.replace_schema_metadata({PROBLEM: b"toy-test-99999"}), "holds the paths of toy-test-99999"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILED)
def test_a_bank_file_that_is_not_what_banks_write_is_refused(what: str, banked: tuple[Bank, Problem, Path]) -> None:
    bank, problem, file = banked
    change, says = SPOILED[what]
    pq.write_table(change(pq.read_table(file)), file)
    with pytest.raises(PathpruneError, match=says) as refused:
        bank.get(problem, 0)
    assert str(file) in str(refused.value) and "samples the paths of this problem again" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense PAR1"])
def test_a_bank_file_that_is_none_is_refused(content: bytes, banked: tuple[Bank, Problem, Path]) -> None:
    bank, problem, file = banked
    file.write_bytes(content)
    with pytest.raises(PathpruneError, match="is damaged"):
        bank.get(problem, 0)


@pytest.mark.parametrize(
    "name", ["../../../away", "a/b", "/etc/passwd", "..", ".", "", "~x", "a\nb", "a\0b", "x" * 300, "\ud800", "\u202ex"]
)
def test_no_problem_is_banked_outside_the_bank(name: str, banked: tuple[Bank, Problem, Path], tmp_path: Path) -> None:
    bank, problem, _ = banked
    paths = bank.get(problem, 0)
    away = Problem(name, "", "")
    assert bank.file(away).resolve().parent == bank.folder.resolve()
    bank.put(away, paths)
    assert [p.tokens for p in bank.get(away, 0)] == [p.tokens for p in paths]
    assert len(list(bank.folder.iterdir())) == 2


def test_a_linked_bank_file_is_not_followed_out(banked: tuple[Bank, Problem, Path], tmp_path: Path) -> None:
    bank, problem, file = banked
    shutil.move(file, tmp_path / "outside.parquet")
    file.symlink_to(tmp_path / "outside.parquet")
    with pytest.raises(PathpruneError, match="is a link out of its folder"):
        bank.get(problem, 0)


@settings(max_examples=200)
@given(st.text(max_size=30), st.text(max_size=30))
def test_names_of_files_stay_apart(one: str, other: str) -> None:
    assert is_file_name(file_name(one))
    assert (file_name(one) == file_name(other)) == (one == other)


# Labels

RECIPE = LabelRecipe(problems=2, n=2, continuations=4, per_problem=2, prefixes=(3,), max_tokens=9)


def labels(**changed: Any) -> list[dict[str, Any]]:
    """The labels of two paths, the first of which is changed."""
    made = []
    for index in (0, 1):
        about = {"problem": "p", "index": index, "validation": False}
        made.append(about | {"kind": "outcome", "tokens": [1] * 8, "success": 1.0, "continuations": 1})
        made.append(about | {"kind": "monte-carlo", "tokens": [1] * 3, "success": 0.75, "continuations": 4})
    return [made[0], made[1] | changed, *made[2:]]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"success": NAN}, "success rate must be from 0 to 1"), ({"success": -0.25}, "success rate must be from 0 to 1"), ({"success": 1.25}, "success rate must be from 0 to 1"), ({"success": 0.6}, "number of right continuations divided"),
        ({"continuations": 5}, "continuations"), ({"continuations": -1}, "continuations"), ({"index": 2}, "index"), ({"index": -1}, "index"),
        ({"tokens": [1, -2, 3]}, "token"), ({"tokens": [1, 2]}, "prefixes of 2 tokens"), ({"kind": "guess"}, "kind"), ({"problem": "q"}, "not one of the problems"),
        ({"index": 1}, "twice"), ({"success": None}, "gaps"), ({"kind": "outcome", "continuations": 1, "success": 1.0}, "twice"),
    ],
)  # fmt: skip
def test_labels_that_are_none_are_refused(changed: dict[str, Any], says: str, tmp_path: Path) -> None:
    part = tmp_path / "problems-000000-000001.parquet"
    pq.write_table(pa.Table.from_pylist(labels(), SCHEMA), part)
    assert len(label_parts.rows(part, SCHEMA, ["p"], RECIPE, FORMAT)) == 4
    pq.write_table(pa.Table.from_pylist(labels(**changed), SCHEMA), part)
    with pytest.raises(PathpruneError, match=f"{part.name} is damaged.*{says}"):
        label_parts.rows(part, SCHEMA, ["p"], RECIPE, FORMAT)


def test_labels_that_cover_a_problem_twice_are_refused() -> None:
    parts = [(0, 64, Path("a")), (64, 128, Path("b")), (100, 200, Path("c"))]
    label_parts.apart(parts[:2])
    with pytest.raises(PathpruneError, match="b and c both have labels of problem 100"):
        label_parts.apart(parts)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"format": '"pathprune-labels/2"'}, "upgrade"), ({"cost": "nonsense"}, "not JSON"), ({"cost": "[]"}, "its cost"), ({"cost": '{"kept": -1}'}, "its cost"),
        ({"cost": '{"kept": 1.5}'}, "its cost"), ({"cost": '{"new": 1}'}, "its cost"), ({"cost": '{"launched_seconds": NaN}'}, "its cost"), ({}, "does not state its cost"),
    ],
)  # fmt: skip
def test_what_labels_say_of_themselves_is_checked(about: dict[str, str], says: str, tmp_path: Path) -> None:
    part = tmp_path / "problems-000000-000001.parquet"
    table = pa.Table.from_pylist(labels(), SCHEMA).replace_schema_metadata(
        {f"pathprune.{k}": v for k, v in about.items()}
    )
    pq.write_table(table, part)
    with pytest.raises(PathpruneError, match=says):
        label_parts.cost_of(part, LabelCost, FORMAT)


# Names in what is written

HOSTILE = "=[x](http://e.org)<b>|`$\\frac`$ www.e.org\u202e\u2028\n</script>"


def test_hostile_names_stay_text_in_every_form(folder: Path) -> None:
    (group, *_) = report.groups(folder.parents[1])
    group = replace(group, judged=[replace(m, name=HOSTILE, fidelity=HOSTILE) for m in group.judged])
    table = rows(group, 8)
    text = markdown(group, 8, table)
    lines = [line for line in text.split("\n") if "e\\.org" in line or "e.org" in line]
    assert len(lines) == len([m for m in group.judged if m.role != "closed-form"]) and all(
        line.startswith("| ") and line.endswith(" |") for line in lines
    )
    for line in lines:
        name = re.split(r"(?<!\\)\|", line)[1]
        assert name.isprintable() and not re.search(r"(?<!\\)[\[\]<`*]", name), name
        assert "http://" not in name and "www.e" not in name
    assert r"\textbackslash{}frac" in latex.table(group, table, 8) and "\u202e" not in latex.table(group, table, 8)
    assert all(name.startswith("'=") for name in sheet([(group, table)], 8).name if "e.org" in name)
    Console(width=100, markup=False).print(Screen(group, 8, table))


def test_figures_take_names_as_they_are(folder: Path, tmp_path: Path) -> None:
    from harness.report.figures import FIGURES

    (group, *_) = report.groups(folder.parents[1])
    group = replace(group, judged=[replace(m, name="a$\\frac$b") for m in group.judged])
    assert FIGURES["scaling"](group, tmp_path / "x") is not None


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1x", "@x", "\t=1", " =1", "\r=1"])
def test_no_cell_is_a_formula(cell: str) -> None:
    import pandas as pd

    frame = defused(pd.DataFrame({"name": [cell, "-", "stop"], "gain": [-1.0, 2.0, 3.0]}))
    assert frame.name.tolist() == ["'" + cell, "-", "stop"] and frame.gain.tolist() == [-1.0, 2.0, 3.0]


@settings(max_examples=200)
@given(st.text())
def test_any_text_is_one_line_that_shows(text: str) -> None:
    assert one_line(text).isprintable() and plain(text).isprintable()
    assert one_line(text) == text or not text.isprintable()


# Where records come from


def git(folder: Path, *args: str) -> None:
    about = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", str(folder), *about, *args], check=True, capture_output=True)


def test_another_projects_commit_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment inside the repository of something else."""
    site = tmp_path / "project" / ".venv" / "site-packages"
    (site / "harness" / "store").mkdir(parents=True)
    (site / "harness" / "store" / "provenance.py").write_text("")
    git(tmp_path / "project", "init")
    git(tmp_path / "project", "add", "-f", ".")
    git(tmp_path / "project", "commit", "-m", "theirs")
    monkeypatch.setattr(provenance, "ROOT", site)
    assert provenance.provenance()["commit"] is None and provenance.provenance()["dirty"] is None


def test_our_own_commit_is_known_and_unknown_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "harness" / "store").mkdir(parents=True)
    own = tmp_path / "harness" / "store" / "provenance.py"
    own.write_text("")
    row = tmp_path / "results" / "row.jsonl"
    row.parent.mkdir()
    row.write_text("")
    monkeypatch.setattr(provenance, "ROOT", tmp_path.resolve())
    git(tmp_path, "init")
    provenance._is_our_repository.cache_clear()
    assert provenance.provenance()["commit"] is None, "a repository that does not keep our code is not ours"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "ours")
    provenance._is_our_repository.cache_clear()
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as hooks have it
    about = provenance.provenance()
    assert len(about["commit"]) == 40 and about["dirty"] is False
    row.write_text("one more row")
    assert provenance.provenance()["dirty"] is False
    own.write_text("# changed")
    assert provenance.provenance()["dirty"] is True
    monkeypatch.setenv("PATH", "")
    provenance._is_our_repository.cache_clear()
    assert provenance.provenance()["commit"] is None and provenance.provenance()["dirty"] is None


def test_records_name_no_home_and_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert private(f"no model at {tmp_path}/m") == "no model at ~/m"
    assert private("cannot reach http://me:secret@host:8000/v1") == "cannot reach http://host:8000/v1"
    assert str(tmp_path) not in json.dumps(provenance.provenance())
    file = tmp_path / "encoder"
    with pytest.raises(PathpruneError):
        registry.pruner(f"central:encoder={file},encoder={file}")
    assert named(str(file)).startswith("encoder+") and named("results/models/x") == "results/models/x"


def test_live_runs_of_several_stages_are_shown(toy_run: Callable[..., Run]) -> None:
    run = toy_run(stages=[(3, 6), (8, 2)])
    run_live(run, [registry.method("first")], lambda *_: None)
    ((setting, _),) = overhead.stored(run.folder)
    assert setting.startswith("L = 3, 8, 2 of 8 finished")
