"""An ablation trains and benches every variant on one pool, and goes on where it stood."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness import registry
from harness.ablation import ABLATIONS
from harness.supervision import Labels, Recipe
from tasks.embedded.hands import Hands

SMALL = ("--problems", "24", "--n", "8", "--test-problems", "6", "--paths", "8", "--prefix", "11")


def folders(tmp_path: Path) -> list[str]:
    return ["--out", str(tmp_path / "out"), "--labels", str(tmp_path / "labels"), "--bank", str(tmp_path / "bank")]


def test_the_adapter_ablation_is_paired_and_resumes(run_cli: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, said = run_cli("ablation", "adapter", *SMALL, *folders(tmp_path))
    assert code == 0, said
    data = pd.read_csv(tmp_path / "out" / "adapter.csv")
    assert data.label.tolist() == ["STOP", "no adapter", "linear probe", "MLP probe"]
    assert data.difference[0] == 0 and data.label_tokens.nunique() == 1
    assert (data.low <= data.gain).all() and (data.gain <= data.high).all()
    assert data.gain.to_numpy() - data.gain[0] == pytest.approx(data.difference.to_numpy(), abs=2e-5)
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "out" / "adapter").rglob("*") if f.is_file()}
    code, said = run_cli("ablation", "adapter", *SMALL, *folders(tmp_path))
    assert code == 0 and "trained parameters" not in said, said
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "out" / "adapter").rglob("*") if f.is_file()} == before


def test_an_unknown_ablation_is_one_line(run_cli: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, said = run_cli("ablation", "adaptor", *SMALL, *folders(tmp_path))
    assert code == 2 and "did you mean adapter" in said


def test_budgets_are_equal_in_tokens(tmp_path: Path, hands: Hands) -> None:
    """Monte-Carlo labels of few problems cost what the outcomes of many do."""
    engine = registry.engine("toy", "toy", registry.task("toy").defaults.sampling)
    labels = Labels(tmp_path, registry.task("toy"), engine, Recipe(problems=40, n=8, prefixes=(4,), max_tokens=48), 8)
    labels.make(lambda done, tokens: None)
    budget = labels.tokens("outcome")
    for variant in ABLATIONS["equal-budget"].variants(labels):
        kind = registry.load("pruners", variant.spec)[0].labels
        spent = labels.tokens(kind) * variant.problems / labels.recipe.problems
        assert budget - labels.tokens(kind) / labels.recipe.problems <= spent <= budget * (1 + 1e-9)
    many, one, equal = ABLATIONS["labels"].variants(labels)
    assert many.problems == one.problems and one.kind == equal.kind == "single"
    assert labels.tokens("monte-carlo") * many.problems / 40 <= labels.tokens("single")
