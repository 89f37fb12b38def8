"""Figures: their numbers against brute force, their bytes, the pools that have nothing to show, and attention."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry
from harness.api import Cost, FlopModel, PathpruneError, Role
from harness.learn import checkpoints
from harness.loop import check
from harness.replay.pool import Pool
from harness.report import Group, Method, groups_of
from harness.report.figures import FIGURES, calibration, chosen, style, success, survival, taxonomy
from harness.runners.bench import bench
from harness.runners.live import run_live
from harness.runners.run import Run
from harness.studies import attention_figure as looks
from harness.studies.attention import read_attention
from tasks.embedded.hands import Hands

PREFIX = 6
QUADRANTS = ("control", "external-fixed", "external-learned", "internal-fixed", "internal-learned")


def pool_of(correct: np.ndarray) -> Pool:
    """Paths of ten tokens whose answers are right or wrong as given, bool ``[Q, N]``."""
    whole = np.full(correct.shape, 10)
    return Pool(
        problems=tuple(f"p{i}" for i in range(len(correct))),
        correct=correct, answers=np.where(correct, 0, 1), lengths=whole, stopped=whole > 0,
        prompts=np.full(len(correct), 4), flops=FlopModel(2.0, 1.0),
    )  # fmt: skip


def judged(name: str, quadrant: str, pool: Pool, values: np.ndarray, flops: float = 0.0, own: bool = False) -> Method:
    spent = pool.lengths if own else None
    checks = [Cost(flops=flops)] * len(pool.problems)
    roles: dict[str, Role] = {"control": "control", "reference": "oracle"}
    role: Role = "own-rule" if own else roles.get(quadrant, "method")
    return Method(
        name, quadrant, "exact", "majority", "0", pool, values.astype(np.float32), spent, checks, None, 0, False, role
    )


def group_of(folder: Path, pool: Pool, methods: Sequence[Method]) -> Group:
    spec = {"task": "toy", "engine": {"model": "toy"}}
    return Group(folder, spec, pool, PREFIX, list(methods))


def everything(pool: Pool, seed: int = 0) -> list[Method]:
    """A method of every quadrant, one with a cost, one with a rule of its own and one with half of the problems."""
    values = np.random.default_rng(seed).random(pool.correct.shape)
    made = [judged(q.replace("-", " "), q, pool, (values + i / 7) % 1, 3.0 * i) for i, q in enumerate(QUADRANTS)]
    half = pool.subset(pool.problems[::2])
    made.append(judged("half", "internal-learned", half, values[::2], 1.0))
    made.append(judged("own", "internal-fixed", pool, values, own=True))
    made.append(judged("none", "internal-fixed", pool.subset([]), values[:0]))
    return made


def mixed(problems: int, n: int = 8) -> np.ndarray:
    return np.random.default_rng(1).random((problems, n)) < np.linspace(0.2, 0.9, problems)[:, None]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=3))
def test_chance_and_the_upper_bound_are_what_all_subsets_give(correct: list[list[bool]]) -> None:
    pool = pool_of(np.array(correct))
    ks = [1, 2, 3, 4, 5]
    random, best = survival.chance(pool, ks), survival.truth(pool, ks)
    for q, row in enumerate(pool.correct):
        for i, k in enumerate(ks):
            kept = np.array([row[list(s)].sum() for s in combinations(range(5), k)])
            assert random[0][i, q] == pytest.approx((kept > 0).mean())
            assert best[0][i, q] == (kept > 0).max()
            if row.any():
                assert random[1][i, q] == pytest.approx(kept.mean() / row.sum())
                assert best[1][i, q] == pytest.approx(kept.max() / row.sum())
            else:
                assert np.isnan(random[1][i, q]) and np.isnan(best[1][i, q])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=9))
def test_survivors_are_those_of_the_loops_own_selection(paths: list[tuple[bool, float]]) -> None:
    pool, scores = pool_of(np.array([[c for c, _ in paths]])), np.array([[s for _, s in paths]])
    ks = survival.sizes(pool.n)
    hit, share = survival.survival(pool, scores, ks)
    assert ks[0] == 1 and ks[-1] == pool.n
    for i, k in enumerate(ks):
        order = sorted(range(pool.n), key=lambda j: (-scores[0, j], j))[:k]
        right = sum(bool(pool.correct[0, j]) for j in order)
        assert hit[i, 0] == (right > 0)
        if pool.correct.any():
            assert share[i, 0] == pytest.approx(right / pool.correct.sum())


def test_reliability_by_hand(tmp_path: Path) -> None:
    """Four scores, each given 25 times: their shares of right paths, Brier score and ECE worked out below."""
    scores = np.repeat([0.1, 0.4, 0.6, 0.9], 25).reshape(4, 25)
    correct = np.arange(25)[None] < np.array([5, 5, 15, 25])[:, None]
    pool = pool_of(correct)
    group = group_of(tmp_path, pool, [judged("m", "internal-learned", pool, scores)])
    data = calibration.calibration_data(group)
    assert data.score.tolist() == pytest.approx([0.1, 0.4, 0.6, 0.9])
    assert data.observed.tolist() == [0.2, 0.2, 0.6, 1.0]
    assert data.paths.tolist() == [25] * 4
    # (20 x .01 + 5 x .81 + 20 x .16 + 5 x .36 + 10 x .36 + 15 x .16 + 25 x .01) / 100
    assert data.brier.tolist() == pytest.approx([0.155] * 4)
    assert data.base.tolist() == [0.25] * 4
    assert data.ece.tolist() == pytest.approx([(0.1 + 0.2 + 0.0 + 0.1) / 4] * 4)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60))
def test_bins_are_ordered_and_equal_scores_share_one(scores: list[float]) -> None:
    values = np.array([scores])
    bins = calibration.bins_of(values)
    order = np.argsort(values[0])
    assert (np.diff(bins[0, order]) >= 0).all() and set(bins[0]) == set(range(bins.max() + 1))
    assert bins.max() < calibration.BINS
    assert all(len(set(bins[0, values[0] == v])) == 1 for v in values[0])
    if len(set(scores)) == len(scores):
        assert np.ptp(np.bincount(bins[0])) <= 1


def test_only_learned_probabilities_are_called_reliable(tmp_path: Path) -> None:
    pool = pool_of(mixed(5))
    values = np.random.default_rng(0).random(pool.correct.shape)
    made = [judged("log", "internal-learned", pool, np.log(values)), judged("fixed", "internal-fixed", pool, values)]
    assert FIGURES["calibration"](group_of(tmp_path, pool, made), tmp_path / "x") is None
    assert not (tmp_path / "x.png").exists()


def test_thirds_and_aurocs_by_hand(tmp_path: Path) -> None:
    correct = np.array([[1, 1, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=bool)
    assert success.thirds(correct).tolist() == [1, 0, 0, 2]
    scores = np.array([[4, 3, 2, 1], [1, 2, 3, 2], [1, 3, 2, 4], [0, 0, 0, 0]])
    group = group_of(tmp_path, pool_of(correct), [judged("m", "internal-learned", pool_of(correct), scores)])
    data = success.success_data(group)
    aurocs = data[data.panel == "auroc"].set_index("problem").auroc
    assert aurocs.to_dict() == {"p0": 1.0, "p1": 0.5, "p2": 0.25}
    easy = data[(data.third == "easy")]
    assert easy.right.tolist() == [True] and easy.paths.tolist() == [4]


def test_taxonomy_by_hand(tmp_path: Path) -> None:
    """Eight paths, one kept: the gain is that path's, and the Check is charged against Launch and Resume."""
    pool = pool_of(np.array([[1] + [0] * 7, [0] * 7 + [1]], dtype=bool))
    first = np.tile(np.arange(8.0, 0, -1), (2, 1))
    group = group_of(tmp_path, pool, [judged("m", "internal-learned", pool, first, flops=50.0)])
    row = taxonomy.taxonomy_data(group).iloc[0]
    assert row.gain == pytest.approx(0.5 - 1 / 8)
    generation = pool.flops(0, 4) + 8 * pool.flops(4, 10) + pool.flops(10, 14)
    assert row.overhead == pytest.approx(50.0 / generation)


