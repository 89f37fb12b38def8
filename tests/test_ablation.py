"""An ablation trains and benches every variant on one pool, and goes on where it stood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness import registry
from harness.api import PathpruneError
from harness.learn.labels import LabelRecipe, Labels
from harness.runners.run import Run
from harness.spec import RunSpec
from harness.studies.ablation import ABLATIONS, Study

SMALL = ("--problems", "12", "--n", "8", "--test-problems", "3", "--paths", "8", "--prefix", "11")


def folders(tmp_path: Path) -> list[str]:
    return ["--out", str(tmp_path / "out"), "--labels", str(tmp_path / "labels"), "--bank", str(tmp_path / "bank")]


@pytest.mark.long
def test_the_adapter_ablation_is_paired_and_resumes(run_cli: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, out = run_cli("ablation", "adapter", *SMALL, *folders(tmp_path))
    assert code == 0, out
    data = pd.read_csv(tmp_path / "out" / "adapter.csv")
    assert data.label.tolist() == ["STOP", "no adapter", "linear probe", "MLP probe"]
    assert data.difference[0] == 0 and data.label_tokens.nunique() == 1
    assert (data.low <= data.gain).all() and (data.gain <= data.high).all()
    assert data.gain.to_numpy() - data.gain[0] == pytest.approx(data.difference.to_numpy(), abs=2e-5)
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "out").glob("*/**/*") if f.is_file()}
    code, out = run_cli("ablation", "adapter", *SMALL, *folders(tmp_path))
    assert code == 0 and "trained parameters" not in out, out
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "out").glob("*/**/*") if f.is_file()} == before


def test_an_unknown_ablation_is_one_line(run_cli: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, out = run_cli("ablation", "adaptor", *SMALL, *folders(tmp_path))
    assert code == 2 and "did you mean adapter" in out


@pytest.fixture
def study(tmp_path: Path) -> Study:
    task = registry.task("toy")
    engine = registry.engine("toy", "toy", task.defaults.sampling)
    recipe = LabelRecipe(problems=40, n=8, continuations=2, prefixes=(4,), max_tokens=48)
    labels = Labels(tmp_path, task, engine, recipe, 8)
    labels.make(lambda done, tokens: None)
    run = Run(RunSpec.of(task, engine, 8, 48, [(4, 1)]), task, engine, 4, tmp_path / "out", tmp_path / "bank")
    return Study("labels", run, labels, tmp_path / "out", lambda line: None, lambda done, total, note: None)


def test_budgets_are_equal_in_tokens(study: Study) -> None:
    """Monte-Carlo labels of few problems cost what the outcomes of many do."""
    labels = study.labels
    budget = labels.tokens("outcome")
    for variant in ABLATIONS["equal-budget"].variants(study):
        kind = registry.load("pruners", variant.spec)[0].labels
        spent = labels.tokens(kind) * variant.problems / labels.recipe.problems
        assert budget - labels.tokens(kind) / labels.recipe.problems <= spent <= budget * (1 + 1e-9)


def test_many_continuations_cost_what_many_problems_do(study: Study) -> None:
    every, *rest = ABLATIONS["labels"].variants(study)
    for single, many in zip(rest[::2], rest[1::2], strict=True):
        assert many.against == single.label and many.problems == single.problems
        assert many.trained_at == single.trained_at == every.trained_at == study.run_on.spec.prefixes[0]
        made = study.labels_of(many)
        assert made.recipe.continuations == many.continuations
        # The estimate of a run's cost before it is made; toy problems differ much.
        assert made.tokens("monte-carlo") == pytest.approx(study.labels.tokens("single"), rel=0.5)


def test_transfer_wants_to_know_from_where(study: Study) -> None:
    with pytest.raises(PathpruneError, match="--source TASK"):
        ABLATIONS["transfer"].variants(study)
    own, other = ABLATIONS["transfer"].variants(replace(study, source="toy"))
    assert not own.source and other.source == "toy"
