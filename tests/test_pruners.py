"""Every registered pruner conforms; each formula against numbers worked out independently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from harness import checkpoints, registry
from harness.api import Check, Path, Problem, TokenStats
from harness.testing import conformance
from pruners.external_fixed.jaccard import Jaccard, mean_similarity
from pruners.internal_fixed.deepconf import DeepConfLowest, group_confidence

VARIANTS = ("deepconf-lowest:window=8", "jaccard:keep=central")


@pytest.mark.parametrize("spec", [*registry.names("pruners"), *VARIANTS])
def test_conforms_on_the_embedded_model(spec: str, hands: Any, hands_engine: Any) -> None:
    plugin = registry.pruner(spec)
    checkpoints.attach(plugin, hands_engine)
    findings = list(conformance(plugin.pruner, hands, hands_engine, hands.defaults.prefixes[0]))
    assert len(findings) >= 4
    assert [f for f in findings if f[1] is not None] == []


def test_every_quadrant_has_a_member() -> None:
    quadrants = {registry.pruner(n).pruner.quadrant for n in registry.names("pruners")}
    assert quadrants == {"control", "external-fixed", "external-learned", "internal-fixed", "internal-learned"}


class Cheats:
    """Breaks one rule each; the suite must say which."""

    quadrant, needs, fidelity = "control", frozenset({"text"}), "exact"

    def __init__(self, how: str) -> None:
        self.how, self.calls = how, 0

    def score(self, prefixes: Sequence[Path], check: Check) -> Any:
        self.calls += 1
        return {
            "nan": [float("nan")] * len(prefixes),
            "count": [0.0],
            "position": list(range(len(prefixes))),
            "memory": [float(self.calls)] * len(prefixes),
            "answer": [float(p.problem.answer or "nan") for p in prefixes],
            "undeclared": [p.stats.logprob.mean() for p in prefixes if p.stats] or [0.0],
        }[self.how]


@pytest.mark.parametrize("how", ["nan", "count", "position", "memory", "answer", "undeclared"])
def test_the_suite_catches(how: str) -> None:
    task, engine = registry.task("toy"), registry.engine("toy", "toy", registry.task("toy").defaults.sampling)
    assert any(problem for _, problem in conformance(Cheats(how), task, engine, 5))


def path(text: str = "", **stats: Sequence[float]) -> Path:
    columns = {f: np.array(stats.get(f, [0.0]), dtype=np.float16) for f in TokenStats.__dataclass_fields__}
    return Path(Problem("p", "q", "0"), 0, 0, (1,), text, TokenStats(**columns))


def scores(spec: str, paths: list[Path]) -> list[float]:
    return np.asarray(registry.pruner(spec).pruner.score(paths, Check(np.random.default_rng(0)))).tolist()


def test_confidence_scores_by_hand() -> None:
    a = path(logprob=[-1, -2, -3], entropy=[0.5, 1.5], confidence=[4, 2, 6, 0])
    b = path(logprob=[-0.5], entropy=[0.25], confidence=[3])
    assert scores("logprob", [a, b]) == pytest.approx([-2, -0.5])
    assert scores("entropy", [a, b]) == pytest.approx([-1.0, -0.25])
    assert scores("deepconf", [a, b]) == pytest.approx([3, 3])
    assert scores("deepconf-lowest:window=2", [a, b]) == pytest.approx([3, 3])  # windows of a: 3, 4, 3
    assert scores("deepconf-lowest:window=1", [a, b]) == pytest.approx([0, 3])


def test_deepconf_window_longer_than_the_prefix_is_the_mean() -> None:
    """METHODS fact: at L <= 2,048 the published windowed signals collapse to the mean."""
    trace = np.random.default_rng(0).random(50).astype(np.float16)
    assert group_confidence(trace, 2048).tolist() == [pytest.approx(trace.astype(float).mean())]
    assert len(group_confidence(trace, 8)) == 43
    assert DeepConfLowest().window == 2048


def test_jaccard_by_hand() -> None:
    """{a b} {b c} {a b}: similarities 1/3, 1, 1/3 -> means 2/3, 1/3, 2/3."""
    paths = [path("a b"), path("b C"), path("A b b")]
    assert scores("jaccard", paths) == pytest.approx([-2 / 3, -1 / 3, -2 / 3])
    assert scores("jaccard:keep=central", paths) == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert Jaccard().score([path("a")], Check(np.random.default_rng(0))).tolist() == [0.0]
    assert mean_similarity([set(), set(), {"a"}]).tolist() == [0.5, 0.5, 0.0]
