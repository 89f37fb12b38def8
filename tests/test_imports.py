"""Imported pools: what is there is served, what is not is said, and exported paths come back to the same numbers."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

import pathprune as pp
from harness import grading, loop, registry
from harness.api import Check, Cost, FlopModel, PathpruneError, UnavailableError
from harness.cli.pools import summary
from harness.imports import exporting, opening, shipping
from harness.imports.checking import flaws
from harness.imports.engine import ImportedEngine
from harness.imports.importing import import_files
from harness.imports.measure import ends_of_ids, ends_of_pieces
from harness.imports.pool import Pool, native
from harness.imports.rows import ImportedPath, ImportedProblem, Probe
from harness.imports.schema import content_digest, with_given
from harness.imports.tokens import Document, Tokens
from harness.imports.units import view_of
from harness.imports.wanted import Wanted
from harness.ledger import MeteredProbe
from harness.report import budgets, latex, tables
from harness.report import page as page_package
from harness.report.figures import style
from harness.report.figures.scaling import scaling_figure
from harness.report.page import write_page
from harness.report.rows import rows
from harness.report.sheet import sheet
from harness.report.tables import _of_import
from harness.session import run_of
from harness.spec import Stage
from harness.store import locks
from harness.store.given import GIVEN
from harness.tools.drawn import drawn_alone
from harness.where import Where
from tasks.benchmarks import fields

Cli = Callable[..., tuple[int, str]]
TEXTS = (
    "so 1 + 1 is two \\boxed{2}",
    "wait but maybe it is \\boxed{3}",
    "clearly \\boxed{2}",
    "one and one make \\boxed{2} now",
)
SAME = {
    "table",
    "task",
    "task_version",
    "model",
    "fingerprint",
    "engine",
    "adjusted_p",
    "label_tokens",
}  # what names the paths, not a number
STATISTICS = "central,logprob,deepconf,jaccard,jaccard:units=words,hesitation,repetition"


class Given:
    """What a reader of files gives, without files."""

    shape, skipped = "given", ()
    about: ClassVar[dict[str, Any]] = {}
    mapping: ClassVar[dict[str, str]] = {}

    def __init__(self, problems: Sequence[ImportedProblem]) -> None:
        self.given = problems
        self.sources = [{"file": "/somewhere/given.jsonl", "sha256": "0" * 64, "rows": len(problems)}]

    def __iter__(self) -> Iterator[ImportedProblem]:
        yield from self.given


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Pool]:
    """A pool of these problems, imported."""
    (tmp_path / "given.jsonl").write_text("")

    def imported(problems: Sequence[ImportedProblem], name: str = "mine", **options: Any) -> Pool:
        monkeypatch.setattr(opening, "read", lambda *a, **k: Given(problems))
        return import_files(Wanted((str(tmp_path / "given.jsonl"),), **options), name, tmp_path / "pools")

    return imported


def path(text: str | None = TEXTS[0], correct: bool | None = None, **more: Any) -> ImportedPath:
    return ImportedPath(text=text, correct=correct, **more)


def problem(
    *paths: ImportedPath, id: str | None = "p", golds: tuple[str, ...] = ("2",), **more: Any
) -> ImportedProblem:
    return ImportedProblem(id, "1 + 1?", golds, paths, f"given.jsonl, line {id}", **more)


def several(count: int = 3, paths: int = 4, **more: Any) -> list[ImportedProblem]:
    return [
        problem(*[path(f"{TEXTS[(i + q) % 4]} {q}{i}", **more) for i in range(paths)], id=f"p{q}") for q in range(count)
    ]


def bench(pool: Pool, tmp_path: Path, pruners: Any = "jaccard:units=words", **options: Any) -> Any:
    return pp.bench(pruners, pool, **{"progress": False, "results": tmp_path / "results", "n": 4, "keep": 1} | options)


def differing(one: pd.DataFrame, other: pd.DataFrame) -> set[str]:
    """Columns in which two tables differ on the methods that both have."""
    one, other = one.set_index("name"), other.set_index("name")
    common = [name for name in one.index if name in other.index]
    return {c for c in one.columns if not one.loc[common, c].astype(object).where(one.loc[common, c].notna(), None).equals(
        other.loc[common, c].astype(object).where(other.loc[common, c].notna(), None))} - SAME  # fmt: skip


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_slice_of_tokens_knows_its_text_and_no_ids_are_made_up() -> None:
    tokens = Tokens(Document("0 of p", 4, "ab cd e", None, np.array([2, 3, 5, 7], np.int32)))
    assert len(tokens) == 4 and tokens[:3].text == "ab cd" and tokens[1:3].text == " cd"[:3]
    assert tokens[:2] == tokens[:2] and tokens[:0] == () and tokens[:2] != tokens[:3]
    for wanted in (lambda: tuple(tokens), lambda: tokens[0], lambda: (1, *tokens), lambda: np.asarray(list(tokens))):
        with pytest.raises(UnavailableError, match="has no token ids"):
            wanted()


def test_tokens_with_ids_are_as_good_as_a_tuple() -> None:
    tokens = Tokens(Document("0 of p", 3, "abc", np.array([5, 6, 7], np.int32), None, 1.0))
    assert (
        tuple(tokens) == (5, 6, 7)
        and tokens[:2] == (5, 6)
        and tokens.__radd__((1,)) == (1, 5, 6, 7)
        and tokens.__add__((8,)) == (5, 6, 7, 8)
    )
    assert tokens[-1] == 7 and hash(tokens) == hash((5, 6, 7))


@pytest.mark.parametrize("text", ["plain words here", "", "ünï çödé 数学 🙂🙂 end", "a" * 70])
def test_ends_found_in_windows_are_those_of_whole_decodings(text: str) -> None:
    raw = text.encode()
    decode = lambda tokens: bytes(tokens).decode(errors="replace")  # noqa: E731
    ends = ends_of_ids(list(raw), text, decode)
    assert ends is not None and [text[:e] for e in ends] == [
        decode(raw[: t + 1]).rstrip("\ufffd") for t in range(len(raw))
    ]


def test_pieces_that_are_not_the_text_have_no_ends() -> None:
    assert ends_of_pieces(["ab", "c", "<eos>"], "abc").tolist() == [2, 3, 3]
    assert ends_of_pieces(["ab", "x"], "abc") is None


CALL = types.MappingProxyType(
    {"text": "ab[x]cd", "tokens": (1, 2, 8, 9, 9, 3, 4), "ends": (1, 2, 3, 4, 5, 6, 7), "length": 4}
)


def test_what_a_tool_gave_is_read_and_not_generated(given: Callable[..., Pool]) -> None:
    """A length counts the model's tokens, a cut has no output at its end, and words cannot tell whose they are."""
    plain = path("abcdefg", tokens=CALL["tokens"], ends=CALL["ends"])
    pool = given([problem(path(given=((2, 5),), statistics={"logprob": -np.arange(4.0)}, **CALL), plain)])
    assert pool.has_outputs and pool.about["lengths"] == {"mean": 5.5, "max": 7}
    called, other = native(pool).get(pool.entries["p"].problem, 0)
    assert (called.drawn, called.given, other.given) == (4, ((2, 5),), ()) and isinstance(called.tokens, Tokens)
    cuts = [called.cut(length, lambda tokens: tokens.text) for length in (1, 2, 3)]  # type: ignore[attr-defined]
    assert [(c.text, c.given) for c in cuts] == [("a", ()), ("ab", ()), ("ab[x]c", ((2, 5),))]
    alone: Any = drawn_alone(called).tokens
    assert (alone.text, tuple(alone), alone[:3].text) == ("abcd", (1, 2, 3, 4), "abc")
    with pytest.raises(PathpruneError, match="outputs of tools, which no length counts"):
        view_of(pool, "3words")


