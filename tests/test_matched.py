"""Methods at matched cost: what a budget buys, what an accuracy costs, and gamma never chosen where it is judged."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import Cost
from harness.replay.pool import Pool
from harness.replay.sweep import Sweep
from harness.report import Group, Method
from harness.report.matched import (
    GAMMAS,
    WHOLE,
    Curve,
    area,
    at_budget,
    common_range,
    curves,
    equivalent_cost,
    family,
    interpolated,
)
from harness.report.rows import rows
from tests.test_sweep import PREFIX, benchmark

HALF, EIGHTH = Fraction(1, 2), Fraction(1, 8)


def group(problems: int = 60, n: int = 32, probed: int = 0, **signals: float) -> Group:
    """A pool and a method per keyword, whose scores carry that much signal."""
    pool, _ = benchmark(problems, n, 0.0)
    rng = np.random.default_rng(1)
    judged = []
    for name, signal in signals.items():
        values = (rng.normal(size=pool.correct.shape) + signal * pool.correct).astype(np.float32)
        checks = [Cost(probed=probed)] * problems
        judged.append(
            Method(name, "internal-learned", "exact", "majority", name, pool, values, None, checks, None, 0, False)
        )
    return Group(Path("pool"), {"task": "made-up", "n": n}, pool, PREFIX, judged)


@given(st.integers(1, 200), st.sampled_from([*GAMMAS, Fraction(1)]))
def test_a_family_keeps_exactly_its_share(n: int, gamma: Fraction) -> None:
    made = family(n, gamma)
    assert all(Fraction(k, size) == gamma and 1 <= k <= size <= n for size, k in made)
    assert [s for s, _ in made] == sorted({s for s, _ in made})
    if n * gamma >= 1 and (n * gamma).denominator == 1:
        assert made[-1] == (n, int(n * gamma))


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=8, unique=True), st.data())
def test_interpolation_mixes_two_settings_and_never_invents(spent: list[float], data: st.DataObject) -> None:
    """At a setting it is the setting's value; between, a mixture of exactly that cost; outside, nothing or the last."""
    costs = np.sort(np.array(spent))
    values = np.array([[data.draw(st.floats(0, 1))] for _ in costs])
    assert interpolated(costs, costs, values)[:, 0] == pytest.approx(values[:, 0])
    budget = data.draw(st.floats(0.1, 2e6))
    (got,) = interpolated(np.array([budget]), costs, values)[:, 0]
    if budget < costs[0] * (1 - 1e-9):
        assert np.isnan(got)
    elif budget >= costs[-1]:
        assert got == pytest.approx(values[-1, 0])
    else:
        assert values.min() - 1e-9 <= got <= values.max() + 1e-9
        (again,) = interpolated(np.array([budget]), costs, costs[:, None])[:, 0]
        assert again == pytest.approx(max(budget, costs[0]))


def test_more_signal_buys_more_and_nothing_buys_nothing() -> None:
    made = curves(group(strong=2.0, weak=0.5, none=0.0))
    full = made[0].costs("tokens").max()
    for metric in ("voted", "accuracy", "matched"):
        for gamma in (None, HALF, EIGHTH):
            said = {w.name: w for w in at_budget(made, full / 4, metric=metric, gamma=gamma)}  # type: ignore[arg-type]
            assert said["strong"].value.mean > said["weak"].value.mean > said["none"].value.mean - 0.02
            assert said["strong"].gain is not None and said["strong"].gain.low > 0
            assert said["none"].gain is not None and said["none"].gain.low < 0 < said["none"].gain.high + 0.02
            assert said["strong"].behind is None and said["weak"].behind is not None and said["weak"].behind.high < 0
            assert said["none"].adjusted_p is not None and said["none"].adjusted_p > 0.001


def test_the_checks_own_cost_counts() -> None:
    cheap, dear = (curves(group(strong=2.0, probed=p))[-1] for p in (0, 32 * 60))
    assert (dear.costs("tokens") > cheap.costs("tokens")).all()
    budget = cheap.costs("tokens").max()
    a, b = (c.within(np.array([budget]), EIGHTH, "tokens", "voted") for c in (cheap, dear))
    assert np.isnan(b).all() or b.mean() < a.mean()


