"""Replay at every (n, k): closed forms against all subsets, votes against the loop's own, planted signals found."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import Cost, FlopModel
from harness.replay import votes
from harness.replay.pool import Pool, kept_mask, length_matched, random_pruning, replay, weighted_vote
from harness.replay.stats import bootstrap
from harness.replay.sweep import kept_probability, ranks_of, scaling, sweep
from harness.rng import generator
from harness.vote import majority

PREFIX = 12


@st.composite
def pools(draw: st.DrawFn, most: int = 7) -> tuple[Pool, np.ndarray]:
    """A small pool of one to three problems, and scores with ties."""
    n, q = draw(st.integers(1, most)), draw(st.integers(1, 3))
    rows = st.lists(st.sampled_from([None, "1", "2", "3", "4"]), min_size=n, max_size=n)
    answers = [draw(rows) for _ in range(q)]
    scores = [draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=n, max_size=n)) for _ in range(q)]
    lengths = [draw(st.lists(st.integers(3, 40), min_size=n, max_size=n)) for _ in range(q)]
    return made(answers, lengths), np.array(scores, dtype=np.float32)


def made(answers: list[list[str | None]], lengths: list[list[int]]) -> Pool:
    lines = {
        str(i): {
            "problem": str(i), "prompt": 5, "answers": row, "correct": [a == "1" for a in row], "lengths": length,
            "stopped": [1] * len(row),
        }
        for i, (row, length) in enumerate(zip(answers, lengths, strict=True))
    }  # fmt: skip
    return Pool.from_record({"flops": {"per_token": 2.0, "attention": 1.0}}, lines, len(answers[0]))


def part(pool: Pool, chosen: tuple[int, ...]) -> Pool:
    """The pool that a launch of these paths alone would have given."""
    cut = {f: getattr(pool, f)[:, chosen] for f in ("correct", "answers", "lengths", "stopped")}
    return Pool(pool.problems, prompts=pool.prompts, flops=pool.flops, **cut)


@settings(max_examples=80, deadline=None)
@given(pools(), st.data())
def test_closed_forms_are_the_mean_over_all_launches(given_pool: tuple[Pool, np.ndarray], data: st.DataObject) -> None:
    """Every subset of n paths is pruned by the loop's own rule; accuracy, tokens and FLOPs are their means."""
    pool, scores = given_pool
    n = data.draw(st.integers(1, pool.n))
    k = data.draw(st.integers(1, n))
    checks = [Cost(probed=3 * pool.n, flops=7.0 * pool.n)] * len(pool.problems)
    swept = sweep(pool, scores, PREFIX, [(n, k)], checks, draws=0)
    results = []
    for chosen in combinations(range(pool.n), n):
        small = part(pool, chosen)
        spent = [Cost(probed=3 * n, flops=7.0 * n)] * len(pool.problems)
        results.append(replay(small, kept_mask(small, scores[:, chosen], k, PREFIX), PREFIX, spent))
    for ours, theirs in ((swept.accuracy, "accuracy"), (swept.tokens, "tokens"), (swept.flops, "flops")):
        assert ours[0] == pytest.approx(np.mean([getattr(r, theirs) for r in results], axis=0))


@settings(max_examples=60, deadline=None)
@given(pools(), st.data(), st.booleans())
def test_votes_are_the_loops_own_on_the_same_draws(
    given_pool: tuple[Pool, np.ndarray], data: st.DataObject, weighted: bool
) -> None:
    """Draw by draw: the n paths that the generator names, the best k of them, the majority (or heaviest) answer."""
    pool, scores = given_pool
    grid = [(n, k) for n in range(1, pool.n + 1) for k in range(1, n + 1)]
    draws = data.draw(st.integers(1, 12))
    swept = sweep(pool, scores, PREFIX, grid, draws=draws, weighted=weighted)
    places = generator("sweep", pool.n, 0).random((draws, pool.n)).argsort(1)
    for row, (n, k) in enumerate(grid):
        right = np.zeros(len(pool.problems))
        for drawn in places:
            chosen = tuple(np.flatnonzero(drawn < n).tolist())
            small = part(pool, chosen)
            mask = kept_mask(small, scores[:, chosen], k, PREFIX)
            if weighted:
                right += weighted_vote(small, scores[:, chosen] * mask)
            else:
                right += [_majority_is_right(small, q, mask[q]) for q in range(len(pool.problems))]
        assert swept.voted[row] == pytest.approx(right / draws)