@pytest.mark.parametrize(
    ("spans", "changed"),
    [
        (((0, 3),), {}), (((4, 7),), {}), (((2, 4), (4, 5)), {}), (((5, 2),), {}), (((2, 9),), {}), (((2, 5),), {"tokens": None}),
        (((2, 5),), {"ends": None}), (((2, 5),), {"ends": (1, 2, 6, 7)}), (((2, 4),), {}), (((2, 5),), {"statistics": {"logprob": np.zeros(7)}}),
    ],
)  # fmt: skip
def test_what_cannot_have_been_given_is_refused(
    spans: Any, changed: dict[str, Any], given: Callable[..., Pool]
) -> None:
    with pytest.raises(
        PathpruneError, match=r"line p, path 0: (what it was given is no list|it has \d+ .*one of each)"
    ):
        given([problem(path(given=spans, **(CALL | changed)))])


def test_rows_of_paths_without_tools_have_the_digest_that_they_always_had(given: Callable[..., Pool]) -> None:
    pool = given([problem(path(), path())])
    rows = pool.rows("p")
    assert rows[GIVEN].null_count == 2 and not pool.has_outputs and GIVEN not in pool.signals
    before = dataclasses.replace(pool.entries["p"], sha256=content_digest(with_given(rows.drop_columns([GIVEN]))))
    assert before == pool.entries["p"]


EXTREME = {
    "floats": np.array([-1e6, -0.5, -np.inf]),
    "halves": np.array([-np.inf, -0.5, -np.inf], np.float16),
    "single": np.array([np.inf, -0.5, -65_505], np.float32),
}


@pytest.mark.parametrize("values", EXTREME.values(), ids=EXTREME)
def test_numbers_beyond_float16_are_counted_and_shown(
    values: np.ndarray, tmp_path: Path, given: Callable[..., Pool]
) -> None:
    """They stand at the end of its range, whichever type they come in, and the pool says how many there are wherever it goes."""
    fits = np.array([-65_504.0, 0.5, 3.0])  # the last numbers of float16 are no others
    two = path(length=3, statistics={"logprob": values, "confidence": -fits}), path(length=3, statistics={"logprob": fits, "confidence": fits})  # fmt: skip
    pool = given([problem(*two)])
    stored = pool.rows("p")["logprob"].to_pylist()
    assert stored == [np.clip(values.astype(float), -65_504, 65_504).tolist(), fits.tolist()]
    assert pool.about["clipped"] == {"logprob": 2}
    assert "numbers beyond the range of float16, stored as 65,504 or -65,504: 2 of logprob" in summary(pool)
    assert not list(flaws(pool))
    exporting.export_pool(pool, tmp_path / "out")
    again = pp.import_pool(tmp_path / "out", "again", pools=tmp_path / "pools", progress=False)
    assert again.about["clipped"] == {"logprob": 2} and again.digest == pool.digest
    note = _of_import(bench(pool, tmp_path, "logprob", n=2, keep=1, prefix=1).group)[-1]
    assert note == "Beyond the range of float16, and stored at its end: 2 of logprob."
    card = pool.folder / "pool.json"
    card.write_text(card.read_text().replace('"logprob": 2\n }', '"logprob": 4\n }'))
    (flaw,) = flaws(Pool.open(pool.folder))
    assert "it states 4 numbers of logprob beyond float16, but 3 stand at its ends" in flaw
    shipped = shipping.ship(pool, tmp_path / "shipped", None, shipping.About(), ["confidence"])
    assert "clipped" not in shipped.about
    assert shipping.ship(pool, tmp_path / "other", None, shipping.About(), ["logprob"]).about["clipped"] == {
        "logprob": 2
    }


def test_a_pool_whose_numbers_fit_says_nothing_of_them(given: Callable[..., Pool]) -> None:
    pool = given([problem(path(length=1, statistics={"logprob": np.array([-65_504.0])}))])
    assert "clipped" not in pool.about and not any("float16" in line for line in summary(pool))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_what_is_not_a_number_is_refused(kind: Any, given: Callable[..., Pool]) -> None:
    with pytest.raises(PathpruneError, match="line p, path 0: its logprob is not one number per token"):
        given([problem(path(length=2, statistics={"logprob": np.array([-1, np.nan], kind)}))])


# -- round trips -------------------------------------------------------------------------------------------------------


def exported(task: str, engine: str, tmp_path: Path, prefix: int, **sizes: Any) -> tuple[Any, Path]:
    """A native table, and its paths as a data set."""
    folders = {"results": tmp_path / "native", "bank": tmp_path / "bank"}
    n, problems = sizes["n"], sizes["problems"]
    options: dict[str, Any] = {
        "engine": engine,
        "n": n,
        "keep": n // 4,
        "problems": problems,
        "prefix": prefix,
        "progress": False,
    }
    pp.bench("logprob", task, **options, **folders)
    # From the bank, as imported paths are: states over the KV of a launch differ from those read again in the last bit.
    table = pp.bench(sizes["pruners"], task, **options, **folders)
    run = run_of(Where(task, None, engine, "", prefix, None, 0), n, (Stage(prefix, 1),), problems, *folders.values())
    return table, exporting.export_bank(run, tmp_path / "out")


def test_a_toy_pool_comes_back_to_the_same_digits(tmp_path: Path) -> None:
    table, out = exported("toy", "toy", tmp_path, 5, n=8, problems=5, pruners="all-registered")
    pool = pp.import_pool(out, "toyed", pools=tmp_path / "pools", progress=False)
    again = bench(pool, tmp_path, "all-registered", n=8, keep=2, prefix=5)
    assert not differing(table.frame(), again.frame())
    missing = {r.name for r in table.rows} - {r.name for r in again.rows}
    assert (
        missing == {"consensus", "st-bon", "st-bon-online", "parallel-probe", "mars"} and not again.failures
    )  # what needs a model, and nothing else
    exporting.export_pool(pool, tmp_path / "second")
    assert pp.import_pool(tmp_path / "second", "again", pools=tmp_path / "pools", progress=False).digest == pool.digest


