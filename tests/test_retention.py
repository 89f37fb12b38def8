"""The retention law: a planted law is found, gamma is judged where it was not fitted, and a plan fits its budget."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import PathpruneError
from harness.report.matched import GAMMAS
from harness.studies import law as laws
from harness.studies.retention import PAPER, UNIT, Cell, Law, best_gammas, cells, constant, fit, held_out, plan
from tests.test_matched import group


def planted(law: Law, noise: float = 0.0, problems: int = 40, seed: int = 0) -> list[Cell]:
    """Cells whose vote falls off on both sides of the gamma that a law gives, in log gamma."""
    rng = np.random.default_rng(seed)
    logs = np.log([float(g) for g in GAMMAS])
    out = []
    for prefix in (256, 512, 1024, 2048):
        for level, length in enumerate((6000.0, 9000.0, 13000.0)):
            budgets = np.geomspace(30, 300, 7) * UNIT
            wanted = np.log([law.gamma(b, prefix, length) for b in budgets])
            mean = 0.7 - 0.05 * (wanted[:, None] - logs) ** 2
            voted = mean[:, :, None] + noise * rng.normal(size=(*mean.shape, problems))
            names = tuple(f"{level}-{i}" for i in range(problems))
            out.append(Cell(prefix, length, names, budgets, voted))
    return out


def test_the_papers_own_examples() -> None:
    """Its coefficients give 1/gamma = 9.52 where it prints 9.63, and more than one path in one for 8B AIME24."""
    law = Law(*PAPER)
    assert 1 / law.gamma(UNIT, UNIT, UNIT) == pytest.approx(1.17e4)
    doubled = law.gamma(2 * UNIT, UNIT, UNIT), law.gamma(UNIT, 2 * UNIT, UNIT), law.gamma(UNIT, UNIT, 2 * UNIT)
    ratios = [law.gamma(UNIT, UNIT, UNIT) / g for g in doubled]
    assert ratios == pytest.approx([2**0.46, 2**0.40, 2**-4.55])


def test_a_planted_law_is_found_within_the_grid() -> None:
    """Only five gammas were tried, so exponents come back to about a step of the grid, and intervals hold them."""
    truth = Law(0.9, 0.45, 0.35, 0.5)
    law, intervals, goodness = fit(planted(truth, noise=0.02), resamples=60)
    assert abs(law.b - truth.b) < 0.12 and abs(law.c - truth.c) < 0.12 and abs(law.d - truth.d) < 0.25
    assert goodness["r2"] > 0.75 and goodness["residual"] < 0.35
    assert all(i.low <= getattr(law, n) <= i.high for n, i in intervals.items() if n in "bcd")


def test_no_law_has_no_exponents() -> None:
    """Votes that do not depend on gamma: exponents are noise, and their intervals say so."""
    made = [replace(c, voted=np.random.default_rng(1).random(c.voted.shape)) for c in planted(Law(1.0, 0.5, 0.5, 0.5))]
    _, intervals, _ = fit(made, resamples=60)
    assert all(intervals[n].low < 0.5 and intervals[n].high > -0.5 for n in "bcd")
    judged = held_out(made, 60)
    assert judged["law - constant"].low < 0.01 and judged["law - hindsight"].high < 0.03


def test_a_true_law_beats_any_constant_on_problems_it_has_not_seen() -> None:
    judged = held_out(planted(Law(1.0, 0.8, 0.6, 0.5), noise=0.05), 60)
    assert judged["law - constant"].low > 0
    assert judged["law - hindsight"].high < 0.02
    assert judged["law"].mean <= judged["hindsight"].mean + 0.01


def test_equally_good_gammas_give_their_mean() -> None:
    assert best_gammas(np.array([[0.5, 0.5, 0.1, 0.1, 0.1]]))[0] == pytest.approx(np.log([2, 4]).mean())
    assert constant(planted(Law(4.0, 0.0, 0.0, 0.0))) == GAMMAS[1]


@given(st.floats(1, 1e7), st.integers(1, 5000), st.floats(0.001, 1.0), st.floats(0, 50_000))
def test_a_plan_fits_its_budget(budget: float, prefix: int, gamma: float, rest: float) -> None:
    n, k = plan(budget, prefix, prefix + rest, gamma)
    assert 1 <= k <= n
    spent = n * prefix + k * rest
    assert spent <= budget or n == k


def swept(prefix: int, **signals: float) -> Any:
    made = replace(group(problems=45, n=64, **signals), prefix=prefix)
    return made, made.judged[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A law fitted to made-up records at four prefix lengths, through its file."""
    found = [swept(prefix, stop=1.0) for prefix in (6, 9, 12, 15)]
    patch = pytest.MonkeyPatch()
    patch.setattr(laws, "collect", lambda *a: found)
    file = tmp_path_factory.mktemp("law") / "law.json"
    laws.write(Path("unused"), "stop", file, resamples=50)
    patch.undo()
    return laws.read(file)


