"""Packed weights: another order in memory, the same layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from harness import registry
from harness.api import Path, PathpruneError
from harness.engines.hf.packing import PackedLinear
from harness.testing import engine_conformance
from tasks.embedded.hands import Hands

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN")


@pytest.fixture(scope="module")
def packed(hands: Hands) -> Any:
    return registry.engine("hf", "hands", hands.defaults.sampling, device="cpu", packed=True, rows=64)


@pytest.fixture(scope="module")
def prefixes(hands: Hands, hands_engine: Any) -> list[Path]:
    return [p for group in hands_engine.launch(hands.problems("dev", 2), 5, 22, seed=5) for p in group]


def test_a_packed_engine_conforms(packed: Any, hands: Hands) -> None:
    assert [f for f in engine_conformance(packed, hands, cuts=(22,)) if f[1]] == []


def test_every_linear_layer_is_packed_and_computes_what_it_did(
    packed: Any, hands_engine: Any, prefixes: list[Path]
) -> None:
    linear = [m for m in packed.model.modules() if isinstance(m, torch.nn.Linear)]
    assert linear and all(isinstance(m, PackedLinear) for m in linear)
    assert not any(isinstance(m, PackedLinear) for m in hands_engine.model.modules())
    tokens = list(range(20))
    ours, plain = (e.next_logprobs(prefixes, tokens) for e in (packed, hands_engine))
    np.testing.assert_allclose(ours, plain, atol=1e-4)


def test_an_adapter_learns_as_on_plain_weights(packed: Any, hands_engine: Any, prefixes: list[Path]) -> None:
    def step(engine: Any) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
        adapter = engine.new_adapter(tokens=4, rank=8, seed=0)
        reader = engine.reader(prefixes, adapter)
        states = reader(torch.arange(len(prefixes)))
        states.square().sum().backward()
        learned = {name: p.grad for name, p in adapter.named_parameters() if p.grad is not None}
        return engine.probe(prefixes, adapter), learned

    (ours, mine), (plain, theirs) = step(packed), step(hands_engine)
    np.testing.assert_allclose(ours, plain, atol=1e-4)
    assert mine.keys() == theirs.keys() and any(g.abs().max() > 1e-3 for g in mine.values())
    for name, gradient in mine.items():
        assert (gradient - theirs[name]).norm() <= 1e-2 * theirs[name].norm() + 1e-4, name  # float32 rounds differently


def test_clones_of_a_model_share_its_packed_weights(packed: Any) -> None:
    own = {id(m.packed) for m in packed.model.modules() if isinstance(m, PackedLinear)}
    branch = packed.new_adapter(tokens=4, rank=8).branch
    shared = {id(m.packed) for m in branch.modules() if isinstance(m, PackedLinear)}
    assert shared and shared <= own


def test_other_precisions_are_refused(hands: Hands) -> None:
    engine = registry.engine("hf", "hands", hands.defaults.sampling, dtype="bfloat16", device="cpu", packed=True)
    with pytest.raises(
        PathpruneError, match=r"^packed=true is for float32 on a CPU, not for bfloat16 on cpu; leave it out$"
    ):
        engine.launch(hands.problems("dev", 1), 1, 2, 0)