@pytest.mark.long
def test_a_hands_pool_comes_back_to_the_same_digits_and_stop_reads_it_with_its_model(tmp_path: Path) -> None:
    pruners = f"{STATISTICS},stop,linear-probe,consensus,verifier"
    table, out = exported("hands", "hf", tmp_path, 22, n=8, problems=5, pruners=pruners)
    pool = pp.import_pool(out, "handed", pools=tmp_path / "pools", progress=False)
    again = bench(pool, tmp_path, pruners, n=8, keep=2, prefix=22, model="hands")
    assert not differing(table.frame(), again.frame()) and not again.failures
    assert {r.name for r in table.rows} == {r.name for r in again.rows}


def test_text_and_two_statistics_are_enough_for_their_methods(tmp_path: Path, given: Callable[..., Pool]) -> None:
    table, out = exported("toy", "toy", tmp_path, 5, n=8, problems=6, pruners=STATISTICS)
    whole = pp.import_pool(out, "whole", pools=tmp_path / "pools", progress=False)
    dumped = []
    for name, entry in whole.entries.items():
        rows = whole.rows(name).to_pylist()
        paths = [
            path(r["text"], r["correct"], answer=r["answer"] or "", finish="stop", pieces=_pieces(r["text"], r["ends"]),
                 statistics={s: np.array(r[s], np.float64) for s in ("logprob", "confidence")})
            for r in rows
        ]  # fmt: skip
        dumped.append(ImportedProblem(name, entry.problem.prompt, entry.golds, paths, name))
    pool = given(dumped)
    again = bench(pool, tmp_path, f"{STATISTICS},all-registered", n=8, keep=2, prefix=5)
    numbers = differing(table.frame(), again.frame())
    assert {n for n in numbers if not n.startswith("behind")} <= {"flops"}, numbers
    assert again.frame()["flops"].isna().all()
    assert "entropy" in again.left_out and "they have logprob, confidence" in again.left_out["entropy"]
    assert not {"entropy", "margin", "self-certainty"} & {r.name for r in again.rows}


