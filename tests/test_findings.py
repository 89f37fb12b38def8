"""A claim's verdict is its interval's, and nothing else's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.replay.stats import Interval
from harness.studies import findings
from harness.studies.findings import ROWS, Claim


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.03, "confirmed"), (-0.03, -0.01, "not confirmed"), (-0.01, 0.03, "undecided"), (0.0, 0.1, "undecided")],
)
def test_an_interval_decides(low: float, high: float, verdict: str) -> None:
    value = Interval((low + high) / 2, low, high, 0.5)
    assert Claim("", "", "", value).verdict == verdict
    assert Claim("", "", "", value, testbed="hands, L 22").verdict == f"{verdict} on hands, L 22"


@pytest.fixture
def ablations(tmp_path: Path) -> Path:
    """Tables of gains in which every minuend is 0.1 above its subtrahend, and noise that both share."""
    noise = np.random.default_rng(0).normal(size=50)
    for name in {row[2] for row in ROWS}:
        ups = {row[3] for row in ROWS if row[2] == name}
        labels = ups | {row[4] for row in ROWS if row[2] == name}
        table = {label: noise + 0.1 * (label in ups) for label in labels}
        pd.DataFrame(table).to_csv(tmp_path / f"{name}-gains.csv")
    pd.DataFrame({"problem": range(50), "seed=0": noise, "seed=1": noise + 0.001}).to_csv(
        tmp_path / "seeds-gains.csv", index=False
    )
    return tmp_path


def test_findings_compare_in_pairs(ablations: Path) -> None:
    made = list(findings._ablated(ablations))
    assert len(made) == len(ROWS)
    assert all(c.value.mean == pytest.approx(0.1) and c.verdict == "confirmed" for c in made)
    assert all(c.text for c in made)


def test_luck_widens_the_intervals_between_trainings(ablations: Path) -> None:
    """Two seeds 0.03 apart: sd 0.03 / sqrt 2, times sqrt 2 for a difference, times t(1 df) = 12.706 (any table of t)."""
    seeds = pd.read_csv(ablations / "seeds-gains.csv", index_col="problem")
    seeds["seed=1"] = seeds["seed=0"] + 0.03
    seeds.to_csv(ablations / "seeds-gains.csv")
    assert findings.luck(ablations) == pytest.approx(12.706 * 0.03, rel=1e-3)
    made = list(findings._ablated(ablations))
    assert all(c.verdict == "undecided" and c.value.high == pytest.approx(0.1 + 12.706 * 0.03, rel=0.01) for c in made)


def test_what_was_not_run_is_not_tried(ablations: Path) -> None:
    (ablations / "rank-gains.csv").unlink()
    assert {c.verdict for c in findings._ablated(ablations) if "rank" in c.measured} == {"not tried"}


def test_a_missing_seed_table_is_one_line(ablations: Path, run_cli: Callable[..., tuple[int, str]]) -> None:
    (ablations / "seeds-gains.csv").unlink()
    code, said = run_cli("findings", "--ablations", str(ablations), "--out", str(ablations / "out.md"))
    assert code == 2 and "make ablation NAME=seeds" in said and not (ablations / "out.md").exists()


def test_rivals_are_the_best_of_their_type(ablations: Path, run_cli: Callable[..., tuple[int, str]]) -> None:
    out = ablations / "findings.md"
    code, said = run_cli("findings", "--ablations", str(ablations), "--out", str(out))
    assert code == 0, said
    table = out.read_text()
    for kind in ("Type I)", "Type II)", "Type III)"):
        assert table.count(kind) == 1
    assert table.count("onfirmed on hands, L 22 |") + table.count("undecided on hands, L 22 |") == 9
    assert "stop - verifier" in table and "within 25% of the tokens" in table
    across = table.partition("## Every model and task")[2]
    assert "hands, L 22 (200 problems)" in across and "slips, L 17" in across
    assert "smallest gain found with 80 % power" in across
    (verdicts,) = re.findall(r"(?m)^\* F1: better than the best of Type I: (.*)", across)
    assert all(verdicts.count(pool) == 1 for pool in ("hands, L 22", "slips, L 17", "calls, L 27"))
