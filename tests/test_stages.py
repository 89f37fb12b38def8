"""Several cuts in a row: the live run and its replay from records agree path by path, and one cut is the case as before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry
from harness.api import FlopModel, PathpruneError
from harness.learn import checkpoints
from harness.loop import prune
from harness.replay.pool import Pool, generation_cost, random_pruning
from harness.replay.stages import Checks, from_rows, generation, random_stages, replay_stages, survivors
from harness.runners.bench import bench, open_record
from harness.runners.run import Run
from harness.spec import RunSpec, Stage, parse_stages
from harness.store.records import Record
from tasks.embedded.hands import Hands


def served(task: Any, engine: Any) -> list[str]:
    """Every registered method that scores paths one by one and has what it needs on this engine."""
    plugins = [registry.pruner(name) for name in registry.names("pruners")]
    return [p.name for p in plugins if p.traits.pointwise and not checkpoints.unavailable(p, engine)]


def agrees(run: Run, name: str) -> None:
    """Kept paths of every stage, vote, tokens and FLOPs of the live run, against the replay of the records."""
    plugin = registry.pruner(name)
    bench(run, [plugin], lambda done, note: None)
    pool_record = Record.read(run.folder / "pool.jsonl")
    pool = Pool.from_record(pool_record.header, pool_record.lines, run.spec.n)
    checks = [
        from_rows([open_record(run, plugin, prefix).lines[p] for p in pool.problems], run.spec.n)
        for prefix in run.spec.prefixes
    ]
    masks = survivors(pool, checks, run.spec.stages, run.spec.ended)
    result, _ = replay_stages(pool, checks, run.spec.stages, run.spec.ended)
    for q, problem in enumerate(run.chosen()):
        outcome = prune(problem, run.task, run.engine, plugin.pruner, run.spec)
        for played, mask in zip(outcome.rounds, masks, strict=True):
            assert played.kept == tuple(np.flatnonzero(mask[q])), f"{name} keeps other paths"
        assert outcome.cost.tokens == result.tokens[q]
        assert outcome.cost.flops == pytest.approx(result.flops[q])
        assert run.task.correct(outcome.voted, problem) == bool(result.voted[q])


@pytest.mark.parametrize("ended", ["count", "bypass"])
@pytest.mark.parametrize("stages", [[(5, 4), (9, 2)], [(4, 6), (8, 4), (20, 1)], [(9, 3)]])
@pytest.mark.parametrize("name", ["logprob", "first", "random", "shortest", "entropy", "deepconf-lowest:window=2"])
def test_live_is_replay_on_the_toy_engine(name: str, stages: Any, ended: Any, toy_run: Callable[..., Run]) -> None:
    agrees(toy_run(stages=stages, ended=ended, problems=3), name)


@pytest.fixture(scope="module")
def two_cuts(hands: Hands, hands_engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("stages")
    spec = RunSpec.of(hands, hands_engine, 6, 120, [(16, 4), (40, 2)])
    return Run(spec, hands, hands_engine, 1, folder / "results", folder / "bank")


@pytest.mark.parametrize("name", ["stop", "step", "verifier"])
def test_live_is_replay_on_the_embedded_engine(name: str, two_cuts: Run) -> None:
    """For those that read hidden states and those that read the text again."""
    agrees(two_cuts, name)


@pytest.mark.long
def test_live_is_replay_for_every_pointwise_method(two_cuts: Run) -> None:
    names = served(two_cuts.task, two_cuts.engine)
    assert {"stop", "otv", "step", "clue", "linear-probe", "mlp-probe", "verifier", "reward-model", "logprob"} <= set(
        names
    )
    for name in names:
        agrees(two_cuts, name)


def test_what_looks_at_the_set_is_not_pointwise() -> None:
    """The conformance suite would catch a wrong declaration; these have to be left out of replayed schedules."""
    for name in ("jaccard", "central", "diverse", "slimsc", "consensus", "st-bon"):
        assert not registry.pruner(name).traits.pointwise


def test_a_wrong_declaration_is_caught(hands: Hands) -> None:
    from harness.testing import conformance

    class Ranks:
        quadrant, needs, pointwise = "control", frozenset({"text"}), True

        def score(self, prefixes: Sequence[Any], check: Any) -> np.ndarray:
            lengths = np.array([len(p.text) for p in prefixes])
            return lengths - lengths.mean()

    class Pays:
        quadrant, needs, pointwise = "control", frozenset({"text"}), True

        def score(self, prefixes: Sequence[Any], check: Any) -> np.ndarray:
            from harness.api import Cost

            check.charge(Cost(reread=len(prefixes)))
            return np.zeros(len(prefixes))

    task, engine = registry.task("toy"), registry.engine("toy", "toy", registry.task("toy").defaults.sampling)
    found = {name for name, wrong in conformance(registry.of_object(Ranks()), task, engine, 5) if wrong}
    assert any("whatever stands beside it" in name for name in found)
    found = {name for name, wrong in conformance(registry.of_object(Pays()), task, engine, 5) if wrong}
    assert any("cost what is charged to each" in name for name in found)


def pools(seed: int, n: int) -> Pool:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 60, (3, n))
    return Pool(
        ("a", "b", "c"), rng.random((3, n)) < 0.5, rng.integers(-1, 4, (3, n)), lengths, rng.random((3, n)) < 0.8,
        rng.integers(1, 9, 3), FlopModel(3.0, 0.5),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 30))
def test_one_stage_costs_what_one_cut_did(seed: int, n: int, prefix: int) -> None:
    pool = pools(seed, n)
    mask = np.random.default_rng(seed + 1).random(pool.correct.shape)
    for one, other in zip(generation(pool, [prefix], [mask])[::2], generation_cost(pool, mask, prefix), strict=True):
        assert one == pytest.approx(other)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 12), st.integers(1, 20), st.integers(1, 20))
def test_a_stage_that_drops_nobody_changes_nothing(seed: int, n: int, first: int, further: int) -> None:
    pool, rng = pools(seed, n), np.random.default_rng(seed)
    free = np.zeros((3, n))
    checks = [Checks(rng.random((3, n)), free, free, np.zeros(3), np.zeros(3)) for _ in range(2)]
    both = [Stage(first, n), Stage(first + further, 2)]
    one, other = replay_stages(pool, checks, both)[0], replay_stages(pool, checks[1:], both[1:])[0]
    assert one.cold is other.cold is None
    assert all(np.allclose(getattr(one, f), getattr(other, f)) for f in set(vars(one)) - {"cold", "latency"})
    assert one.latency is not None and other.latency is not None
    # Waiting at the first stage can only lengthen the chain: who is longest there may not be longest behind it.
    assert (one.latency.serial >= other.latency.serial).all()


def test_random_survivors_have_the_expected_cost() -> None:
    pool, stages = pools(3, 10), [Stage(5, 6), Stage(20, 2)]
    exact, rng = random_stages(pool, stages), np.random.default_rng(0)
    free = np.zeros(pool.correct.shape)
    tokens = []
    for _ in range(2000):
        checks = [Checks(rng.random(pool.correct.shape), free, free, np.zeros(3), np.zeros(3)) for _ in stages]
        tokens.append(replay_stages(pool, checks, stages)[0].tokens)
    assert np.mean(tokens, 0) == pytest.approx(exact.tokens, rel=0.02)
    assert exact.accuracy == pytest.approx(random_pruning(pool, 2, 20).accuracy)


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ("16", "'16' is not PREFIX:KEEP"),
        ("16:a", "is not PREFIX:KEEP"),
        ("16:4,9:2", "does not come after"),
        ("16:4,16:2", "does not come after"),
        ("16:4,30:5", "keep must be from 1 to the 4"),
        ("16:9", "keep must be from 1 to n = 8, not 9"),
        ("16:0", "keep must be from 1 to n = 8, not 0"),
        ("0:4", "prefix must be from 1 to 47"),
        ("48:4", "prefix must be from 1 to 47, below the token limit of 48, not 48"),
    ],
)
def test_a_schedule_that_cannot_be_run_is_one_line(stages: str, says: str, toy_run: Callable[..., Run]) -> None:
    with pytest.raises(PathpruneError, match=says):
        toy_run(stages=parse_stages(stages))


def test_keys_are_what_they_were(toy_run: Callable[..., Run]) -> None:
    """A run of one stage is named as before there were several: present records are found again."""
    spec = toy_run(n=8, prefix=5, keep=3, limit=48).spec
    assert set(spec.pool) == {"task", "task_version", "engine", "seed", "max_tokens", "n"}
    assert spec.live.items() >= {"prefix": 5, "keep": 3, "ended": "count", "vote": "majority", "live": True}.items()
    assert spec.scored_at(5)["prefix"] == 5 and str(spec) == "8 -> 3 at 5"


def test_results_are_kept(tmp_path: FilePath, toy_run: Callable[..., Run]) -> None:
    """A second bench of another schedule scores only at the lengths that are new."""
    run = toy_run(stages=[(5, 4), (9, 2)])
    bench(run, [registry.pruner("logprob")], lambda done, note: None)
    files = {f.name for f in run.folder.glob("L*.jsonl")}
    again = toy_run(stages=[(5, 2)])
    assert bench(again, [registry.pruner("logprob")], lambda done, note: None).sampled == 0
    assert {f.name for f in run.folder.glob("L*.jsonl")} == files


def test_a_table_along_a_schedule(tmp_path: FilePath, run_cli: Any) -> None:
    """Its numbers are those of the live run; what scores paths as a set is left out by name."""
    import pathprune as pp

    asked: dict[str, Any] = {
        "task": "toy",
        "engine": "toy",
        "n": 8,
        "problems": 6,
        "progress": False,
        "stages": [(5, 4), (9, 2)],
    }
    asked |= {"results": tmp_path / "results"}
    table = pp.bench("logprob,jaccard,deepconf-offline", bank=tmp_path / "bank", **asked)
    line = table.frame().set_index("name").loc["logprob"]
    live = pp.live("logprob", **asked).frame()
    assert line.accuracy_mean == pytest.approx((live.right / 2).mean(), abs=1e-6)
    assert line.voted_mean == pytest.approx(live.correct.mean(), abs=1e-6)
    assert line.tokens_mean == pytest.approx((live["cost.generated"] + live["cost.probed"]).mean(), abs=1e-6)
    assert table.as_sets == ("jaccard",) and "deepconf-offline" in set(table.frame().name)
    assert "8 -> 4 at 5 -> 2 at 9 tokens" in table.title
    with pytest.raises(PathpruneError, match="figures show a single cut"):
        table.plot()
    given = ("--task", "toy", "--engine", "toy", "--n", "8", "--problems", "6", "--results", str(tmp_path / "results"))
    code, said = run_cli(
        "bench", *given, "--bank", str(tmp_path / "bank"), "--pruner", "logprob,jaccard", "--stages", "5:4,9:2"
    )
    assert code == 0 and "left out of the schedule: jaccard" in said and "0 tokens generated" in said
