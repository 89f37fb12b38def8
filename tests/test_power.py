"""What so many problems can detect: the number is that of a paired t-test, held to simulation, and stands beside every table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from harness.replay.stats import detectable
from harness.report import latex
from harness.report.rows import rows
from harness.report.tables import markdown, power
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