def test_cells_only_hold_budgets_that_every_gamma_can_spend() -> None:
    (cell, *_) = made_cells = cells([swept(12, stop=1.0)], draws=20)
    assert len(made_cells) == 3 and cell.voted.shape == (7, len(GAMMAS), 15)
    assert np.isfinite(cell.voted).all() and (np.diff(cell.budgets) > 0).all()
    assert sorted(p for c in made_cells for p in c.problems) == sorted(set(swept(12, stop=1.0)[0].pool.problems))
    lengths = [c.length for c in made_cells]
    assert lengths == sorted(lengths)


def test_a_recommendation_is_a_plan_with_an_interval_inside_and_a_warning_outside(made: Any) -> None:
    budget = float(np.median([b for c in made["cells"] for b in c["budgets"]]))
    length = float(np.median([c["length"] for c in made["cells"]]))
    inside = laws.recommend(made, budget, 12, length)
    assert inside.spent <= budget and 1 <= inside.k <= inside.n
    far = laws.recommend(made, budget * 100, 12, length)
    assert any("budget" in w and "outside the fitted range" in w for w in far.warnings) and far.expected is None
    assert any("length" in w for w in laws.recommend(made, budget, 12, length * 9).warnings)


def test_more_than_one_path_in_one_is_never_recommended(made: Any) -> None:
    """The published law does ask for that; the answer is: do not prune."""
    paper = made | {"law": dict(zip("abcd", PAPER, strict=True))}
    said = laws.recommend(paper, 300 * UNIT, 2048, 20 * UNIT)
    assert said.gamma == 1.0 and said.n == said.k and any("do not prune" in w for w in said.warnings)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["law", "recommend", "--budget", "100", "--prefix", "9", "--length", "8", "--law", "{law}"], "larger than --prefix"),
        (["law", "recommend", "--budget", "9", "--prefix", "2", "--length", "8", "--law", "none.json"], "no law at none.json"),
        (["law", "recommend", "--budget", "9", "--prefix", "2", "--length", "8", "--law", "{other}"], "is not a pathprune-law/1 file"),
        (["law", "fit", "--results", "nowhere"], "no results folder at nowhere"),
        (["law", "fit", "--results", "{empty}"], "no records under"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_or_read_is_one_line(
    arguments: list[str], says: str, made: Any, tmp_path: Path, run_cli: Any
) -> None:
    files = {"law": tmp_path / "law.json", "other": tmp_path / "other.json", "empty": tmp_path}
    files["law"].write_text(json.dumps(made))
    files["other"].write_text("[]")
    code, out = run_cli(*[a.format(**files) for a in arguments])
    assert code == 2 and out.count("\n") == 1 and says in out, out


def test_too_few_prefix_lengths_are_refused(run_cli: Any, tmp_path: Path) -> None:
    where = ["--task", "toy", "--engine", "toy", "--model", "toy", "--problems", "4", "--n", "4", "--keep", "2"]
    folders = ["--results", str(tmp_path / "r"), "--bank", str(tmp_path / "b")]
    assert run_cli("bench", *where, *folders, "--max-tokens", "40", "--prefix", "5", "--pruner", "jaccard")[0] == 0
    code, out = run_cli("law", "fit", "--results", str(tmp_path / "r"), "--pruner", "jaccard")
    assert code == 2 and "a law needs 4 prefix lengths or more; jaccard has records only at L = 5" in out
    code, out = run_cli("law", "fit", "--results", str(tmp_path / "r"), "--pruner", "jacard")
    assert code == 2 and "did you mean jaccard" in out
    with pytest.raises(PathpruneError):
        laws.collect(tmp_path / "r", "jaccard")