def test_the_best_of_a_quadrant_is_the_one_with_the_largest_gain(tmp_path: Path) -> None:
    pool = pool_of(mixed(12))
    good, bad = (
        judged("good", "internal-fixed", pool, pool.correct),
        judged("bad", "internal-fixed", pool, ~pool.correct),
    )
    oracle = judged("oracle", "reference", pool, pool.correct)
    group = group_of(tmp_path, pool, [bad, oracle, good, judged("shortest", "control", pool, pool.correct)])
    assert [m.name for m in chosen.best_of_quadrants(group)] == ["good"]
    assert [m.name for m in chosen.best_of_quadrants(group, controls=True)] == ["good", "shortest"]


POOLS = {
    "plain": mixed(9),
    "one problem": mixed(1),
    "one path": mixed(9, 1),
    "two paths": mixed(9, 2),
    "not a power of two": mixed(5, 11),
    "all right": np.ones((6, 8), dtype=bool),
    "all wrong": np.zeros((6, 8), dtype=bool),
}
OFTEN = ("plain",)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("kind", [k if k in OFTEN else pytest.param(k, marks=pytest.mark.long) for k in POOLS])
def test_no_pool_is_too_odd(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame and three files, or None and no file; with methods and without, and with the same score for every path."""
    monkeypatch.setattr(style, "DPI", 40)
    pool = pool_of(POOLS[kind])
    flat = [
        judged(m.name, m.quadrant, m.pool, np.full(m.values.shape, 0.5), own=m.spent is not None)
        for m in everything(pool)
    ]
    for number, methods in enumerate((everything(pool), [], flat)[: 3 if kind == "plain" else 2]):
        stem = tmp_path / str(number)
        data = FIGURES[name](group_of(tmp_path, pool, methods), stem, venue="icml")
        written = [stem.with_suffix(s).exists() for s in (".png", ".pdf", ".csv")]
        assert written == [data is not None] * 3
        if kind == "plain" and number == 0 and name != "overhead":
            assert data is not None
    assert not list(tmp_path.glob("*.part"))


def test_an_unknown_venue_is_named(tmp_path: Path) -> None:
    pool = pool_of(mixed(4))
    with pytest.raises(PathpruneError, match="unknown venue 'nature'"):
        FIGURES["taxonomy"](group_of(tmp_path, pool, everything(pool)), tmp_path / "x", venue="nature")


@pytest.mark.parametrize("venue", style.VENUES)
def test_a_figure_is_as_wide_as_its_column(venue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(style, "DPI", 40)
    pool = pool_of(mixed(8))
    FIGURES["survival"](group_of(tmp_path, pool, everything(pool)), tmp_path / "x", venue=venue)
    with Image.open(tmp_path / "x.png") as image:
        assert image.width == pytest.approx(style.VENUES[venue].full * style.DPI, abs=1)
    assert (
        b"/Type3" not in (tmp_path / "x.pdf").read_bytes() and b"CreationDate" not in (tmp_path / "x.pdf").read_bytes()
    )


def test_quadrants_are_told_apart_without_colour() -> None:
    marks = list(style.QUADRANTS.values())
    assert (
        len({m.marker for m in marks}) == len({m.dash for m in marks}) == len({m.colour for m in marks}) == len(marks)
    )


REPEATED = ("taxonomy", "survival")
TWICE = """
import sys
from pathlib import Path
from harness.report.figures import FIGURES
from harness.report.figures import style
from tests.test_figures import REPEATED, everything, group_of, mixed, pool_of
style.DPI = 40
pool = pool_of(mixed(9))
for name in REPEATED:
    FIGURES[name](group_of(Path(sys.argv[1]), pool, everything(pool)), Path(sys.argv[1]) / name)
"""


@pytest.mark.long
def test_the_same_records_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here and in a process with another hash seed: names of font subsets and orders of sets must not depend on it."""
    monkeypatch.setattr(style, "DPI", 40)
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    about = {**os.environ, "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", TWICE, str(there)], check=True, env=about, cwd=Path(__file__).parents[1])
    pool = pool_of(mixed(9))
    for name in REPEATED:
        FIGURES[name](group_of(here, pool, everything(pool)), here / name)
    names = sorted(f.name for f in here.iterdir())
    assert len(names) == 3 * len(REPEATED)
    for name in names:
        assert (here / name).read_bytes() == (there / name).read_bytes(), name


