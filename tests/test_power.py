"""What so many problems can detect: the number is that of a paired t-test, held to simulation, and stands beside every table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from harness.replay.stats import detectable
from harness.report import budgets, frontier, latex, matched
from harness.report.frontier import Frontier, Reached
from harness.report.rows import rows
from harness.report.tables import detects, markdown, power, span
from tests.test_frontier import a_lane
from tests.test_reports import full


@pytest.mark.parametrize("q", [10, 60])
def test_a_gain_of_that_size_is_found_four_times_in_five(q: int) -> None:
    rng = np.random.default_rng(q)
    noise = rng.normal(size=(20_000, q))
    shift = detectable(np.concatenate([noise[0] - noise[0].mean()])) or math.nan
    spread = float(np.std(noise[0], ddof=1))
    found = ttest_1samp(noise * spread + shift, 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_the_tables_of_cohen_and_bloom() -> None:
    """34 pairs find half a standard deviation (Cohen 1988, table 2.4.1, for one sample); many find 2.80 standard errors."""
    pairs = np.tile([-1.0, 1.0], 17)
    assert detectable(pairs) == pytest.approx(0.5 * np.std(pairs, ddof=1), rel=0.02)
    many = np.tile([-1.0, 1.0], 50_000)
    assert detectable(many) == pytest.approx(2.802 / np.sqrt(len(many)), rel=1e-3)


@pytest.mark.parametrize("factor", [0.1, 3.0])
@pytest.mark.parametrize("values", [[0.1, -0.4], [0.0, 0.0, 0.3], list(np.linspace(-1, 1, 30))])
def test_it_scales_with_the_unit(values: list[float], factor: float) -> None:
    one, other = detectable(np.array(values)), detectable(np.array(values) * factor)
    assert one is not None and other == pytest.approx(factor * one)


@pytest.mark.parametrize("values", [[], [0.3], [0.0] * 9, [0.2] * 2])
def test_without_a_variance_there_is_no_number(values: list[float]) -> None:
    assert detectable(np.array(values)) is None


def test_more_problems_detect_less() -> None:
    told = [detectable(np.tile([-0.2, 0.3], q)) or math.nan for q in (4, 16, 64, 256)]
    assert told == sorted(told, reverse=True)


FORMS: dict[str, Callable[..., str]] = {
    "markdown": lambda group, keep, table: markdown(group, keep, table),
    "latex": lambda group, keep, table: latex.table(group, table, keep),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_stands_beside_the_table_and_only_where_it_is_known(form: str) -> None:
    group = full(strong=2.0, weak=0.3)
    table = rows(group, 4)
    told = sorted(row.detectable for row in table if row.detectable is not None)
    assert len(told) == 2 and all(row.detectable is None for row in table if row.role != "method")
    text = FORMS[form](group, 4, table)
    median = float(np.median(told))
    assert (f"{median:.3f} (" in text) if form == "markdown" else (f"{100 * median:.1f} in avg@4" in text)
    alone = replace(group, judged=[])
    assert "Power:" not in FORMS[form](alone, 4, rows(alone, 4)) and "power" not in FORMS[form](
        alone, 4, rows(alone, 4)
    )


def test_a_method_that_changes_nothing_gives_no_number() -> None:
    """All of one score keeps the first paths of each problem, and where all paths are alike no gain varies."""
    group = full(flat=0.0)
    pool = replace(group.pool, correct=np.ones_like(group.pool.correct))
    same = replace(group, pool=pool, judged=[replace(m, pool=pool) for m in group.judged])
    assert power(4, rows(same, 4)).count("avg@4") == 0


def test_budget_tables_have_it_at_every_budget() -> None:
    group = full(strong=2.0, weak=0.3)
    table = budgets.budgets(group, draws=20)
    compared = {curve.name: curve for curve in matched.curves(group, 20)}
    (note,) = [line for line in budgets.markdown(table).splitlines() if line.startswith("Power:")]
    assert f"Power: {len(group.pool.problems)} problems detect a true gain in cons over random of" in note
    for share, within in table.within.items():
        reached = [
            compared[name].crossfitted(share * table.full, "tokens", "voted")
            for name in compared
            if name != "no pruning"
        ]
        chance, *methods = (values for values in reached)
        told = [detectable(values - chance) for values in methods if np.isfinite(values - chance).all()]
        known = [value for value in told if value]
        by_name = [w.detectable for w in within if w.detectable is not None]
        assert sorted(by_name) == pytest.approx(sorted(known))
        assert not known or f"{np.median(known):.3f} ({min(known):.3f} to {max(known):.3f}) at {share:.0%}" in note
    rows_told = budgets.sheet([table]).dropna(subset="detectable")
    assert set(rows_told.quantity) == {"gain over random"} and set(rows_told.pruner) == {"strong", "weak"}
    alone = budgets.budgets(replace(group, judged=[]), draws=20)
    assert "Power:" not in budgets.markdown(alone)


def test_frontiers_have_it_of_their_pairs() -> None:
    group = full(strong=2.0)
    q = len(group.pool.problems)
    first, second, third = np.random.default_rng(0).normal(size=(3, q))
    within = {name: Reached(v, np.ones(q), np.ones(q), ()) for name, v in (("a", first), ("b", second), ("c", third))}
    reached = {0.25: within, 0.5: {name: within[name] for name in "ab"}, 0.05: {}}
    lanes = tuple(a_lane(0, problems=q, name=name) for name in within)
    one = Frontier(group, 1.0, lanes, reached, (("a", "b"), ("c", "b")))
    pairs = [detectable(first - second) or 0.0, detectable(third - second) or 0.0]
    note = frontier.power(one)
    assert f"Power: {q} problems detect a true difference in cons of" in note and "median pair's" in note
    assert f"{np.mean(pairs):.3f} ({min(pairs):.3f} to {max(pairs):.3f}) at 25%" in note
    assert f"{pairs[0]:.3f} ({pairs[0]:.3f} to {pairs[0]:.3f}) at 50%" in note and "at 5%" not in note
    assert note in frontier.markdown(one).splitlines() and "difference in cons" in one._repr_html_()
    frame = one.frame()
    assert frame[frame.kind == "difference"].detectable.tolist() == pytest.approx([*pairs, pairs[0]], abs=1e-5)
    assert "Power:" not in frontier.markdown(replace(one, pairs=()))


def test_several_spans_are_one_sentence() -> None:
    told = [span("at 1%", [0.1]), span("at 2%", [None]), span("at 3%", [0.3, None]), span("at 4%", [0.4])]
    assert "gain of 0.100 (0.100 to 0.100) at 1%, of 0.300 (0.300 to 0.300) at 3% and of 0.400 " in detects(
        9, "gain", told
    )
    assert detects(9, "gain", ["", span("at 2%", [])]) == ""
