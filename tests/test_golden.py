"""Methods against numbers that their authors' code gave, run on the same made-up paths; the code itself is not here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.api import Check
from harness.loop import decide
from tasks.toy import Toy
from tests.test_signals import FakeStates, path

CONFIDENCES = [
    [9.0, 5.7, 10.2, 9.2, 7.3, 9.5], [8.4, 9.5], [6.3, 8.5, 7.3, 6.7], [7.2, 6.7, 9.8, 9.2, 1.8],
    [5.3, 6.5, 6.5], [9.4, 14.2, 11.4, 11.4], [7.8, 7.7, 5.0, 6.1, 7.3, 5.6, 7.3], [7.1, 9.3, 9.9, 8.7, 6.5, 9.6, 7.1],
]  # fmt: skip
SAID = ["", "answer 1", "", "answer 1", "answer 2", "answer 2", "answer 2", ""]


def rule(spec: str) -> Any:
    paths = [path(t, i, len(c), confidence=c) for i, (t, c) in enumerate(zip(SAID, CONFIDENCES, strict=True))]
    return decide(registry.pruner(spec).pruner, paths, None, Toy(), 0)[0]


@pytest.mark.parametrize(("eta", "last"), [(10, 5), (90, 7)])
def test_deepconf_online(eta: int, last: int) -> None:
    """facebookresearch/deepconf at 675529d: its wrapper's bar, logits processor and vote. It rounds to 3 decimals."""
    decision = rule(f"deepconf-online:eta={eta},window=3,warmup=4,consensus=0")
    assert decision.spent.tolist() == [6, 2, 4, 5, 3, 4, 3, last]
    assert decision.weights.tolist() == pytest.approx([0, 8.95, 0, 0, 0, 11.667, 0, 0], abs=3e-3)


def test_st_bon_online() -> None:
    """Alsace08/ST-BoN at b075471: its stopping criterion and its second stage on the states below."""
    rng = np.random.default_rng(11)
    tokens = rng.integers(0, 2, (6, 40))
    states = (rng.normal(size=(6, 4, 41, 8)) + rng.normal(size=(4, 1, 8))).astype(np.float32)
    paths = [replace(path(index=i), tokens=tuple(t.tolist())) for i, t in enumerate(tokens)]
    check = Check(np.random.default_rng(0), FakeStates(dict(enumerate(states))))
    decision = registry.pruner("st-bon-online").pruner.decide(paths, check)
    assert decision.spent.tolist() == [12, 40, 12, 12, 12, 12] and decision.weights.argmax() == 1  # votes 3 0 2 2 1 1
    prefixes = [replace(p, tokens=p.tokens[:12]) for p in paths]
    typical = registry.pruner("st-bon").pruner.score(prefixes, check)
    assert typical == pytest.approx([-0.027341, -0.016488, -0.023725, -0.027451, -0.072455, -0.030172], rel=1e-4)
    ended = [*paths[:5], replace(paths[5], tokens=paths[5].tokens[:2])]
    early = registry.pruner("st-bon-online").pruner.decide(ended, check)
    assert sorted(early.spent)[:5] == [2, 4, 4, 4, 4] and (early.weights > 0).sum() == 1  # c = 2, the first end