def _pieces(text: str, ends: Sequence[int]) -> list[str]:
    return [text[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]


# -- signals -----------------------------------------------------------------------------------------------------------


def test_a_pool_in_words_is_reported_in_words(
    tmp_path: Path, given: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every head, axis and note: only what is named after its field, such as a CSV's columns, says tokens."""
    pool = given(
        [problem(*(path(t, i % 2 == 0) for i, t in enumerate(TEXTS * 4)), id=f"p{k}") for k in range(8)], grades="given"
    )
    table = bench(pool, tmp_path, "jaccard:units=words", n=4, keep=2, prefix="3words")
    group, ours = table.group, rows(table.group, 2)
    assert group.unit == "words"
    heads = {"words", "cold words", "serial words"}
    assert heads <= set(tables.columns(4, 2, group.unit)) and not heads & set(tables.columns(4, 2))
    found = table.show("p1")
    labels: list[str] = []
    monkeypatch.setattr(style, "save", lambda figure, data, stem: labels.extend(a.get_xlabel() for a in figure.axes))
    curves = scaling_figure(group, tmp_path / "scaling")
    (front,) = pp.frontier(tmp_path / "results", only="*", scorers=["jaccard:units=words"], draws=2, progress=False)
    front.plot(tmp_path / "front")
    matched = budgets.budgets(group, draws=4)
    page = tmp_path / "page.html"
    write_page([(group, ours)], {group.slug: curves}, 2, page, examples=[found.data()])
    data = json.loads(re.search(r"<script[^>]*json[^>]*>(.*?)</script>", page.read_text(), re.DOTALL)[1])  # type: ignore[index]
    assert data["tables"][0]["unit"] == data["examples"][0]["unit"] == "words"
    assert heads <= set(data["heads"][0])
    assert {*filter(None, labels)} == {"words per problem", "serial words per problem"}
    told = [
        repr(table),
        tables.markdown(group, 2, ours),
        latex.table(group, ours, 2),
        repr(found),
        budgets.markdown(matched),
        repr(front),
    ]
    for text in told:
        assert "words" in text.lower() and "tokens" not in text.replace("label tokens", "").lower(), text
    for frame in (sheet([(group, ours)], 2), budgets.sheet([matched]), front.frame(), curves):
        assert set(frame.unit) == {"words"}


def test_the_page_names_no_unit_of_its_own() -> None:
    """What page.js shows beside a number is the table's unit: tokens is a key there and no word."""
    script = (Path(page_package.__file__).parent / "page.js").read_text()
    words = [text for text in re.findall(r"[`\"']([^`\"'\n]*)[`\"']", script) if re.search(r"\btokens\b", text)]
    assert set(words) <= {"tokens"} and not re.search(r"\[\"tokens\", (number|spot)", script)


def test_text_alone_is_counted_in_words_and_no_flops_are_made_up(tmp_path: Path, given: Callable[..., Pool]) -> None:
    pool = given(several())
    table = bench(pool, tmp_path, "all-registered")
    assert pool.about["unit"] == "words" and "words (" in table.title and table.title.startswith("imported pool mine")
    assert all(row.flops != row.flops for row in table.rows)
    assert {"logprob", "stop", "consensus"} <= set(table.left_out) and "hesitation" in {r.name for r in table.rows}
    ids, by_words = (bench(pool, tmp_path, spec) for spec in ("jaccard", "jaccard:units=words"))
    assert ids.failures == by_words.failures == {}
    assert ids.rows[2].accuracy == by_words.rows[2].accuracy
    assert table.sampled == 0


def test_answers_and_lengths_alone_serve_controls_of_length(tmp_path: Path, given: Callable[..., Pool]) -> None:
    paths = [ImportedPath(answer=str(a), length=t, correct=a == 2) for a, t in ((2, 9), (3, 30), (2, 12), (5, 44))]
    pool = given([problem(*paths, id=f"p{i}") for i in range(3)])
    table = bench(pool, tmp_path, "all-registered", prefix=5)
    assert {"first", "random (expected)"} <= {r.name for r in table.rows} and "jaccard" in table.left_out
    assert table.rows[0].accuracy.mean == 0.5 and table.rows[0].tokens.mean == 95


def test_a_statistic_that_some_paths_lack_is_not_served(given: Callable[..., Pool]) -> None:
    some = path(length=8, statistics={"logprob": np.full(8, -0.5)})
    pool = given([problem(some, path(length=8))])
    assert pool.signals["logprob"] == 1 and not pool.statistics
    assert "token_stats" not in Where(pool, None, "hf", "", None, None, 0).engine.provides


def test_what_reads_ids_of_paths_without_any_is_an_error_and_no_score(
    tmp_path: Path, given: Callable[..., Pool]
) -> None:
    class Sum(pp.Pruner):
        quadrant, needs = "external-fixed", frozenset({"text"})

        def score(self, prefixes: Any, check: Check) -> Any:
            return [sum(p.tokens) for p in prefixes]

    table = bench(given(several()), tmp_path, [Sum])
    assert "has no token ids" in table.failures["Sum"][1]


def test_a_model_is_refused_for_paths_without_token_ids(tmp_path: Path, given: Callable[..., Pool]) -> None:
    with pytest.raises(PathpruneError, match="no token ids for every path"):
        bench(given(several()), tmp_path, "stop", model="hands")


def test_probes_stand_for_forced_answers_on_their_grid_alone(tmp_path: Path, given: Callable[..., Pool]) -> None:
    probes = [
        (Probe(3, "2"), Probe(6, "3")),
        (Probe(3, "2"), Probe(6, "2")),
        (Probe(3, "5"), Probe(6, "2")),
        (Probe(3, "2"), Probe(6, "2")),
    ]
    paths = [path("a b c d e f g h \\boxed{2}", length=9, finish="stop", probes=p) for p in probes]
    pool = given([problem(*paths, id=f"p{i}") for i in range(2)])
    assert bench(pool, tmp_path, "consensus", prefix=3, keep=1).failures == {}
    left = bench(pool, tmp_path, "all-registered", prefix=4).left_out["consensus"]
    assert "no forced answer at 4 tokens; its grid is 3, 6" in left
    view = native(pool)
    engine = Where(pool, None, "hf", "", 6, None, 0).engine
    cut = [p.cut(6, engine.decode) for p in view.get(pool.entries["p0"].problem, 0)]
    suffix = "\nThe final answer is \\boxed{"
    texts, costs = engine.forced(cut, suffix, 16)
    assert texts[0].endswith("\\boxed{3}") and costs[0] == Cost(probed=16 + ceil(len(suffix) * 6 / len(cut[0].text)))


def test_a_path_of_another_seed_is_none_of_the_pool(given: Callable[..., Pool]) -> None:
    """Else Monte-Carlo continuations would be the stored endings."""
    pool = given(several())
    engine = Where(pool, None, "hf", "", 3, None, 0).engine
    stored = engine.launch([pool.entries["p0"].problem], 1, 3, 0)[0][0]
    assert len(engine.resume([stored], 99)[0].tokens) > 3
    with pytest.raises(UnavailableError, match="sampling one needs the model"):
        engine.resume([dataclasses.replace(stored, seed=7)], 99)


def test_an_answer_that_was_recorded_is_that_of_the_whole_path_alone(given: Callable[..., Pool]) -> None:
    """A method that asks for the answer of a prefix, and a label of what a model drew, must not be told the stored one."""
    pool = given(several(length=9))
    where = Where(pool, None, "hf", "", None, None, 0)
    whole = where.engine.view.get(pool.entries["p0"].problem, 0)[0]
    check = loop.opened(registry.pruner("answered").pruner, [whole], where.engine, where.task, 0)[0]
    assert check.final(whole) == "2" and check.final(whole.cut(8, where.engine.decode)) is None
    drawn = dataclasses.replace(whole, tokens=(1, 2), text="it is \\boxed{7}")
    assert check.final(drawn) == "7" and grading.right(where.task, [whole, drawn]) == [True, False]


def test_a_model_at_hand_answers_what_an_engine_is_asked(given: Callable[..., Pool]) -> None:
    class Inner:
        spec: ClassVar = {"engine": "hf", "model": "m", "fingerprint": "f", "sampling": {}}
        provides = frozenset({"text", "hidden", "trace", "forced"})
        flops, closing, device = FlopModel(2.0, 0.0), "<end>", "cpu"

        def thinking(self, problem: Any) -> int:
            return 3

        def prompt_length(self, problem: Any) -> int:
            return 5

        def trace(self, paths: Any, reduce: Any, before: int = 0) -> Any:
            return [reduce(np.zeros((2, before + len(p.tokens), 4), np.float32), p) for p in paths]

    view = native(given([problem(*[path(tokens=[4, 5, 6, 7]) for _ in range(4)])]))
    engine = ImportedEngine(view, Inner())
    paths = view.get(view.pool.entries["p"].problem, 0)
    check = Check(np.random.default_rng(0))
    probe = MeteredProbe(engine, check)
    assert (engine.closing, probe.thinking(paths[0].problem), ImportedEngine(view).closing) == ("<end>", 3, "")
    shape = next(iter(probe.trace(paths[:1], lambda states, p: np.array(states.shape), before=1)))
    assert shape.tolist() == [2, 5, 4] and check.cost.probed == 5


# -- units -------------------------------------------------------------------------------------------------------------


def test_units_of_a_prefix(given: Callable[..., Pool]) -> None:
    pool = given(several(length=40))
    assert view_of(pool, 22)[1] == 22 and view_of(pool, "22")[0].unit == "tokens"
    assert view_of(pool, 0.2)[1] == view_of(pool, "20%")[1] == 8
    view, length = view_of(pool, "3words")
    assert (view.unit, length) == ("words", 3)
    first = view.get(pool.entries["p0"].problem, 0)[0]
    assert first.cut(3, lambda tokens: tokens.text).text == "so 1 +" and first.stats is None
    view, _ = view_of(pool, "5tokens:hands")
    assert view.unit == "tokens of hands" and view.mean > 0


@pytest.mark.parametrize("prefix", ["many", 1.5, "150%", "0words", -3, True, "3 pages", [3], "5tokens:/no/such/folder"])
def test_what_is_no_prefix_is_one_line(prefix: Any, tmp_path: Path, given: Callable[..., Pool]) -> None:
    with pytest.raises(PathpruneError) as error:
        bench(given(several()), tmp_path, prefix=prefix)
    assert "\n" not in str(error.value)


def test_a_prefix_of_the_harness_own_paths_is_a_number_of_tokens(tmp_path: Path) -> None:
    with pytest.raises(PathpruneError, match="shares and words are for imported pools"):
        pp.bench(
            "jaccard", "toy", engine="toy", prefix=0.5, n=4, keep=1, results=tmp_path, bank=tmp_path, progress=False
        )


def test_text_of_paths_without_offsets_is_cut_at_one_rate_which_says_nothing_of_the_ending(
    given: Callable[..., Pool],
) -> None:
    long, short = path("x" * 400, length=100), path("x" * 100, length=50)
    pool = given([problem(long, short)], grades="ours")
    paths = native(pool).get(pool.entries["p"].problem, 0)
    rate = 500 / 150
    cut = [p.cut(10, lambda tokens: tokens.text).text for p in paths]
    assert len(cut[0]) == len(cut[1]) == round(10 * rate) and paths[1].text == "x" * 100


# -- ragged, odd -------------------------------------------------------------------------------------------------------


def test_problems_with_fewer_paths_are_left_out_by_name(
    tmp_path: Path, given: Callable[..., Pool], run_cli: Cli
) -> None:
    from harness.report import tables

    pool = given([*several(4, 4), problem(path(), id="few"), problem(*several(1, 6)[0].paths, id="many")])
    assert pool.best_n() == 4
    table = bench(pool, tmp_path, n=None, keep=None)
    assert set(table.group.pool.problems) == {"p0", "p1", "p2", "p3", "many"} and table.group.pool.n == 4
    assert any("1 problems that have fewer than 4 paths (few)" in line for line in tables.notes(table.group))
    assert len(bench(pool, tmp_path, n=1).group.pool.problems) == 6
    with pytest.raises(PathpruneError, match="at most 6 paths per problem"):
        bench(pool, tmp_path, n=7)


def test_odd_paths_are_counted_and_go_through(tmp_path: Path, given: Callable[..., Pool]) -> None:
    paths = [path(""), path(TEXTS[0]), path(TEXTS[0]), path(TEXTS[1], finish="length")]
    pool = given([problem(*paths, id=f"p{i}", golds=("two", "2")) for i in range(2)])
    about = pool.about
    assert (about["empty"], about["duplicates"], about["truncated"], about["unknown_finish"]) == (2, 2, 2, 6)
    table = bench(pool, tmp_path, "jaccard:units=words,hesitation")
    frame = table.paths("p0")
    assert frame["correct"].tolist() == [False, True, True, False]
    assert frame["answer"].dropna().tolist() == ["2", "2"]


def test_records_say_where_paths_come_from_and_nothing_of_the_machine(
    tmp_path: Path, given: Callable[..., Pool]
) -> None:
    table = bench(given(several()), tmp_path)
    for file in table.run.folder.glob("*.jsonl"):
        header = json.loads(file.read_text().splitlines()[0])
        assert header["imported"]["sources"] == [{"file": "given.jsonl", "sha256": "0" * 64, "rows": 3}]


# -- grades ------------------------------------------------------------------------------------------------------------


def test_grades_of_the_file_ours_and_where_they_differ(tmp_path: Path, given: Callable[..., Pool]) -> None:
    wrong = path(TEXTS[0], False, answer="2")  # right, and its file says that it is not
    problems = [problem(wrong, path(TEXTS[1], False, answer="3"), path(TEXTS[2], True, answer="2.0"))]
    rates = {}
    for grades in ("given", "ours", "both", None):
        pool = given(problems, f"g-{grades}", grades=grades)
        rows = pool.rows("p").to_pylist()
        rates[grades] = [r["correct"] for r in rows], [r["answer"] for r in rows], pool.about["disagreements"]
    assert rates["given"] == ([False, False, True], ["2", "3", "2"], 0)
    assert rates["ours"] == ([True, False, True], ["2", "3", "2"], 0)
    assert rates["both"] == rates[None] == ([False, False, True], ["2", "3", "2"], 1)
    listed = json.loads((tmp_path / "pools/g-both/disagreements.jsonl").read_text())
    assert (listed["index"], listed["given"], listed["ours"]) == (0, ["2", False], ["2", True])


def test_a_right_path_without_an_answer_votes_for_the_gold_one(given: Callable[..., Pool]) -> None:
    rows = given([problem(path("no box here", True), path("none either", False))]).rows("p").to_pylist()
    assert [(r["answer"], r["correct"]) for r in rows] == [("2", True), (None, False)]


def test_letters_are_graded_as_letters(given: Callable[..., Pool]) -> None:
    paths = [path('"ANSWER": "C"'), path("The answer is (B)."), path("Option C is correct")]
    pool = given([problem(*paths, golds=("C",))])
    assert pool.rows("p")["correct"].to_pylist() == [True, False, True] and pool.about["grader"] == {"letters": "ABCD"}


BAD: Mapping[str, tuple[Callable[[], list[ImportedProblem]], dict[str, Any], str]] = {
    "no paths": (lambda: [problem()], {}, "line p: the problem has 0 paths"),
    "nothing at all": (list, {}, "no problem with paths"),
    "an id twice": (lambda: [problem(path()), problem(path())], {}, "'p' is also at"),
    "an id that is no name": (lambda: [problem(path(), id="..")], {}, "id must name a file"),
    "no text and no length": (lambda: [problem(ImportedPath(answer="2"))], {}, "path 0: it has neither text nor length"),
    "neither gold nor grade": (lambda: [problem(path(), golds=())], {}, "no gold answer"),
    "given grades that are not there": (lambda: [problem(path())], {"grades": "given"}, "it has no grade"),
    "statistics of another length": (
        lambda: [problem(path(length=5, statistics={"logprob": np.zeros(4)}))], {}, "5 tokens by its length and 4 logprob",
    ),
    "ids of another length": (lambda: [problem(path(length=5, tokens=[1, 2]))], {}, "5 tokens by its length and 2 token ids"),
    "a statistic that is no number": (
        lambda: [problem(path(statistics={"logprob": np.array([np.nan])}))], {}, "logprob is not one number per token",
    ),
    "a statistic of another name": (lambda: [problem(path(statistics={"logprop": np.zeros(3)}))], {}, "did you mean logprob"),
    "token ids below 0": (lambda: [problem(path(tokens=[1, -2]))], {}, "token ids are not whole numbers"),
    "half a surrogate pair": (lambda: [problem(path("\ud800"))], {}, "a lone surrogate"),
    "words and tokens": (lambda: [problem(path(), path(length=9))], {}, "give a tokenizer"),
    "an infinite reward": (lambda: [problem(path(rewards={"rm": float("inf")}))], {}, "reward 'rm' is not finite"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_one_line_and_leaves_no_pool(kind: str, given: Callable[..., Pool], tmp_path: Path) -> None:
    problems, options, says = BAD[kind]
    with pytest.raises(PathpruneError) as error:
        given(problems(), **options)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "pools/mine").exists()


def test_bad_problems_are_skipped_and_listed(given: Callable[..., Pool]) -> None:
    pool = given([problem(path("\ud800"), id="bad"), *several()], skip_bad=True)
    assert (
        pool.about["problems"] == 3
        and len(pool.about["skipped"]) == 1
        and "a lone surrogate" in pool.about["skipped"][0]
    )


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("a/b", {}, "pool's name"),
        (".x", {}, "pool's name"),
        ("x", {"grades": "theirs"}, "unknown grades"),
        ("x", {"parameters": 0}, "parameters"),
    ],
)
def test_options_that_mean_nothing_are_one_line(name: str, options: Any, says: str, given: Callable[..., Pool]) -> None:
    with pytest.raises(PathpruneError, match=says):
        given(several(), name, **options)


# -- interruption, damage ----------------------------------------------------------------------------------------------


class KilledError(Exception):
    """Stands in for a kill between two problems."""


def test_an_interrupted_import_goes_on_and_shows_nothing_before(given: Callable[..., Pool], tmp_path: Path) -> None:
    class Torn(list[ImportedProblem]):
        def __iter__(self) -> Iterator[ImportedProblem]:
            yield from list.__iter__(self)
            raise KilledError

    problems = several(5)
    with pytest.raises(KilledError):
        given(Torn(problems[:3]))
    assert not (tmp_path / "pools/mine").exists()
    there = {f: f.stat().st_mtime_ns for f in (tmp_path / "pools").rglob("*.parquet")}
    assert len(there) == 3
    pool = given(problems)
    kept = {f.name: f.stat().st_mtime_ns for f in (pool.folder / "paths").iterdir()}
    assert all(kept[f.name] == stamp for f, stamp in there.items()) and len(kept) == 5
    assert pool.digest == given(problems, "at-once").digest
    assert given([]).digest == pool.digest  # imported already: nothing is read again


def test_another_pool_of_that_name_is_left_alone(given: Callable[..., Pool]) -> None:
    given(several())
    with pytest.raises(PathpruneError, match="is another pool"):
        given(several(), grades="ours")


@pytest.mark.parametrize(
    ("file", "text"),
    [("pool.json", "{"), ("pool.json", "[]"), ("pool.json", '{"format": "pathprune-pool/9"}'), ("problems.jsonl", '{"id": 3}\n'),
     ("paths/p0.parquet", "no Parquet")],
)  # fmt: skip
def test_a_damaged_pool_is_one_line(file: str, text: str, given: Callable[..., Pool], tmp_path: Path) -> None:
    pool = given(several())
    (pool.folder / file).write_text(text)
    with pytest.raises(PathpruneError) as error:
        bench(Pool.open(pool.folder), tmp_path)
    assert "\n" not in str(error.value)


def test_a_file_may_not_name_a_task_that_could_run_code(given: Callable[..., Pool]) -> None:
    pool = given(several())
    card = pool.folder / "pool.json"
    card.write_text(json.dumps(pool.about | {"grader": {"task": "lm_eval:evil.yaml,trust=true", "version": "1"}}))
    with pytest.raises(PathpruneError, match="which pools may not use"):
        _ = Where(Pool.open(pool.folder), None, "hf", "", None, None, 0).task


# -- verbs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"problem": f"1 + 1? ({i})", "gold": "2", "text": [f"{t} {i}" for t in TEXTS]} for i in range(3)]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_three_commands_from_a_file_to_a_leaderboard(here: Path, run_cli: Cli) -> None:
    code, said = run_cli("import", "mine.jsonl", "--name", "mine")
    assert code == 0 and "imported 12 paths of 3 problems (4 each)" in said and "generated" not in said, said
    code, said = run_cli(
        "bench", "--pool", "mine", "--pruner", "jaccard:units=words", "--prefix", "20%,3words", "--plot"
    )
    assert (
        code == 0
        and said.count("12 imported paths of 3 problems, nothing sampled") == 2
        and "tokens generated" not in said
    ), said
    assert len(list(Path("results/figures").glob("mine-*.png"))) == 2
    code, said = run_cli("leaderboard", "--pool", "mine", "--keep", "1")
    assert code == 0 and "#### imported pool mine" in Path("results/leaderboard.md").read_text()


def test_a_leaderboard_of_a_pool_prunes_and_leaves_the_published_one_alone(here: Path, run_cli: Cli) -> None:
    run_cli("import", "mine.jsonl", "--name", "mine")
    run_cli("bench", "--pool", "mine", "--pruner", "jaccard:units=words")
    Path("results/published").mkdir()
    code, said = run_cli("leaderboard", "--pool", "mine")
    assert code == 0 and "wrote results/local/leaderboard.md" in said and not Path("results/leaderboard.md").exists(), (
        said
    )
    assert "| avg@1\\|4 |" in Path("results/local/leaderboard.md").read_text()  # an eighth of 4 paths, and at least one
    assert [table.keep for table in pp.results("results/local")] == [1]
    heads = next(line for line in run_cli("show", "0", "--pool", "mine")[1].splitlines() if line.startswith(" path "))
    assert heads.split()[-3:] == ["answer", "words", "prefix"], heads
    code, said = run_cli("leaderboard", "--pool", "mine", "--keep", "5")
    assert code == 2 and "have fewer than --keep 5 paths; give a smaller --keep" in said, said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("bench", "--pool", "mime"), "did you mean mine"),
        (("bench", "--pool", "mine", "--task", "toy"), "leave out --task"),
        (("bench", "--pool", "mine", "--live"), "nothing to sample"),
        (("bench", "--pool", "mine", "--workers", "2"), "leave out workers"),
        (("bench", "--pool", "mine", "--max-tokens", "9"), "have fixed lengths"),
        (("bench", "--pool", "mine", "--engine", "vllm"), "needs a model"),
        (("bench", "--pool", "mine", "--pruner", "stop"), "the model may"),
        (("bench", "--pool", "mine", "--pruner", "stop", "--model", "hands"), "no token ids"),
        (("import", "nowhere.jsonl", "--name", "x"), "no file or folder at nowhere.jsonl"),
        (("import", "mine.jsonl", "--name", "x", "--map", "text"), "WHAT=FIELD"),
        (("import", "mine.jsonl", "--name", "x", "--tokenizer", "a", "--model", "b"), "leave out --tokenizer"),
        (("export-pool", "--pool", "mine", "--out", "results"), "contains something else"),
        (("export-pool", "--pool", "mine", "--out", "new", "--private"), "--push"),
        (("leaderboard", "--pool", "mine", "--only", "x"), "leave out --only"),
        (("train", "stop", "--pool", "mine"), "has no token ids"),
    ],
)
def test_verbs_refuse_what_a_pool_cannot_do(here: Path, run_cli: Cli, arguments: tuple[str, ...], says: str) -> None:
    assert run_cli("import", "mine.jsonl", "--name", "mine")[0] == 0
    code, said = run_cli(*arguments)
    assert code == 2 and says in " ".join(said.split()) and "Traceback" not in said, said