def planted(values: dict[Fraction, np.ndarray], n: int = 8) -> Curve:
    """A curve whose metric at each gamma is given per problem, and whose settings all cost n."""
    problems = len(next(iter(values.values())))
    gammas = tuple(values)
    grid = tuple(s for g in gammas for s in family(n, g))
    rows = np.stack([values[g] for g in gammas for _ in family(n, g)])
    cost = np.stack([np.full(problems, float(size)) for size, _ in grid])
    pool = benchmark(problems, n, 0.0)[0]
    return Curve("planted", "internal-fixed", pool, Sweep(grid, rows, rows, rows, cost, cost), gammas)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_gamma_is_chosen_on_other_problems(seed: int) -> None:
    """Pure noise: whoever chose gamma on the judged problems would look better than the mean of all gammas."""
    rng = np.random.default_rng(seed)
    values = {g: rng.normal(size=200) for g in GAMMAS[:3]}
    made = planted(values)
    got = made.crossfitted(8.0, "tokens", "voted")
    stacked = np.stack(list(values.values()))
    assert abs(got.mean() - stacked.mean()) < 4 / np.sqrt(200)
    assert all(any(np.isclose(g, v[i]) for v in values.values()) for i, g in enumerate(got))
    # A problem's own value has no say in which gamma it gets.
    changed = {g: v.copy() for g, v in values.items()}
    changed[GAMMAS[0]][7] += 1e6
    again = planted(changed).crossfitted(8.0, "tokens", "voted")
    assert again[7] in (got[7], changed[GAMMAS[0]][7])
    assert (again[7] == changed[GAMMAS[0]][7]) == (got[7] == values[GAMMAS[0]][7])


def test_an_accuracy_at_half_the_cost_is_half() -> None:
    made = curves(group(strong=2.0))
    everything = made[0]
    own = equivalent_cost(everything, everything, WHOLE[0])
    assert own.share <= 1 and own.missed == 0
    swept = everything.swept
    half = replace(everything, swept=replace(swept, tokens=swept.tokens / 2))
    halved = equivalent_cost(half, everything, WHOLE[0])
    assert halved.share == pytest.approx(own.share / 2) and halved.high == pytest.approx(own.high / 2)


def test_what_is_never_reached_is_said_to_be() -> None:
    made = curves(group(worse=-2.0, strong=3.0))
    worse, strong = (equivalent_cost(c, made[0], EIGHTH) for c in made[2:])
    assert np.isnan(worse.share) and worse.high == np.inf and worse.missed == 1.0
    assert 0 < strong.low <= strong.share <= strong.high < 1 and strong.missed < 0.05


def test_the_area_of_a_flat_curve_is_its_height() -> None:
    flat = planted({HALF: np.full(30, 0.4)})
    assert area(flat, (2.0, 8.0), HALF) == pytest.approx(np.full(30, 0.4))
    assert common_range([flat], HALF, "tokens") == (2.0, 8.0)


def test_degenerate_groups() -> None:
    """One problem, pools that are all right or all wrong, no method, a pool of two: values or NaN, never a crash."""
    one = curves(group(problems=1, strong=1.0))
    said = {w.name: w for w in at_budget(one, 1e9)}
    assert np.isnan(said["strong"].value.mean)  # there is no other problem to choose gamma on
    assert np.isnan({w.name: w for w in at_budget(one, 1e9, gamma=HALF)}["strong"].value.low)
    for fill in (True, False):
        base = group(strong=1.0)
        pool: Pool = replace(
            base.pool, correct=np.full_like(base.pool.correct, fill), answers=np.zeros_like(base.pool.answers)
        )
        same = curves(replace(base, pool=pool, judged=[replace(base.judged[0], pool=pool)]))
        assert all(w.value.mean == float(fill) for w in at_budget(same, 1e9, gamma=HALF))
    assert [c.name for c in curves(group())] == ["no pruning", "random"]
    tiny = curves(group(n=2, strong=1.0))
    assert tiny[-1].gammas == (HALF,) and len(at_budget(tiny, 1e9)) == 3


def test_memory_of_a_table_is_bounded() -> None:
    """All answers differ, so that every path has a count of its own in each of the random control's 200 votes."""
    peaks = {}
    for problems in (16, 128):
        table = group(problems, 512, one=0.5)
        answers = np.tile(np.arange(512), (problems, 1))
        table = replace(table, pool=replace(table.pool, answers=answers), judged=[])
        tracemalloc.start()
        rows(table, 256)
        peaks[problems] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    assert peaks[128] < 96 and peaks[128] < 2 * peaks[16] + 16, peaks
