"""Policies: a scorer with a stopping rule behind it, replayed and live, and what a schedule gives over random launches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry
from harness.api import FlopModel, PathpruneError
from harness.loop import ScoringError, prune
from harness.replay.latency import Latency, expected_longest, of_rule
from harness.replay.policy import Policy, play
from harness.replay.pool import Pool, no_pruning, random_latency
from harness.replay.stages import Checks, replay_stages
from harness.report.paired import paired
from harness.report.schedule import schedule_of
from harness.report.table import Table
from harness.runners.bench import bench
from harness.runners.live import run_live
from harness.runners.run import Run
from harness.spec import RunSpec, Stage
from harness.vote import majority
from tasks.embedded.hands import Hands

RULES = ["asc:threshold=0.7", "asc:threshold=0.8,batch=2"]


def agrees(run: Run, spec: str) -> None:
    """Finished paths, tokens, FLOPs, vote of a live run against the replay of the scorer's records."""
    method = registry.method(spec)
    bench(run, [method.plugins[0]], lambda done, note: None)
    names = [p.id for p in run.chosen()]
    table = Table.of(run.folder, run.spec, names, None, run.bank, [method])
    judged = next(m for m in table.group.judged if m.name == method.name)
    assert judged.spent is not None and judged.latency is not None
    for q, problem in enumerate(run.chosen()):
        outcome = prune(
            problem, run.task, run.engine, method.plugins[0].pruner, run.spec, None, method.plugins[1].pruner
        )
        assert outcome.kept == tuple(np.flatnonzero(judged.values[q])), f"{spec} finishes other paths"
        assert outcome.cost.generated == judged.spent[q].sum()
        assert outcome.cost.tokens == judged.spent[q].sum() + judged.checks[q].tokens
        assert run.task.correct(outcome.voted, problem) == bool(_voted(judged)[q])


def _voted(method: Any) -> np.ndarray:
    from harness.replay.pool import own_rule

    return own_rule(method.pool, method.spent, method.values, method.checks).voted


@pytest.mark.parametrize("stages", [[(9, 6)], [(4, 7), (8, 5)], [(4, 7), (8, 6), (20, 4)]])
@pytest.mark.parametrize("scorer", ["logprob", "shortest", "deepconf-lowest:window=2"])
@pytest.mark.parametrize("rule", RULES)
def test_live_is_replay(scorer: str, rule: str, stages: Any, toy_run: Callable[..., Run]) -> None:
    agrees(toy_run(n=10, stages=stages, problems=3), f"{scorer}+{rule}")


MINE = """
class Third:
    quadrant = "control"

    def __init__(self):
        self.asked = []

    def stops(self, tally):
        self.asked.append(len(tally.answers))
        return len(self.asked) == 3

class Fails(Third):
    def stops(self, tally):
        return 1 / (3 - len(tally.answers)) < 0

class Locked(Third):
    def __init__(self):
        self.lines = (line for line in "abc")
"""


@pytest.fixture
def mine(tmp_path: FilePath) -> str:
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path}/mine.py"


@pytest.mark.parametrize("stages", [[(9, 6)], [(4, 7), (8, 5)]])
def test_what_a_rule_keeps_does_not_reach_the_next_problem(stages: Any, mine: str, toy_run: Callable[..., Run]) -> None:
    run = toy_run(n=10, stages=stages)
    agrees(run, f"logprob+{mine}@Third")
    method = registry.method(f"logprob+{mine}@Third")
    table = Table.of(run.folder, run.spec, [p.id for p in run.chosen()], None, run.bank, [method])
    assert [int(w.sum()) for w in table.group.judged[-1].values] == [3] * len(run.chosen())


@pytest.mark.parametrize(
    ("name", "told"), [("Fails", "ZeroDivisionError"), ("Locked", "cannot be copied for each problem")]
)
def test_a_rule_that_fails_behind_a_scorer_leaves_the_table(
    name: str, told: str, mine: str, toy_run: Callable[..., Run]
) -> None:
    """Replayed as live: the problems have errors, and all else its results."""
    run, method = toy_run(n=10, stages=[(9, 6)]), registry.method(f"logprob+{mine}@{name}")
    bench(run, [method.plugins[0]], lambda done, note: None)
    problems = run.chosen()
    table = Table.of(run.folder, run.spec, [p.id for p in problems], None, run.bank, [method])
    count, why = table.failures[method.name]
    assert count == len(problems) and told in why and "\n" not in why
    assert {row.name: row.note for row in table.rows}[method.name] == f"{count} errors"
    assert any(row.name == "logprob" and row.problems == count for row in table.rows)
    (scorer, rule) = method.plugins
    with pytest.raises(ScoringError, match=told):
        prune(problems[0], run.task, run.engine, scorer.pruner, run.spec, None, rule.pruner)