@pytest.mark.parametrize("scored", [True, False])
def test_votes_are_the_same_however_they_are_counted(scored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Voters two by two or all at once, problems together or in runs of one: a pool with ties and paths without an answer."""
    rng = np.random.default_rng(3)
    pool, scores = benchmark(7, 40, signal=0.5)
    pool = replace(pool, answers=np.where(rng.random(pool.answers.shape) < 0.2, -1, pool.answers))
    grid = [(n, k) for n in (1, 2, 3, 8, 39, 40) for k in (1, 2, 5, 33, 40) if k <= n]
    given_scores = scores.round(1) if scored else None
    together = sweep(pool, given_scores, PREFIX, grid, draws=30).voted
    monkeypatch.setattr(votes, "PAIRS", 0)
    assert (sweep(pool, given_scores, PREFIX, grid, draws=30).voted == together).all()
    monkeypatch.setattr(votes, "PAIRS", 40)
    monkeypatch.setattr("harness.replay.sweep._runs", lambda problems, size: (slice(q, q + 1) for q in range(problems)))
    assert (sweep(pool, given_scores, PREFIX, grid, draws=30).voted == together).all()


def _majority_is_right(pool: Pool, q: int, mask: np.ndarray) -> bool:
    codes = [None if c < 0 else str(c) for c in pool.answers[q][mask]]
    winner = majority(codes)
    return winner is not None and bool(pool.correct[q][pool.answers[q] == int(winner)].any())


@given(st.integers(1, 40), st.data())
def test_exactly_k_are_kept_and_better_ranks_more_often(size: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, size))
    k = data.draw(st.integers(1, n))
    kept = kept_probability(size, n, k)
    assert kept.sum() == pytest.approx(k) and (np.diff(kept) <= 1e-12).all()
    assert kept.max() <= n / size + 1e-12
    assert np.allclose(kept_probability(size, n, n), n / size)


@settings(max_examples=40, deadline=None)
@given(pools(), st.data())
def test_one_path_more_or_a_new_order_of_paths(given_pool: tuple[Pool, np.ndarray], data: st.DataObject) -> None:
    """Permuting paths whose scores differ changes nothing that is an expectation."""
    pool, _ = given_pool
    scores = np.array([data.draw(st.permutations(range(pool.n))) for _ in pool.problems], dtype=np.float32)
    order = tuple(data.draw(st.permutations(range(pool.n))))
    grid = [(n, k) for n in range(1, pool.n + 1) for k in range(1, n + 1)]
    one = sweep(pool, scores, PREFIX, grid, draws=0)
    two = sweep(part(pool, order), scores[:, order], PREFIX, grid, draws=0)
    assert one.accuracy == pytest.approx(two.accuracy) and one.tokens == pytest.approx(two.tokens)


def test_the_whole_pool_is_the_tables_own_replay_and_random_its_control() -> None:
    pool, scores = benchmark(60, 16, signal=1.0)
    swept = sweep(pool, scores, PREFIX, [(16, 4)], draws=3)
    table = replay(pool, kept_mask(pool, scores, 4, PREFIX), PREFIX)
    assert swept.accuracy[0] == pytest.approx(table.accuracy) and swept.voted[0] == pytest.approx(table.voted)
    alike = length_matched(pool, kept_mask(pool, scores, 4, PREFIX))
    assert swept.matched[0] == pytest.approx(table.accuracy - alike)
    assert swept.tokens[0] == pytest.approx(table.tokens) and swept.flops[0] == pytest.approx(table.flops)
    chance, control = sweep(pool, None, PREFIX, [(16, 4)], draws=2000), random_pruning(pool, 4, PREFIX)
    assert chance.accuracy[0] == pytest.approx(control.accuracy) and chance.tokens[0] == pytest.approx(control.tokens)
    assert chance.voted[0] == pytest.approx(control.voted, abs=0.15)
    assert chance.voted.mean() == pytest.approx(control.voted.mean(), abs=0.02)


def test_ties_go_to_the_lower_index() -> None:
    assert ranks_of(np.array([[1.0, 2.0, 1.0, 2.0]])).tolist() == [[2, 0, 3, 1]]


def benchmark(
    problems: int, n: int, signal: float, seed: int = 0, rates: np.ndarray | None = None
) -> tuple[Pool, np.ndarray]:
    """Right and wrong paths with scores N(signal, 1) and N(0, 1): AUROC = Phi(signal / sqrt 2) by construction."""
    rng = np.random.default_rng(seed)
    rates = rng.beta(2, 2, problems) if rates is None else rates
    right = rng.random((problems, n)) < rates[:, None]
    wrong = rng.integers(0, 4, right.shape)
    scores = rng.normal(size=right.shape) + signal * right
    pool = Pool(
        problems=tuple(map(str, range(problems))), correct=right, answers=np.where(right, 4, wrong),
        lengths=rng.integers(20, 60, right.shape), stopped=np.ones(right.shape, dtype=bool),
        prompts=np.full(problems, 9), flops=FlopModel(2.0, 1.0),
    )  # fmt: skip
    return pool, scores.astype(np.float32)


def expected(rates: np.ndarray, n: int, k: int, signal: float, times: int = 4000) -> np.ndarray:
    """avg@k|n of each problem by simulating that problem alone: the truth that a benchmark estimates."""
    rng = np.random.default_rng(99)
    out = np.zeros(len(rates))
    for i, rate in enumerate(rates):
        right = rng.random((times, n)) < rate
        best = (rng.normal(size=right.shape) + signal * right).argsort(1)[:, -k:]
        out[i] = np.take_along_axis(right, best, 1).mean()
    return out


@pytest.mark.parametrize(("signal", "n", "k"), [(0.0, 32, 4), (0.7, 32, 4), (1.5, 32, 8)])
def test_a_planted_signal_gives_the_gain_that_theory_predicts(signal: float, n: int, k: int) -> None:
    rates = np.random.default_rng(5).beta(2, 2, 300)
    pool, scores = benchmark(300, n, signal, 1, rates)
    swept = sweep(pool, scores, PREFIX, [(n, k)], draws=0)
    gain = bootstrap(swept.accuracy[0] - pool.correct.mean(1))
    truth = (expected(rates, n, k, signal, 600) - rates).mean()
    assert gain.low <= truth <= gain.high and gain.high - gain.low < 0.08


@pytest.mark.parametrize("problems", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_intervals_cover_the_truth_in_500_benchmarks(problems: int) -> None:
    """30 problems are an AIME. A gain over random: problems are drawn, then paths, then scores; the interval has to hold the population's gain."""
    grid = np.linspace(0.005, 0.995, 199)
    density = grid * (1 - grid)  # beta(2, 2)
    truth = float(np.average(expected(grid, 16, 4, 0.8) - grid, weights=density))
    inside = 0
    for seed in range(500):
        pool, scores = benchmark(problems, 16, 0.8, seed)
        kept = sweep(pool, scores, PREFIX, [(16, 4)], draws=0).accuracy[0]
        interval = bootstrap(kept - pool.correct.mean(1), resamples=2000)
        inside += interval.low <= truth <= interval.high
    assert inside >= 0.93 * 500, inside


@pytest.mark.parametrize("kind", ["all right", "all wrong", "no answers", "one problem"])
def test_pools_on_which_nothing_can_be_selected(kind: str) -> None:
    answers: dict[str, Any] = {
        "all right": [["1"] * 4] * 2, "all wrong": [["2", "3", "2", "4"]] * 2, "no answers": [[None] * 4] * 2,
        "one problem": [["1", "2", "2", None]],
    }  # fmt: skip
    pool = made(answers[kind], [[20] * 4] * len(answers[kind]))
    scores = np.arange(4.0)[None].repeat(len(pool.problems), 0)
    swept = sweep(pool, scores, PREFIX, [(4, 2), (2, 1), (4, 4)], draws=20)
    for values in (swept.accuracy, swept.voted):
        assert np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()
    if kind != "one problem":
        assert (swept.accuracy == float(kind == "all right")).all() and (swept.voted == swept.accuracy).all()


def test_perfect_scores_scale_above_random() -> None:
    pool, _ = benchmark(20, 16, 0.0)
    sizes, best, cost = scaling(pool, pool.correct.astype(float), [0.5], 12)[0.5]
    _, chance, chance_cost = scaling(pool, None, [0.5, 0.25], 12)[0.5]
    assert sizes == [2, 4, 8, 16]
    assert (best.mean(1) >= chance.mean(1)).all() and best[-1].mean() > chance[-1].mean()
    assert (np.diff(cost.mean(1)) > 0).all() and chance_cost.shape == cost.shape