def test_a_data_set_says_what_it_holds(here: Path, run_cli: Cli) -> None:
    run_cli("import", "mine.jsonl", "--name", "mine")
    code, said = run_cli("export-pool", "--pool", "mine", "--out", "out")
    readme = Path("out/README.md").read_text()
    assert code == 0 and readme.startswith("---\nconfigs:") and "| `logprob` | list<" in readme, said
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset("out", split="train", cache_dir="cache")
    assert len(rows) == 12 and rows[0]["text"] == f"{TEXTS[0]} 0" and rows[0]["golds"] == ["2"]


def test_two_imports_under_one_name_do_not_meet(here: Path) -> None:
    """Of the same files or of others: one makes the pool, and the other is told."""
    with locks.sole(Path("results/pools/mine"), "importing"):
        code = "import pathprune as pp; pp.import_pool('mine.jsonl', 'mine', progress=False)"
        other = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "another process is importing results/pools/mine" in other.stderr and not Path("results/pools/mine").exists()


def test_a_field_may_be_mapped_to_nothing(here: Path, run_cli: Cli) -> None:
    """As messages advise it."""
    Path("odd.jsonl").write_text(
        json.dumps({"problem": "?", "gold": "2", "text": "\\boxed{2}", "finish_reason": "odd"}) + "\n"
    )
    code, said = run_cli("import", "odd.jsonl", "--name", "odd")
    assert code == 2 and "map finish=" in " ".join(said.split())
    code, said = run_cli("import", "odd.jsonl", "--name", "odd", "--map", "finish=")
    assert code == 0, said


