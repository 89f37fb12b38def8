"""Rollouts: groups keep their order and size, paths are those that the engine would have sampled whole, costs are what was fed."""

from __future__ import annotations

import json
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import Path, PathpruneError
from harness.rollouts import Rollouts, best, ends
from harness.studies.rollouts import Terms, markdown, run, table
from tasks.embedded.hands import Hands

GROUP, LIMIT = 4, 40


@pytest.fixture(scope="module")
def trainer() -> Any:
    """What a rollout function reads of TRL's trainer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.engines.identity import locate

    model = AutoModelForCausalLM.from_pretrained(locate("hands"), dtype=torch.float32)
    return SimpleNamespace(
        model=model.train(), processing_class=AutoTokenizer.from_pretrained(locate("hands")), num_generations=GROUP,
        num_generations_eval=GROUP, state=SimpleNamespace(global_step=0), chat_template_kwargs={},
        accelerator=SimpleNamespace(unwrap_model=lambda wrapped: wrapped, process_index=0),
        args=SimpleNamespace(temperature=1.0, top_p=1.0, top_k=0, max_completion_length=LIMIT),
    )  # fmt: skip


def prompts(count: int, group: int = GROUP) -> list[str]:
    return [p.prompt for p in Hands().problems("dev", count) for _ in range(group)]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=12), st.integers(1, 12))
def test_picks_name_as_many_paths_as_asked(scores: list[int], keep: int) -> None:
    keep, values = min(keep, len(scores)), np.array(scores, dtype=float)
    for pick in (best, ends):
        chosen = pick(values, keep)
        assert len(set(chosen)) == keep and list(chosen) == sorted(chosen)
    kept, others = values[list(best(values, keep))], np.delete(values, best(values, keep))
    assert not len(others) or kept.min() >= others.max()
    if keep >= 2:
        assert {values.min(), values.max()} <= set(values[list(ends(values, keep))])


@pytest.mark.parametrize(("pruner", "pick"), [(None, "best"), ("random", "best"), ("stop", "best"), ("stop", "ends")])
def test_a_rollout_is_what_the_engine_samples_whole(pruner: str | None, pick: Any, trainer: Any) -> None:
    """Whatever is picked, a finished path is the one that nobody had cut, and the weights may be trained as before."""
    rollouts = Rollouts(pruner, launch=8, prefix=9, pick=pick, model="hands", seed=3)
    asked = prompts(2)
    given_out = rollouts(asked, trainer)
    engine, (spent,) = rollouts._engine, rollouts.ledger
    assert [tuple(ids) for ids in given_out["prompt_ids"]] == [engine.ids(p) for p in asked]
    assert all(p.requires_grad for p in trainer.model.parameters()) and trainer.model.training
    whole = Rollouts(None, model="hands", seed=3)
    whole._engine = engine
    sampled = whole(prompts(2, 8), trainer)["completion_ids"]
    for group in range(2):
        kept = given_out["completion_ids"][group * GROUP : (group + 1) * GROUP]
        assert all(ids in sampled[group * 8 : (group + 1) * 8] for ids in kept)
    dropped = (spent.launched - spent.kept) * 9
    assert spent.cost.generated == sum(map(len, given_out["completion_ids"])) + dropped
    assert [len(row) for row in given_out["logprobs"]] == [len(ids) for ids in given_out["completion_ids"]]


def test_stored_states_are_those_of_the_present_weights(trainer: Any) -> None:
    """After a step of training nothing is read from the weights before it."""
    import torch

    rollouts = Rollouts("stop", launch=8, prefix=9, model="hands")
    before = rollouts(prompts(1), trainer)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.mul_(1.05)
    try:
        engine, after = rollouts._engine, rollouts(prompts(1), trainer)
        path = Path(Hands().problems("dev", 1)[0], 0, 0, tuple(after["completion_ids"][0][:5]))
        cold = engine.next_logprobs([path], [5])
        engine.forget()
        assert np.allclose(engine.next_logprobs([path], [5]), cold, atol=1e-3) and before != after
    finally:
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.div_(1.05)


def test_a_process_that_has_part_of_a_group_launches_that_part(trainer: Any) -> None:
    rollouts = Rollouts("random", launch=8, prefix=5, model="hands")
    assert len(rollouts(prompts(1, 2) + prompts(2, GROUP)[GROUP:], trainer)["completion_ids"]) == 2 + GROUP
    assert rollouts.ledger[0].launched == 4 + 8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pruner": "asc", "launch": 8, "prefix": 5}, "decides by a rule of its own"),
        ({"pruner": "stop"}, "needs launch"),
        ({"pruner": "stop", "launch": 0, "prefix": 5}, "1 or more"),
        ({"pruner": "stop", "launch": 8, "prefix": 5, "pick": "bets"}, "did you mean best"),
        ({"pruner": "stpo", "launch": 8, "prefix": 5}, "did you mean stop"),
    ],
)
def test_what_cannot_be_run_is_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PathpruneError, match=said):
        Rollouts(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pruner": "random", "launch": 3, "prefix": 5}, "set launch to"),
        ({"pruner": "jaccard:units=words", "launch": 8, "prefix": 5}, "task=..."),
        ({"pruner": "verifier:lr=0.1", "launch": 8, "prefix": 5, "task": "hands"}, "no checkpoint"),
    ],
)
def test_what_does_not_fit_the_trainer_is_one_line(options: dict[str, Any], said: str, trainer: Any) -> None:
    with pytest.raises(PathpruneError, match=said):
        Rollouts(model="hands", **options)(prompts(1), trainer)


def measured(gains: list[float]) -> Any:
    """Two arms, as many seeds as gains; the second costs twice the tokens."""
    import pandas as pd

    return pd.DataFrame(
        {"arm": arm, "seed": seed, "step": at, "generated": 100 * at * cost, "accuracy": 0.4 + at * (0.1 + more)}
        for arm, cost, of_arm in (("no pruning", 1, [0.0] * len(gains)), ("stop", 2, gains))
        for seed, more in enumerate(of_arm)
        for at in (0, 1)
    )


def test_gains_are_paired_by_seed_and_read_at_equal_tokens() -> None:
    base, stop = table(measured([0.1, 0.2, 0.3])).to_dict("records")
    assert "accuracy_gain" not in base or base["accuracy_gain"] != base["accuracy_gain"]
    assert stop["accuracy_gain"] == pytest.approx(0.2)
    # 100 of the 200 tokens that it takes are half of its way: 0.4 + (0.1 + gain) / 2 against 0.5.
    assert stop["at_budget_gain"] == pytest.approx(np.mean([0.45 + g / 2 - 0.5 for g in (0.1, 0.2, 0.3)]))
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # Student's t, 2 degrees of freedom
    assert base["before"] == stop["before"] == pytest.approx(0.4) and base["accuracy"] == pytest.approx(0.5)
    assert (
        "0.400 before training" in (said := markdown(Terms(), table(measured([0.1, 0.2, 0.3]))))
        and "over 3 seeds" in said
    )
    assert stop["accuracy_gain_high"] - stop["accuracy_gain"] == pytest.approx(half)
    alone = table(measured([0.1])).to_dict("records")[1]
    assert np.isnan(alone["accuracy_gain_low"]) and "[" not in markdown(Terms(), table(measured([0.1])))


@pytest.mark.long
def test_trl_trains_on_them_and_nothing_is_trained_twice(tmp_path: FilePath) -> None:
    terms = Terms(steps=1, prompts=2, group=4, launch=8, problems=3, paths=2, every=1)
    told: list[str] = []
    arms = ["no pruning", "stop, both ends"]
    first = run(terms, arms, [0], tmp_path, lambda done, total, note: told.append(f"{done}/{total} {note}"))
    assert told[-1].startswith("2/2 stop, both ends") and set(first.arm) == set(arms) and set(first.step) == {0, 1}
    assert (first[first.step == 1].generated > 0).all() and (first[first.step == 0].generated == 0).all()
    assert json.loads(next(tmp_path.iterdir()).read_text()).keys() >= {"terms", "commit", "dirty", "versions", "rows"}
    before = {f: f.stat().st_mtime_ns for f in tmp_path.iterdir()}
    assert run(terms, arms, [0], tmp_path, lambda *_: None).equals(first)
    assert before == {f: f.stat().st_mtime_ns for f in tmp_path.iterdir()}
    with pytest.raises(PathpruneError, match="other settings"):
        run(Terms(steps=2), arms, [0], tmp_path, lambda *_: None)
    with pytest.raises(PathpruneError, match="did you mean"):
        run(terms, ["no prunning"], [0], tmp_path, lambda *_: None)
