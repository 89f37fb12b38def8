"""Learned pruners: the base never changes, a planted signal is found, what is saved is what is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness import registry
from harness.api import Check, LabelledPrefix
from harness.rng import derive
from harness.supervision import Labels, Recipe, held_out
from tasks.embedded.hands import Hands

SMALL = {
    "stop": "stop:epochs=4,rank=4,lr=0.01,batch=32",
    "linear-probe": "linear-probe:epochs=40,lr=0.01",
    "verifier": "verifier:epochs=6,batch=32,lr=0.001",
    "reward-model": "reward-model:epochs=12,batch=32,lr=0.001",
}


def weights_hash(model: Any) -> str:
    digest = hashlib.sha256()
    for name, value in model.named_parameters():
        digest.update(name.encode() + value.detach().float().numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def planted(hands: Hands, hands_engine: Any) -> list[LabelledPrefix]:
    """Prefixes whose "success" is whether the last token is a digit below 7: plain to any reader."""
    groups = hands_engine.launch(hands.problems("dev", 24), 16, 11, seed=3)
    paths = [p for g in groups for p in g if p.finish == "length"]
    labels = [float(3 <= p.tokens[-1] < 10) for p in paths]
    return [LabelledPrefix(p, s, 1, validation=i % 5 == 0) for i, (p, s) in enumerate(zip(paths, labels, strict=True))]


@pytest.mark.parametrize("name", sorted(SMALL))
def test_training_finds_a_planted_signal_and_survives_saving(
    name: str, planted: list[LabelledPrefix], hands_engine: Any, tmp_path: Path
) -> None:
    if name == "reward-model":  # learns at every position, so its signal has to be there from the first token on
        planted = [replace(e, success=float(e.prefix.tokens[0] > 41)) for e in planted]
    before = weights_hash(hands_engine.model)
    pruner: Any = registry.pruner(SMALL[name]).pruner
    engine = (
        registry.engine("hf", "hands", Hands().defaults.sampling, device="cpu") if name == "verifier" else hands_engine
    )
    metrics = pruner.fit(planted, Check(np.random.default_rng(0), engine), lambda line: None)
    assert min(h["validation"] for h in metrics["history"]) < 0.8 * metrics["prior"]
    prefixes = [e.prefix for e in planted if e.validation][:20]
    check = Check(np.random.default_rng(0), hands_engine)
    scores = np.asarray(pruner.score(prefixes, check))
    pruner.save(tmp_path)
    again: Any = registry.pruner(name).pruner
    again.load(tmp_path)
    # Text models are stored in bfloat16.
    assert np.asarray(again.score(prefixes, check)) == pytest.approx(scores, abs=0.05 if "stop" not in name else 1e-6)
    assert weights_hash(hands_engine.model) == before


def test_greedy_continuation_is_the_same_after_a_check(
    hands: Hands, planted: list[LabelledPrefix], hands_engine: Any
) -> None:
    prefixes = [e.prefix for e in planted[:6]]
    before = [p.tokens for p in hands_engine.resume(prefixes, 60)]
    adapter = hands_engine.new_adapter(tokens=4, rank=16)
    read = hands_engine.reader(prefixes, adapter)
    read(torch.arange(6)).sum().backward()
    assert adapter.embeddings.grad is not None and adapter.embeddings.grad.abs().sum() > 0
    assert all(p.grad is None for p in hands_engine.model.parameters())
    hands_engine.probe(prefixes, adapter)
    assert [p.tokens for p in hands_engine.resume(prefixes, 60)] == before


def test_training_reads_what_probing_reads(planted: list[LabelledPrefix], hands_engine: Any) -> None:
    """The float16 prefix KV of training against the engine's own probe."""
    prefixes = [e.prefix for e in planted[:30]]
    adapter = hands_engine.new_adapter(tokens=4, rank=4)
    with torch.no_grad():
        trained = hands_engine.reader(prefixes, adapter)(torch.arange(30)).numpy()
    assert np.abs(trained - hands_engine.probe(prefixes, adapter)).max() < 0.02


@pytest.fixture
def labels(tmp_path: Path, hands: Hands) -> Any:
    task, engine = registry.task("toy"), registry.engine("toy", "toy", registry.task("toy").defaults.sampling)
    recipe = Recipe(problems=10, n=12, continuations=5, prefixes=(4, 7), max_tokens=48)

    def make() -> Labels:
        made = Labels(tmp_path, task, engine, recipe)
        made.group = 4
        return made

    return make


def test_labels_are_success_rates_split_by_problem(labels: Any) -> None:
    made = labels()
    assert made.make(lambda done, tokens: None) > 0
    examples = made.examples("monte-carlo")
    assert {len(e.prefix.tokens) for e in examples} == {4, 7}
    assert all(0 <= e.success <= 1 and e.success * 5 == pytest.approx(round(e.success * 5)) for e in examples)
    sides: dict[str, set[bool]] = {}
    for e in examples:
        sides.setdefault(e.prefix.problem.id, set()).add(e.validation)
    assert all(len(s) == 1 for s in sides.values())
    assert all(e.success in (0.0, 1.0) for e in made.examples("outcome"))


def test_labels_predict_success(labels: Any) -> None:
    """The label is an unbiased success rate: many fresh continuations agree with it on average."""
    from harness.supervision import continue_often

    made = labels()
    made.make(lambda done, tokens: None)
    examples = made.examples("monte-carlo")
    prefixes = [e.prefix for e in examples]
    fresh = continue_often(made.task, made.engine, prefixes, 40, 48)[0] / 40
    labelled = np.array([e.success for e in examples])
    assert np.corrcoef(labelled, fresh)[0, 1] > 0.5
    assert labelled.mean() == pytest.approx(fresh.mean(), abs=0.05)


def test_a_killed_label_run_continues_to_the_same_files(labels: Any) -> None:
    whole = labels()
    whole.make(lambda done, tokens: None)
    expected = {p.name: p.read_bytes() for p in whole.parts()}
    for lost in whole.parts()[1:]:
        lost.unlink()
    made = labels()
    made.make(lambda done, tokens: None)
    assert {p.name: p.read_bytes() for p in made.parts()} == expected
    assert made.make(lambda done, tokens: None) == 0


@given(st.sets(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=200))
def test_some_problems_are_held_out_however_few_there_are(problems: set[str]) -> None:
    """And of many, those of the hash alone: more labels never move a problem from one side to the other."""
    held = held_out(problems)
    assert held <= problems and len(held) >= min(4, len(problems) // 4)
    by_hash = {p for p in problems if derive("validation", p) % 10 == 0}
    assert by_hash <= held and (held == by_hash or len(held) == min(4, len(problems) // 4))