def test_a_killed_import_continues_with_the_same_command(here: Path) -> None:
    """A process that is killed between problems leaves no pool; the same command makes the one it would have made."""
    code = (
        "import os, signal, sys\nfrom harness.imports import draft\n"
        "write, count = draft.Draft._entry, []\n"
        "def once(*a):\n    count.append(1)\n    return os.kill(os.getpid(), signal.SIGKILL) if len(count) == 3 else write(*a)\n"
        "draft.Draft._entry = once\nsys.argv = ['pathprune', 'import', 'mine.jsonl', '--name', 'mine']\n"
        "from harness import cli\ncli.main()\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, env={**os.environ})
    assert killed.returncode == -signal.SIGKILL and not Path("results/pools/mine").exists()
    pool = pp.import_pool("mine.jsonl", "mine", progress=False)
    assert pool.digest == pp.import_pool("mine.jsonl", "other", progress=False).digest and pool.about["problems"] == 3


# -- right answers in a file of their own --------------------------------------------------------------------------------

GOLDEN = Path(__file__).parent / "fixtures/imports"
ANSWERS = {
    "answers.jsonl": '{"id": "sum", "problem": "2 + 2?", "answer": "4"}\n{"id": "product", "answer": ["9", "nine"]}\n{"id": "more", "answer": 1}\n',
    "answers.csv": "id,answer\nsum,4\nproduct,9\n",
    "answers.json": '[{"custom_id": "sum", "gold": 4}, {"custom_id": "product", "gold": "9"}]',
}


@pytest.mark.parametrize("name", ANSWERS)
def test_right_answers_may_stand_in_a_file_of_their_own(name: str, here: Path) -> None:
    Path(name).write_text(ANSWERS[name])
    replies = (GOLDEN / "openai_batch.jsonl").read_text()
    Path("batch.jsonl").write_text(re.sub(r'"content": "([49])"', r'"content": "\\\\boxed{\1}"', replies))
    pool = pp.import_pool("batch.jsonl", "batch", golds=name, progress=False)
    assert [pool.rows(p)["correct"].to_pylist() for p in pool.entries] == [[True, False], [True]]
    assert [source["file"] for source in pool.about["sources"]] == ["batch.jsonl", name] and not pp.check_pool(
        pool, progress=False
    )
    if name == "answers.jsonl":
        assert pool.entries["sum"].problem.prompt == "2 + 2?" and pool.entries["product"].golds == ("9", "nine")
    Path(name).write_text(ANSWERS[name].replace("9", "8"))
    with pytest.raises(PathpruneError, match="is another pool"):
        pp.import_pool("batch.jsonl", "batch", golds=name, progress=False)


def test_answers_of_tables_are_found_by_the_names_of_files(here: Path, run_cli: Cli) -> None:
    Path("own.csv").write_text("id,answer\n7,204\n12,3\n")
    code, said = run_cli("import", str(GOLDEN / "consol"), "--name", "consol", "--golds", "own.csv")
    assert code == 0, said
    assert [pp.open_pool("consol").rows(p)["correct"].to_pylist() for p in ("7", "12")] == [[True, False], [True]]
    code, said = run_cli("import", str(GOLDEN / "consol"), "--name", "without")
    assert code == 2 and "a separate file: --golds FILE" in " ".join(said.split())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"id": "sum", "answer": "4"}\n', "own.jsonl has no problem 'product'"),
        ('{"id": "sum", "answer": "4"}\n{"id": "produkt", "answer": "9"}\n', "did you mean produkt"),
        ('{"id": "sum"}\n', "line 1: has the fields id; a row needs an id"),
        ('{"answer": "4"}\n', "line 1: has the fields answer"),
        ('{"id": "sum", "answer": "4"}\n{"id": "sum", "answer": "5"}\n', "line 2: problem 'sum' has the gold answer '5', but '4' in"),
        ('{"id": "sum", "answer": ""}\n', "line 1: "),
        ("[1]\n", "row 1: is 1; a row needs"),
        ("{oops\n", "line 1 is not JSON"),
        ("", "has no rows"),
        (None, "no file of paths at"),
    ],
)  # fmt: skip
def test_a_bad_file_of_answers_is_one_line(text: str | None, says: str, here: Path) -> None:
    if text is not None:
        Path("own.jsonl").write_text(text)
    with pytest.raises(PathpruneError, match=says) as error:
        pp.import_pool(GOLDEN / "openai_batch.jsonl", "batch", golds="own.jsonl", progress=False)
    assert "\n" not in str(error.value) and "own.jsonl" in str(error.value) and not Path("results/pools/batch").exists()


