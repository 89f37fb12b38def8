"""How STOP is trained: what each recipe makes of a model, and that it is what is trained with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.api import Check, LabelledPrefix, Path, PathpruneError, Problem, Sampling
from harness.learn.fitting import CRITERIA, Schedule
from harness.studies.ablation import ABLATIONS
from pruners.internal_learned.recipes import Asked
from pruners.internal_learned.stop import Stop


@pytest.mark.parametrize(
    ("width", "rank"), [(1536, 128), (3584, 256), (4096, 256), (2880, 2048), (2048, 128), (5120, 256), (64, 64)]
)
def test_the_paper_is_table_12(width: int, rank: int) -> None:
    """Ranks of its four models by their widths; what lies between is ours, and no rank is above the width."""
    paper = Asked("paper")
    assert paper.adapter(width) == {"rank": rank, "alpha": 2 * rank, "dropout": 0}
    schedule = Schedule(**paper.schedule(width))
    assert (schedule.learning_rate, schedule.epochs, schedule.batch, schedule.patience) == (2e-5, 15, 128, 15)


def test_the_official_script() -> None:
    """bijiaxihh/STOP at 6276b84: run_train-harmony.sh and the defaults of finetuning_harmony.py."""
    official = Asked("official")
    assert official.adapter(2880) == {"rank": 256, "alpha": 512, "dropout": 0.05, "targets": "q_proj+v_proj"}
    schedule = Schedule(**official.schedule(2880))
    assert (schedule.learning_rate, schedule.epochs, schedule.batch) == (1e-4, 10, 4 * 8 * 2)
    assert (schedule.rate, schedule.clip, schedule.select, schedule.patience) == ("constant", 0, "mse", 10)
    assert {schedule.factor(step, 100) for step in range(100)} == {1.0}


def test_ours_depends_on_the_width() -> None:
    ours = Asked("pathprune")
    assert ours.adapter(160) == {"rank": 16, "alpha": 32, "dropout": 0} and ours.schedule(160)["learning_rate"] == 2e-3
    assert [ours.adapter(w)["rank"] for w in (32, 320, 1536, 4096, 8192)] == [16, 32, 128, 256, 256]
    assert ours.schedule(1600)["learning_rate"] == pytest.approx(2e-4)


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        ("stop", "adapted (training)"),
        ("stop:recipe=paper", "paper-specified"),
        ("stop:recipe=paper,rank=8", "adapted (training)"),
        ("stop:recipe=paper,alpha=8", "adapted (training)"),
        ("stop:recipe=official", "adapted (training)"),
    ],
)
def test_fidelity_is_the_recipe_s(spec: str, label: str) -> None:
    assert registry.pruner(spec).traits.fidelity == label


def test_ranks_are_compared_at_one_scale() -> None:
    """alpha / rank multiplies what a LoRA adds: with a fixed alpha the ablation would compare scales."""
    study: Any = None
    for variant in ABLATIONS["rank"].variants(study):
        shape = registry.pruner(variant.spec).pruner.asked.adapter(160)
        assert shape["alpha"] == 2 * shape["rank"] and variant.label == f"rank={shape['rank']}"


@pytest.mark.parametrize("wrong", ["recipe=papers", "select=f1", "rate=cosine", "clip=-0.5", "rank=-2", "patience=-1"])
def test_a_recipe_that_is_none_is_refused_before_training(wrong: str) -> None:
    from harness.learn.training import hold_recipe

    with pytest.raises(PathpruneError):
        hold_recipe(registry.pruner(f"stop:{wrong}").pruner)


def labelled(length: int, index: int, held: bool) -> LabelledPrefix:
    path = Path(Problem(f"p{index}", f"{index} + 1", ""), 0, 0, tuple(range(5, 5 + length)))
    return LabelledPrefix(path, float(index % 2), 1, held)


def test_the_paper_trains_at_one_length_and_says_what_it_uses(tiny_model: str) -> None:
    engine = registry.engine("hf", tiny_model, Sampling(), device="cpu")
    examples = [labelled(n, i, i > 3) for i in range(6) for n in (4, 6)] + [labelled(6, 7, False)]
    lines: list[str] = []
    pruner = Stop(recipe="paper", epochs=1, targets="q_proj+v_proj")
    metrics = pruner.fit(examples, Check(np.random.default_rng(0), engine), lines.append)
    assert metrics["prefixes"] == 5 and metrics["recipe"]["rank"] == 32 and metrics["recipe"]["alpha"] == 64
    assert any("one L, 6 tokens, 7 of 13 prefixes" in line for line in lines)
    assert any("has K = 32; these labels have K = 1" in line for line in lines)
    assert any("width 32" in line and "rank 32, alpha 64" in line and "rate constant" in line for line in lines)
    assert pruner.adapter.reach["on"] == ["q_proj", "v_proj"]
    with pytest.raises(PathpruneError, match="did you mean q_proj"):
        Stop(targets="q_prj").fit(examples, Check(np.random.default_rng(0), engine), lines.append)
    with pytest.raises(PathpruneError, match="no fused experts"):
        Stop(experts=True).fit(examples, Check(np.random.default_rng(0), engine), lines.append)


def test_criteria_by_hand() -> None:
    """Chances .9 .4 .6 .1 of outcomes 1 1 0 0: AUC 3/4, F1 1/2, MSE (.01 + .36 + .36 + .01) / 4."""
    chances, success = np.array([0.9, 0.4, 0.6, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])
    assert CRITERIA["mse"](chances, success) == pytest.approx(0.185)
    assert CRITERIA["auc-f1"](chances, success) == pytest.approx(-(0.75 * 0.75 + 0.25 * 0.5))