def test_overhead_of_live_records(toy_run: Callable[..., Run], tmp_path: Path) -> None:
    """Stages are those of the records, of this L alone; plain generation has no Check to speak of."""
    made = toy_run()
    methods = [registry.method(name) for name in ("all", "shortest", "random")]
    bench(made, [plugin for method in methods for plugin in method.plugins], lambda *_: None)
    group = next(iter(groups_of(made.folder)))
    assert FIGURES["overhead"](group, tmp_path / "before") is None
    records = run_live(toy_run(keep=2), methods, lambda *_: None)
    run_live(toy_run(keep=2, prefix=6), methods[1:2], lambda *_: None)
    data = FIGURES["overhead"](group, tmp_path / "after")
    assert data is not None and (tmp_path / "after.pdf").exists()
    assert sorted(data.pruner) == ["all", "random", "shortest"]
    for record in records:
        rows = [r["seconds"] for r in record.lines.values()]
        row = data[data.pruner == record.header["spec"]["pruner"]].iloc[0]
        assert row.launch == pytest.approx(np.mean([r["launch"] for r in rows]))
        assert row.total == pytest.approx(np.mean([sum(r.values()) for r in rows]))


@pytest.fixture(scope="module")
def read(hands: Hands, hands_engine: Any) -> Any:
    return looks.scored(hands, hands_engine, problems=3, n=8)


