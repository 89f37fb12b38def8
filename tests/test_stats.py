"""Statistics against brute force and against scipy."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from harness.api import Cost
from harness.ledger import costs_of, sum_of
from harness.replay.pool import Pool, vote_correct
from harness.replay.stats import auroc, bootstrap, bootstraps, holm, within_auroc
from harness.vote import majority

ANSWERS = st.lists(st.sampled_from([None, "1", "2", "3"]), min_size=1, max_size=9)


def pool_of(answers: list[list[str | None]], truth: str = "1") -> Pool:
    n = len(answers[0])
    lines = {
        str(q): {
            "problem": str(q), "prompt": 5, "answers": row, "correct": [a == truth for a in row],
            "lengths": list(range(10, 10 + n)), "stopped": [1] * n,
        }
        for q, row in enumerate(answers)
    }  # fmt: skip
    return Pool.from_record({"flops": {"per_token": 2.0, "attention": 1.0}}, lines, n)


@given(ANSWERS, st.integers(0, 2**9 - 1))
def test_vectorised_vote_is_the_loops_vote(answers: list[str | None], subset: int) -> None:
    chosen = [i for i in range(len(answers)) if subset >> i & 1]
    mask = np.zeros((1, 1, len(answers)), dtype=bool)
    mask[0, 0, chosen] = True
    assert bool(vote_correct(pool_of([answers]), mask)[0, 0]) == (majority([answers[i] for i in chosen]) == "1")


def test_ties_go_to_the_first_seen() -> None:
    assert majority(["2", "1", "1", "2"]) == "2"
    assert majority([None, "3"]) == "3"
    assert majority([None]) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_pairwise_share(pairs: list[tuple[int, bool]]) -> None:
    scores, right = np.array([p[0] for p in pairs], dtype=float), np.array([p[1] for p in pairs])
    versus = [np.sign(a - b) / 2 + 0.5 for a in scores[right] for b in scores[~right]]
    got = auroc(scores, right)
    assert np.isnan(got) if not versus else got == pytest.approx(np.mean(versus))


def test_within_auroc_ignores_difficulty() -> None:
    """Scores that only tell problems apart: perfect pooled, worthless within."""
    right = np.array([[1, 1, 1, 0], [0, 0, 0, 1]], dtype=bool)
    scores = np.array([[1.0] * 4, [0.0] * 4])
    assert auroc(scores, right) > 0.7 and within_auroc(scores, right).mean() == 0.5


def test_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(0.1, 0.3, 200)
    ours = bootstrap(values)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=9999, rng=1).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=3e-3) and ours.high == pytest.approx(theirs.high, abs=3e-3)
    assert bootstrap(values + 1).p < 0.001 < bootstrap(values - values.mean()).p


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 99))
def test_columns_that_are_resampled_together_have_the_intervals_of_each_alone(q: int, width: int, seed: int) -> None:
    columns = list(np.random.default_rng(seed).integers(-8, 9, (width, q)) / 8)
    together = bootstraps(columns, resamples=200)
    np.testing.assert_allclose(
        [astuple(i) for i in together], [astuple(bootstrap(c, resamples=200)) for c in columns], atol=1e-12
    )


@given(
    st.lists(st.integers(0, 9) | st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=2, max_size=2),
    st.integers(0, 4),
)
def test_a_sum_of_costs_is_that_of_the_costs_of_each_path(columns: list[int | list[int]], start: int) -> None:
    table = dict(zip(("generated", "probed"), columns, strict=True))
    each = costs_of(table, 4)[start:]
    assert sum_of(table, 4, start) == Cost(sum(c.generated for c in each), sum(c.probed for c in each))


def test_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(300):
        interval = bootstrap(rng.binomial(8, 0.4, 200) / 8 - 0.4, resamples=1000)
        inside += interval.low <= 0 <= interval.high
    assert inside / 300 >= 0.92


def test_holm_by_hand() -> None:
    """p = .01 .04 .03 of three tests -> .03, .06 (= max(.06, .04)), .06 (Holm 1979)."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