@pytest.mark.parametrize("stages", [[(9, 4)], [(4, 5), (8, 3)]])
@pytest.mark.parametrize("spec", ["all+asc:threshold=0.8", "answered+asc:threshold=0.8"])
def test_a_scorer_that_keeps_all_keeps_all_in_front_of_a_rule(
    spec: str, stages: Any, toy_run: Callable[..., Run]
) -> None:
    run = toy_run(n=10, stages=stages)
    method = registry.method(spec)
    if len(stages) > 1 and not method.plugins[0].traits.pointwise:
        return
    bench(run, [method.plugins[0]], lambda done, note: None)
    table = Table.of(run.folder, run.spec, [p.id for p in run.chosen()], None, run.bank, [method])
    replayed = next(m for m in table.group.judged if m.name == method.name)
    for record in run_live(run, [method], lambda done, note: None):
        for q, problem in enumerate(run.chosen()):
            row = record.lines[problem.id]
            assert row["kept"] == np.flatnonzero(replayed.values[q]).tolist()
            assert row["cost"]["generated"] == replayed.spent[q].sum()  # type: ignore[index]


def test_paths_that_a_rule_lets_finish_have_one_vote_each(toy_run: Callable[..., Run]) -> None:
    run = toy_run(n=10, stages=[(9, 6)])
    weighing, method = replace(run, spec=replace(run.spec, vote="borda")), registry.method("logprob+asc:threshold=0.7")
    (record,) = run_live(weighing, [method], lambda done, note: None)
    assert record.header["spec"]["vote"] == "majority"
    for row in record.lines.values():
        assert row["voted"] == majority(row["answers"])


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_alone_runs_live_as_it_is_replayed(rule: str, toy_run: Callable[..., Run]) -> None:
    run = toy_run(stages=[(9, 3)])
    plugin = registry.pruner(rule)
    bench(run, [plugin], lambda done, note: None)
    method = Table.of(run.folder, run.spec, [p.id for p in run.chosen()], None, run.bank).group.judged[0]
    for q, problem in enumerate(run.chosen()):
        outcome = prune(problem, run.task, run.engine, None, run.spec.keeping_all(), None, plugin.pruner)
        assert outcome.kept == tuple(np.flatnonzero(method.values[q]))
        assert outcome.cost.tokens == method.spent[q].sum()  # type: ignore[index]


@pytest.mark.long
@pytest.mark.parametrize("stages", [[(16, 6)], [(16, 8), (40, 4)]])
def test_live_is_replay_on_the_embedded_engine(stages: Any, hands: Hands, hands_engine: Any, tmp_path: Any) -> None:
    spec = RunSpec.of(hands, hands_engine, 8, 120, stages)
    agrees(Run(spec, hands, hands_engine, 2, tmp_path / "results", tmp_path / "bank"), "stop+asc:threshold=0.8")


# -- replay over random launches ---------------------------------------------------------------------------------------


def a_pool(seed: int, n: int) -> Pool:
    rng = np.random.default_rng(seed)
    lengths, answers = rng.integers(1, 60, (3, n)), rng.integers(-1, 4, (3, n))
    right = (answers == 0) | (answers == 2)
    return Pool(
        ("a", "b", "c"), right, answers, lengths, rng.random((3, n)) < 0.8, rng.integers(1, 9, 3), FlopModel(3.0, 0.5)
    )


def some_checks(seed: int, n: int) -> Checks:
    rng = np.random.default_rng(seed + 1)
    return Checks(
        rng.integers(0, 5, (3, n)).astype(np.float32), rng.integers(0, 3, (3, n)).astype(float), np.zeros((3, n)),
        rng.integers(0, 4, 3).astype(float), np.zeros(3),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 12), st.integers(1, 20), st.integers(1, 20), st.data())
def test_a_whole_launch_is_the_replay_of_its_stages(seed: int, n: int, first: int, further: int, data: Any) -> None:
    pool, checks = a_pool(seed, n), [some_checks(seed, n), some_checks(seed + 7, n)]
    more = data.draw(st.integers(1, n))
    stages = (Stage(first, more), Stage(first + further, data.draw(st.integers(1, more))))
    played, (replayed, _) = play(pool, Policy(n, stages), checks), replay_stages(pool, checks, stages)
    assert replayed.latency is not None
    for one, other in (
        (played.voted, replayed.voted),
        (played.tokens, replayed.tokens),
        (played.serial, replayed.latency.serial),
    ):
        np.testing.assert_allclose(one, other)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 10))
def test_no_cut_and_no_rule_is_no_pruning(seed: int, n: int) -> None:
    pool = a_pool(seed, n)
    played, whole = play(pool, Policy(n)), no_pruning(pool)
    np.testing.assert_allclose(played.voted, whole.voted)
    np.testing.assert_allclose(played.tokens, whole.tokens)
    np.testing.assert_allclose(played.serial, pool.lengths.max(1))


class Never:
    quadrant = "control"

    def __init__(self, order: str = "sequential", batch: int = 1) -> None:
        self.order, self.batch = order, batch

    def stops(self, tally: Any) -> bool:
        return False


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 10), st.integers(1, 20))
def test_a_rule_that_never_stops_changes_only_latency(seed: int, n: int, prefix: int) -> None:
    """One after another the chain is the sum of what is left; side by side it is that of no rule."""
    pool, checks, stages = a_pool(seed, n), [some_checks(seed, n)], (Stage(prefix, 2),)
    without = play(pool, Policy(n, stages), checks)
    for order in ("sequential", "parallel"):
        with_rule = play(pool, Policy(n, stages, Never(order)), checks)
        np.testing.assert_allclose(with_rule.voted, without.voted)
        np.testing.assert_allclose(with_rule.tokens, without.tokens)
        assert (with_rule.serial >= without.serial).all()
        if order == "parallel":
            np.testing.assert_allclose(with_rule.serial, without.serial)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 9), st.data())