def test_answers_that_contradict_the_paths_file_are_refused(here: Path) -> None:
    Path("own.jsonl").write_text('{"problem": "1 + 1? (0)", "answer": "3"}\n')
    with pytest.raises(PathpruneError, match=r"its gold answer is '2', but '3' in own\.jsonl, line 1"):
        pp.import_pool("mine.jsonl", "mine", golds="own.jsonl", progress=False)


# -- the page ----------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[1] / "docs/your-own-paths.md").read_text()


def block(language: str) -> str:
    """A block of code of the page."""
    return PAGE.partition(f"```python {language}\n")[2].partition("```")[0]


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


PIECES = (["so ", "\\boxed{", "2", "}"], ["hm ", "maybe ", "\\boxed{", "3", "}"])


def test_the_page_samples_with_vllm_what_import_takes(
    here: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Cli
) -> None:
    Path("problems.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}\n{"problem": "4 - 2?", "answer": "2"}\n')
    likely = {7: types.SimpleNamespace(logprob=-0.25), 8: types.SimpleNamespace(logprob=-1.5)}
    outputs = [
        types.SimpleNamespace(text="".join(p), token_ids=[7] * len(p), finish_reason="stop", logprobs=[likely] * len(p))
        for p in PIECES
    ]
    model = types.SimpleNamespace(chat=lambda chats, params: [types.SimpleNamespace(outputs=outputs) for _ in chats])
    stand_in(monkeypatch, "vllm", LLM=lambda *a, **k: model, SamplingParams=lambda **k: k)
    exec(compile(block("vllm"), "page", "exec"), {})
    code, said = run_cli("import", "samples.jsonl", "--name", "sampled")
    assert code == 0 and "every path has: text, tokens, logprob, confidence, margin" in said, said
    assert Pool.open("sampled").rows("problem-00001")["correct"].to_pylist() == [True, False]


def test_the_page_samples_from_a_server_what_import_takes(
    here: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Cli
) -> None:
    Path("problems.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}\n')
    choices = [
        {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": "".join(p)},
         "logprobs": {"content": [{"token": t, "logprob": -0.5, "top_logprobs": [{"token": t, "logprob": -0.5}]} for t in p]}}
        for i, p in enumerate(PIECES)
    ]  # fmt: skip
    reply = types.SimpleNamespace(
        model_dump=lambda: {"object": "chat.completion", "choices": choices, "usage": {"completion_tokens": 9}}
    )
    create = types.SimpleNamespace(completions=types.SimpleNamespace(create=lambda **k: reply))
    stand_in(monkeypatch, "openai", OpenAI=lambda **k: types.SimpleNamespace(chat=create))
    exec(compile(block("server"), "page", "exec"), {})
    code, said = run_cli("import", "samples.jsonl", "--name", "sampled")
    assert code == 0 and "every path has: text, logprob, confidence" in said, said
    pool = Pool.open("sampled")
    assert pool.about["text_by"] == "offsets" and [r["ends"][1] for r in pool.rows("problem-00001").to_pylist()] == [
        10,
        9,
    ]


# -- files of problems -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choices",
    ["A) two B) three C) {1, 2}", "A. two\nB. three\nC. {1, 2}", '["two", "three", "{1, 2}"]', "['two', 'three', '{1, 2}']", "two\nthree\n{1, 2}",
     '{"A": "two", "B": "three", "C": "{1, 2}"}'],
)  # fmt: skip
@pytest.mark.parametrize("gold", ["C", "C. {1, 2}", "(C) {1, 2}", "{1, 2}", "C. $1, 2$"])
def test_choices_in_one_string_and_golds_with_their_text(choices: str, gold: str) -> None:
    assert fields.options({"problem": "?", "choices": choices, "answer": gold}, "line 1") == (
        ["two", "three", "{1, 2}"],
        2,
    )


@pytest.mark.parametrize(
    ("choices", "gold"), [("one long option alone", "A"), ("A. two B. three", "B. two"), ("A. two B. three", "D. four")]
)
def test_options_that_contradict_the_answer_are_refused(choices: str, gold: str) -> None:
    with pytest.raises(PathpruneError, match="line 1"):
        fields.options({"problem": "?", "choices": choices, "answer": gold}, "line 1")


def test_a_bad_row_of_problems_is_named_and_may_be_skipped(here: Path, run_cli: Cli) -> None:
    good = [json.dumps({"id": i, "problem": f"{i} + 1?", "answer": str(i + 1)}) for i in range(3)]
    bad = ["{", "[1]", '{"problem": "no answer?"}', good[0], json.dumps({"problem": "1 + 1?", "answer": "2"})]
    Path("own.jsonl").write_text("\n".join([good[0], bad[0], good[1], *bad[1:], good[2]]))
    arguments = (
        "bench",
        "--task",
        "own.jsonl",
        "--engine",
        "toy",
        "--pruner",
        "jaccard",
        "--n",
        "4",
        "--keep",
        "1",
        "--model",
        "toy",
        "--max-tokens",
        "48",
        "--prefix",
        "5",
    )
    code, said = run_cli(*arguments)
    assert code == 2 and "own.jsonl, line 2" in said
    code, said = run_cli(*arguments, "--skip-bad")
    named = {line for line in range(1, 10) if f"left out: own.jsonl, line {line}" in " ".join(said.split())}
    assert code == 0 and named == {2, 4, 5, 6, 7}, said


def test_what_is_in_flops_is_refused_where_nobody_knows_them(here: Path, run_cli: Cli) -> None:
    for name, more in (("mine", ()), ("sized", ("--parameters", "7e9"))):
        assert run_cli("import", "mine.jsonl", "--name", name, *more)[0] == 0
        assert run_cli("bench", "--pool", name, "--pruner", "jaccard:units=words")[0] == 0
    code, said = run_cli("budgets", "--pool", "mine", "--cost", "flops")
    assert code == 2 and "FLOPs are unknown" in said
    assert "nothing to draw for taxonomy" in run_cli("plot", "--pool", "mine", "--kind", "taxonomy")[1]
    rows = pp.results("results/local", keep=1, only="task=sized")[0].rows
    assert all(row.flops == 2 * 7e9 * row.tokens.mean for row in rows[:1])
    assert "imported pools: mine, sized" in run_cli("list")[1]


HOSTILE = {
    "name": "../../elsewhere", "unit": "tokens\x1b[31m", "flops": {"evil": 1}, "rate": "much", "lengths": {"mean": "long"}, "signals": {"text": -1},
    "sources": [3], "paths": 0, "digest": "short", "words": None,
}  # fmt: skip


@pytest.mark.parametrize("field", HOSTILE)
def test_a_card_of_other_values_is_refused(field: str, given: Callable[..., Pool]) -> None:
    pool = given(several())
    (pool.folder / "pool.json").write_text(json.dumps(pool.about | {field: HOSTILE[field]}))
    with pytest.raises(PathpruneError, match=f"damaged: {field} is"):
        Pool.open(pool.folder)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "a/b"},
        {"file": "../p0.parquet"},
        {"golds": [3]},
        {"paths": -1},
        {"prompt": 4},
        {"prompt_tokens": "many"},
        {"id": "p1"},
    ],
)
def test_a_line_that_is_no_problem_is_refused(
    change: dict[str, Any], given: Callable[..., Pool], tmp_path: Path
) -> None:
    pool = given(several())
    file = pool.folder / "problems.jsonl"
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps(json.loads(first) | change), *rest]))
    with pytest.raises(PathpruneError, match=r"problems\.jsonl is damaged"):
        bench(Pool.open(pool.folder), tmp_path)