def test_attention_is_that_of_the_ordinary_forward(read: Any, hands: Hands, hands_engine: Any) -> None:
    """Rows sum to 1, the score is the one that was given without looking, and no cached KV or kernel changes."""
    groups, scores, adapter = read
    paths = [p for g in groups for p in g]
    blocks = {hands_engine.store.get((p.problem.prompt, p.tokens))[0] for p in paths}
    before = {b: [t.clone() for t in b.tensors] for b in blocks}
    reading = read_attention(hands_engine, paths, adapter)
    assert reading.prefix.shape == (24, hands_engine.layers, adapter.tokens, 22)
    total = reading.prompt + reading.prefix.sum(-1) + reading.appended.sum(-1)
    assert (
        np.abs(total - 1).max() < 1e-5 and min(a.min() for a in (reading.prompt, reading.prefix, reading.appended)) >= 0
    )
    assert np.triu(reading.appended[0, 0], 1).max() == 0  # a [STOP] token sees no later one
    assert all(torch.equal(t, k) for b, kept in before.items() for t, k in zip(b.tensors, kept, strict=True))
    assert np.abs(reading.states - hands_engine.probe(paths, adapter)).max() < 1e-4
    plugin = registry.pruner("stop")
    checkpoints.attach(plugin, hands_engine)
    head = plugin.pruner.head  # type: ignore[attr-defined]
    logits = reading.states[:, -1] @ head["weight"][0] + head["bias"][0]
    assert np.abs(1 / (1 + np.exp(-logits)) - np.concatenate(scores)).max() < 1e-5
    assert np.array_equal(looks.stop_attention(hands_engine, paths, adapter), reading.prefix)
    again = check(plugin.pruner, groups[0], hands_engine, hands, 0)[0]
    assert np.abs(again - scores[0]).max() < 1e-6


def test_attention_does_not_depend_on_the_batch(read: Any, hands: Hands, hands_engine: Any) -> None:
    """Prompts of several lengths, paths of several lengths, cached or not: each as if read alone."""
    groups, _, adapter = read
    paths = [p.cut(cut, hands_engine.decode) for p, cut in zip((g[0] for g in groups), (22, 9, 15), strict=True)]
    together = read_attention(hands_engine, paths, adapter)
    for i, path in enumerate(paths):
        alone = read_attention(hands_engine, [path], adapter)
        length = len(path.tokens)
        assert np.abs(together.prefix[i, :, :, :length] - alone.prefix[0]).max() < 1e-5
        assert (together.prefix[i, :, :, length:] == 0).all()


@pytest.mark.long
def test_the_attention_figure(read: Any, hands_engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "DPI", 40)
    groups, scores, adapter = read
    data = looks.attention_figure(hands_engine, groups, scores, adapter, tmp_path / "a", venue="acl")
    assert data is not None and (tmp_path / "a.pdf").exists()
    kinds = data[data.panel == "kinds"]
    assert kinds.groupby("which")["mean"].sum().tolist() == pytest.approx([1, 1], abs=1e-5)
    tokens = data[data.panel == "tokens"]
    assert tokens[tokens.which == "highest"].score.iloc[0] > tokens[tokens.which == "lowest"].score.iloc[0]
    one = [[groups[0][0]]]
    assert looks.attention_figure(hands_engine, one, [scores[0][:1]], adapter, tmp_path / "b") is None
    assert looks.attention_figure(hands_engine, groups[:1], scores[:1], adapter, tmp_path / "c") is not None
    long = [[replace(p, tokens=p.tokens * 2) for p in groups[0]]]
    assert looks.attention_figure(hands_engine, long, scores[:1], adapter, tmp_path / "d") is not None


def test_a_pruner_without_appended_tokens_has_no_attention(hands: Hands, hands_engine: Any) -> None:
    with pytest.raises(PathpruneError, match="appends no tokens"):
        looks.scored(hands, hands_engine, pruner="logprob", problems=1, n=2)


@pytest.mark.parametrize(
    ("token", "kind"),
    [(" 12", "number"), ("x", "letter"), (" B", "letter"), ("then", "word"), ("=", "sign"), ("\n\n", "sign")],
)
def test_kinds_of_tokens(token: str, kind: str) -> None:
    assert looks.kind_of(token) == kind


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pruner", "logprob"], "appends no tokens to a prefix"),
        (["--engine", "toy", "--model", "toy", "--task", "toy"], "attention needs engine hf, not toy"),
    ],
)
def test_attention_of_what_has_none_is_one_line(arguments: list[str], says: str, run_cli: Any, tmp_path: Path) -> None:
    code, out = run_cli("attention", *arguments, "--out", str(tmp_path))
    assert code == 2 and says in out and "Traceback" not in out, out
