"""Every registered pruner conforms; each formula against numbers worked out independently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness import registry, testing
from harness.api import ASKED, Check, Decision, Path
from harness.learn import checkpoints
from harness.testing import conformance
from pruners.external_fixed.jaccard import Jaccard, mean_similarity
from tests.test_signals import path, scores

VARIANTS = (
    "deepconf-lowest:window=8",
    "deepconf-online:window=8",
    "jaccard:keep=central",
    "slimsc:rule=diversity",
    "slimsc-online:threshold=0.6",
)
# Those that read with a model of their own conform on tiny ones, in test_prms.py and test_generative_verifiers.py, and those that
# read what was recorded on an imported pool, in test_import_rewards.py.
PLUGINS = [registry.pruner(n) for n in registry.names("pruners")]
SERVED = [p.name for p in PLUGINS if not p.traits.on_request and "rewards" not in p.traits.needs]
TRIED = [*SERVED, *VARIANTS]


def test_the_embedded_engine_serves_every_paradigm() -> None:
    assert len(SERVED) >= 35


@pytest.fixture(scope="module")
def shared_futures() -> Iterator[None]:
    """The futures of the same prefixes are the same for every method: they are sampled once."""
    sampled, known = testing._futures, {}

    def futures(engine: Any, prefixes: Sequence[Path], task: Any, count: int) -> Any:
        key = (task.name, count, *((p.problem.id, p.seed, p.tokens) for p in prefixes))
        if key not in known:
            known[key] = sampled(engine, prefixes, task, count)
        return known[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(testing, "_futures", futures)
        yield


# One for each thing that is asked of a model: states, those behind an adapter, those of every layer, forced answers, the next
# token, a text read by a model of its own.
OFTEN = ("linear-probe", "stop", "step", "consensus", "st-bon", "verifier")


def asks(spec: str) -> bool:
    """Does it ask the model something, so that it has to be tried on one with weights?"""
    return bool(registry.pruner(spec).traits.needs & ASKED) or spec in ("verifier", "reward-model")


def conforms(spec: str, task: Any, engine: Any) -> None:
    plugin = registry.pruner(spec)
    checkpoints.attach(plugin, engine)
    findings = list(conformance(plugin, task, engine, task.defaults.prefixes[0]))
    assert len(findings) >= 4
    assert [f for f in findings if f[1] is not None] == []


@pytest.mark.parametrize("spec", [s if s in OFTEN else pytest.param(s, marks=pytest.mark.long) for s in TRIED])
@pytest.mark.usefixtures("shared_futures")
def test_conforms_on_the_embedded_model(spec: str, hands: Any, hands_engine: Any) -> None:
    conforms(spec, hands, hands_engine)


@pytest.mark.parametrize("spec", [s for s in TRIED if not asks(s)])
def test_conforms_on_the_toy_engine(spec: str) -> None:
    task = registry.task("toy")
    conforms(spec, task, registry.engine("toy", "toy", task.defaults.sampling))


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


class RuleCheats:
    """A decision rule that breaks one rule each."""

    quadrant, needs, fidelity, warmup = "control", frozenset[str](), "exact", 2

    def __init__(self, how: str) -> None:
        self.how = how

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        lengths = np.array([len(p.tokens) for p in paths])
        later = np.array([p.index >= self.warmup for p in paths])
        spent, weights = lengths.copy(), np.ones(len(paths))
        if self.how == "position":
            weights = np.arange(len(paths), dtype=float)
        elif self.how == "warm-up":
            spent, weights = np.minimum(lengths, 3), np.zeros(len(paths))
        elif self.how == "future":  # what is still to come decides who is stopped at the third token
            doomed = later & np.array([sum(p.tokens) % 2 == 1 for p in paths])
            spent, weights = np.where(doomed, 3, lengths), np.where(doomed, 0.0, 1.0)
        return Decision(spent, weights)


@pytest.mark.parametrize("how", ["position", "warm-up", "future"])
def test_the_suite_catches_rules(how: str) -> None:
    task, engine = registry.task("toy"), registry.engine("toy", "toy", registry.task("toy").defaults.sampling)
    assert any(problem for _, problem in conformance(registry.of_object(RuleCheats(how)), task, engine, 5))


@pytest.mark.parametrize("how", ["nan", "count", "position", "memory", "answer", "undeclared"])
def test_the_suite_catches(how: str) -> None:
    task, engine = registry.task("toy"), registry.engine("toy", "toy", registry.task("toy").defaults.sampling)
    assert any(problem for _, problem in conformance(registry.of_object(Cheats(how)), task, engine, 5))


def test_jaccard_by_hand() -> None:
    """{a b} {b c} {a b}: similarities 1/3, 1, 1/3 -> means 2/3, 1/3, 2/3."""
    paths = [path("a b"), path("b C"), path("A b b")]
    assert scores("jaccard:units=words", paths) == pytest.approx([-2 / 3, -1 / 3, -2 / 3])
    assert scores("jaccard:keep=central,units=words", paths) == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    ids = [replace(path(), tokens=t) for t in ((1, 2), (2, 3), (2, 1, 2))]
    assert scores("jaccard", ids) == pytest.approx([-2 / 3, -1 / 3, -2 / 3])
    labels = {spec: registry.pruner(spec).traits.fidelity for spec in ("jaccard", "jaccard:keep=central")}
    assert labels == {"jaccard": "as re-implemented by STOP", "jaccard:keep=central": "definition"}
    assert Jaccard().score([path("a")], Check(np.random.default_rng(0))).tolist() == [0.0]
    assert mean_similarity([set(), set(), {"a"}]).tolist() == [0.5, 0.5, 0.0]