def test_the_longest_of_a_random_subset_has_its_expectation(seed: int, n: int, data: Any) -> None:
    from itertools import combinations

    count, values = data.draw(st.integers(1, n)), np.random.default_rng(seed).integers(0, 9, (2, n))
    every = [values[:, list(chosen)].max(1) for chosen in combinations(range(n), count)]
    np.testing.assert_allclose(expected_longest(values, count), np.mean(every, axis=0))


def test_where_nobody_goes_on_there_is_no_further_round() -> None:
    """Of four paths three have ended at the cut: keeping one, somebody goes on in a quarter of the draws."""
    pool = a_pool(1, 4)
    pool = replace(pool, lengths=np.array([[3, 4, 5, 9]] * 3))
    assert random_latency(pool, [5], [1]).rounds == pytest.approx([1.25] * 3)
    for scores, rounds, serial in (([4, 3, 2, 1], 1, 5), ([1, 2, 3, 4], 2, 9)):
        checks = [replace(some_checks(1, 4), scores=np.array([scores] * 3, np.float32))]
        played, (staged, _) = play(pool, Policy(4, (Stage(5, 1),)), checks), replay_stages(pool, checks, (Stage(5, 1),))
        stopped = play(pool, Policy(4, (Stage(5, 1),), Never()), checks)
        assert staged.latency is not None
        for one in (played, stopped, staged.latency):
            assert (one.rounds == rounds).all() and (one.serial == serial).all()


@pytest.mark.parametrize(
    ("order", "serial", "rounds"),
    [((0, True, 1), 14, 3), ((0, True, 2), 9, 2), ((2, True, 1), 9, 2), ((0, False, 1), 5, 1), ((1, False, 1), 10, 2)],
)
def test_rounds_follow_from_the_order_of_generation(order: Any, serial: int, rounds: int) -> None:
    latency = of_rule(np.array([[5, 5, 4, 0]]), *order)
    assert isinstance(latency, Latency)
    assert (latency.serial[0], latency.rounds[0]) == (serial, rounds)


# -- specs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("stop+logprob", "'stop+logprob': logprob is not a stopping rule; known: agreement, asc, "),
        ("asc+asc", "asc decides by a rule of its own"),
        ("deepconf-online+asc", "decides by a rule of its own"),
        ("stop+ascc", "stop+ascc"),
        ("asc:threshold=1", "between 0 and 1"),
        ("asc:threshold=0", "between 0 and 1"),
        ("asc:order=both", "sequential or parallel"),
        ("asc:batch=0", "batch 1 or more"),
        ("asc:order=parallel,batch=2", "leave out batch"),
        ("stop+asc:threshold=2", "between 0 and 1"),
    ],
)
def test_a_bad_spec_is_one_line(spec: str, told: str) -> None:
    with pytest.raises(PathpruneError, match=told.replace("+", r"\+")) as caught:
        registry.method(spec)
    assert "\n" not in str(caught.value)


def test_a_plus_in_an_option_is_no_rule() -> None:
    method = registry.method("stop:targets=q_proj+k_proj")
    assert method.rule is None and method.scorer is not None
    assert registry.method("stop:targets=q_proj+k_proj+asc").name == "stop:targets=q_proj+k_proj+asc"


def test_a_scorer_without_scores_has_no_line(toy_run: Callable[..., Run]) -> None:
    run = toy_run(stages=[(4, 7), (8, 5)])
    bench(run, [registry.pruner("logprob"), registry.pruner("jaccard")], lambda done, note: None)
    group, left_out = schedule_of(run.folder, run.spec, [p.id for p in run.chosen()])
    assert left_out == ["jaccard"] and paired(registry.method("jaccard+asc"), group, run.spec) is None


@pytest.mark.parametrize("spec", ["short", "logprob+asc:order=parallel"])
def test_paths_that_a_rule_stops_side_by_side_are_replayed_and_refused_live(
    spec: str, toy_run: Callable[..., Run]
) -> None:
    """The replay stands in the table; the refusal is one line that names what runs."""
    from harness.runners.live import check_live

    run, method = toy_run(n=10, stages=[(9, 6)]), registry.method(spec)
    bench(run, [method.plugins[0]], lambda done, note: None)
    pairs = [method] if len(method.plugins) > 1 else []
    table = Table.of(run.folder, run.spec, [p.id for p in run.chosen()], None, run.bank, pairs)
    assert next(m for m in table.group.judged if m.name == method.name).latency is not None
    with pytest.raises(PathpruneError, match=r"stops paths that run side by side.*such as asc") as caught:
        check_live(method.plugins[-1], run.engine)
    assert "\n" not in str(caught.value)
