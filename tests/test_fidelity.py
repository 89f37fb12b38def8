"""What tables say of methods: whose their parts are, what their gain is of, and which of them are one and the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.api import Check, Cost, Origins, Path, PathpruneError
from harness.plugins.declared import traits_of
from harness.report import groups_of
from harness.report.rows import Row, rows
from harness.runners.bench import bench


@pytest.mark.parametrize(
    ("origins", "label"),
    [
        (Origins("code", "code"), "exact"),
        (Origins("code", "paper"), "paper-specified"),
        (Origins("paper", "paper", "code"), "paper-specified"),
        (Origins("code"), "adapted (decision)"),
        (Origins("code", "code", "ours"), "adapted (training)"),
        (Origins("adapted", "ours", "adapted"), "adapted (signal, decision, training)"),
        (Origins(), "definition"),
        (Origins("adapted", "paper", by="STOP"), "as re-implemented by STOP"),
    ],
)
def test_fidelity_follows_from_the_parts(origins: Origins, label: str) -> None:
    assert origins.fidelity == label


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        ("deepconf-online", "paper-specified"),  # with the paper's stop at consensus
        ("deepconf-online:consensus=0", "exact"),
        ("deepconf-online:consensus=0,eta=90,window=1024", "exact"),
        ("deepconf-online:consensus=0,window=0.15", "adapted (signal)"),
        ("deepconf-online:consensus=0,eta=50", "adapted (decision)"),
        ("deepconf-online:consensus=0.9,window=8", "adapted (signal, decision)"),
        ("deepconf-offline:statistic=tail,top=0.1", "exact"),
        ("deepconf-offline:statistic=lowest,top=0.1", "paper-specified"),
        ("deepconf-offline:statistic=tail,window=8", "adapted (signal)"),
        ("deepconf", "adapted (decision)"),
        ("st-bon-online", "exact"),
        ("stop", "adapted (training)"),
        ("logprob", "definition"),
        ("random", "definition"),
    ],
)
def test_exact_is_what_all_parts_are(spec: str, label: str) -> None:
    assert registry.pruner(spec).traits.fidelity == label


def test_no_method_of_ours_types_its_label() -> None:
    for name in registry.names("pruners"):
        kind = registry.load("pruners", name)[0]
        typed = [base.__name__ for base in kind.__mro__ if "fidelity" in vars(base)]
        assert not typed and isinstance(registry.pruner(name).pruner.origins, Origins), name


class Scored:
    """Keeps paths by their index, in one direction or the other."""

    quadrant, needs = "external-fixed", frozenset[str]()

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return self.sign * np.array([float(p.index) for p in prefixes])


def made(name: str, **members: Any) -> Any:
    return type(name, (Scored,), members)


def test_a_plug_in_may_type_a_label_or_declare_origins() -> None:
    assert traits_of(made("A", fidelity="mine")(), "a").fidelity == "mine"
    assert traits_of(made("B", origins=Origins("code"))(), "b").fidelity == "adapted (decision)"
    assert traits_of(made("C")(), "c").fidelity == "not stated"
    with pytest.raises(PathpruneError, match=r"origins must be harness\.api\.Origins, not 'exact'"):
        traits_of(made("D", origins="exact")(), "d")
    with pytest.raises(PathpruneError, match="signal must be one of code, paper, adapted, ours"):
        Origins("exactly")  # type: ignore[arg-type]
    with pytest.raises(PathpruneError, match="ranked_by"):
        traits_of(made("E", ranked_by="vote")(), "e")


def table(run: Any, *kinds: Any) -> dict[str, Row]:
    plugins = [registry.of_object(kind()) for kind in kinds]
    bench(run, plugins, lambda done, note: None)
    return {row.name: row for row in rows(next(groups_of(run.folder)), 3)}


def test_who_prunes_redundancy_is_ranked_by_votes(toy_run: Any) -> None:
    """The same scores: the gain is of cons@k over random's in one row, of avg@k in the other."""
    shown = table(toy_run(problems=30), made("ByPaths"), made("ByVotes", ranked_by="votes"))
    chance, paths, votes = shown["random (expected)"], shown["ByPaths:sign=1.0"], shown["ByVotes:sign=1.0"]
    assert paths.accuracy == votes.accuracy and paths.voted == votes.voted
    assert paths.gain and paths.gain.mean == pytest.approx(paths.accuracy.mean - chance.accuracy.mean)
    assert votes.gain and votes.gain.mean == pytest.approx(votes.voted.mean - chance.voted.mean)
    assert votes.gain.mean != pytest.approx(paths.gain.mean, abs=1e-3) and "gain of votes" in votes.note


def test_methods_that_keep_the_same_paths_are_one_row_and_one_hypothesis(toy_run: Any) -> None:
    def halved(self: Any, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return Scored.score(self, prefixes, check) / 2

    def charged(self: Any, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        check.charge(Cost(reread=5))
        return Scored.score(self, prefixes, check)

    def backwards(self: Any, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return -Scored.score(self, prefixes, check)

    one, other = made("One"), made("Other", score=backwards)
    run = toy_run(problems=30)
    alone = table(run, one, other)
    shown = table(run, one, other, made("Half", score=halved, fidelity="mine"), made("Dear", score=charged))
    same = shown["One:sign=1.0 = Half:sign=1.0"]
    assert same.fidelity == "not stated / mine" and "2 methods that keep the same paths" in same.note
    assert {r.split(":")[0] for r in shown} >= {"One", "Other", "Dear"} and "Half:sign=1.0" not in shown
    # Two hypotheses before and after: what costs more is a row of its own, of the same hypothesis.
    assert same.adjusted_p == alone["One:sign=1.0"].adjusted_p == shown["Dear:sign=1.0"].adjusted_p
    assert shown["Other:sign=1.0"].adjusted_p == alone["Other:sign=1.0"].adjusted_p


def test_where_paths_end_before_the_prefix_the_official_rule_is_a_second_gain(toy_run: Any) -> None:
    late, early = toy_run(problems=30, prefix=30), toy_run(problems=30, prefix=1)
    plugins = [registry.of_object(made("Some")())]
    shown = {}
    for run in (late, early):
        bench(run, plugins, lambda done, note: None)
        group = next(g for g in groups_of(run.folder) if g.prefix == run.spec.prefixes[0])
        for ended in ("count", "bypass"):
            shown[group.prefix, ended] = {r.name: r for r in rows(group, 3, ended)}["Some:sign=1.0"]
    assert shown[30, "count"].bypassed == shown[30, "bypass"].gain != shown[30, "count"].gain
    assert shown[30, "bypass"].bypassed is None and shown[1, "count"].bypassed is None