def test_a_pool_may_come_first(tmp_path: Path, given: Callable[..., Pool]) -> None:
    pool = given(several())
    one = pp.bench(pool, ["jaccard:units=words"], prefix=0.2, keep=1, results=tmp_path / "one", progress=False)
    other = pp.bench(["jaccard:units=words"], pool, prefix=0.2, keep=1, results=tmp_path / "other", progress=False)
    assert one.frame().equals(other.frame()) and one.keep == 1 and one.group.pool.n == 4
    every = pp.bench(pool, prefix=0.2, keep=1, results=tmp_path / "every", progress=False)
    assert every.left_out and "hesitation" in {row.name for row in every.rows}
    with pytest.raises(
        PathpruneError, match="unknown pruner 'hands'"
    ):  # a name behind a pool is a pruner's, whatever it is
        pp.bench(pool, "hands", results=tmp_path / "none", progress=False)


def test_a_byte_order_of_tokens_is_found_in_linear_time() -> None:
    """Of 20,000 tokens, none of which has a text of its own: decoded from the beginning each time, they take minutes."""
    text = "é" * 10_000
    seen = []
    decode = lambda tokens: seen.append(len(tokens)) or bytes(tokens).decode(errors="replace")  # noqa: E731
    ends = ends_of_ids(list(text.encode()), text, decode)
    assert ends is not None and ends[1::2].tolist() == list(range(1, 10_001)) and sum(seen) < 100 * 20_000


@pytest.mark.long
def test_what_was_trained_on_a_pool_is_benched_on_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run_cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    _, out = exported("hands", "hf", tmp_path, 22, n=8, problems=12, pruners="logprob")
    for name in ("one", "two"):
        pp.import_pool(out, name, progress=False)
    code, said = run_cli(
        "train", "linear-probe", "--pool", "one", "--model", "hands", "--prefix", "22", "--harvest", "4"
    )
    assert code == 0, said
    bench = ("bench", "--model", "hands", "--prefix", "22", "--pruner", "linear-probe,logprob", "--keep", "2", "--pool")
    code, said = run_cli(*bench, "one")
    assert code == 2 and "trained on problems of this pool, from number 4 on; bench only the 4 before them" in said
    assert run_cli(*bench, "one", "--problems", "4")[0] == run_cli(*bench, "two")[0] == 0
