"""Paths that end inside a prefix vote in addition to those kept: live runs, replays, sweeps and tables agree on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry, report
from harness.loop import prune
from harness.replay.policy import Played, Policy, play, play_keeps
from harness.replay.pool import Pool, ended_inside, kept_mask, replay, weighted_vote
from harness.replay.stages import Checks, from_rows, replay_stages
from harness.replay.sweep import orders, sweep
from harness.report.budgets import budgets, markdown
from harness.report.matched import curves
from harness.rng import generator
from harness.runners.bench import bench, open_record
from harness.runners.run import Run
from harness.spec import Stage, parse_stages
from tests.test_places import steps_run as steps_run
from tests.test_policies import Never, a_pool, some_checks
from tests.test_sweep import PREFIX, part, pools

ENDED: Any = ("count", "bypass")
COLUMNS = ("voted", "tokens", "serial", "rounds")
RULES = [
    None,
    Never(batch=2),
    *(registry.pruner(f"asc:threshold=0.7,order={order}").pruner for order in ("sequential", "parallel")),
]


def alike(one: Played, other: Played) -> None:
    for name in COLUMNS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name))


# -- one policy --------------------------------------------------------------------------------------------------------


def read(run: Run, name: str) -> tuple[Pool, list[Checks]]:
    """The paths and a method's scores at every stage of a run, in the order of its problems."""
    plugin = registry.pruner(name)
    bench(run, [plugin], lambda done, note: None)
    record = report.records.pool_of(run.folder)
    pool = Pool.from_record(record.header, {p.id: record.lines[p.id] for p in run.chosen()}, run.spec.n)
    lines = [open_record(run, plugin, prefix).lines for prefix in run.spec.prefixes]
    return pool, [from_rows([rows[p.id] for p in run.chosen()], run.spec.n) for rows in lines]


@pytest.mark.parametrize("ended", ["count", "bypass"])
@pytest.mark.parametrize("rule", ["", "asc:threshold=0.7", "asc:batch=2,threshold=0.8"])
@pytest.mark.parametrize("stages", ["20:4", "12:6,24:3", "step@9:5", "forced@10:5,step@24:2", "step@9:6,20:2"])
def test_a_policy_is_what_runs_live(stages: str, rule: str, ended: Any, steps_run: Callable[..., Run]) -> None:
    """Votes and tokens, for two cuts, places and rules; the pool has paths that end inside the prefixes."""
    run = steps_run(stages, n=10, ended=ended)
    pool, checks = read(run, "logprob")
    assert ended_inside(pool, run.spec.prefixes[-1]).any()
    plugin = registry.pruner(rule).pruner if rule else None
    played = play(pool, Policy(run.spec.n, run.spec.stages, plugin, rule, ended), checks)
    for q, problem in enumerate(run.chosen()):
        scorer = registry.pruner("logprob").pruner
        outcome = prune(problem, run.task, run.engine, scorer, run.spec, rule=plugin)
        assert outcome.cost.tokens == played.tokens[q]
        # A live run looks for all places of a stage side by side, so it waits for the others from the second stage on.
        behind = any(stage.at != "token" for stage in run.spec.stages[1:])
        assert outcome.serial >= played.serial[q] if behind else outcome.serial == played.serial[q]
        assert run.task.correct(outcome.voted, problem) == bool(played.voted[q])


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 12), st.integers(1, 30), st.integers(1, 20), st.data())
def test_a_whole_launch_is_the_replay_of_its_stages(seed: int, n: int, first: int, further: int, data: Any) -> None:
    pool, checks = a_pool(seed, n), [some_checks(seed, n), some_checks(seed + 7, n)]
    more = data.draw(st.integers(1, n))
    stages = (Stage(first, more), Stage(first + further, data.draw(st.integers(1, more))))
    played = play(pool, Policy(n, stages, ended="bypass"), checks)
    replayed, _ = replay_stages(pool, checks, stages, "bypass")
    assert replayed.latency is not None
    np.testing.assert_allclose(played.voted, replayed.voted)
    np.testing.assert_allclose(played.tokens, replayed.tokens)
    np.testing.assert_allclose(played.serial, replayed.latency.serial)
    np.testing.assert_allclose(played.rounds, replayed.latency.rounds)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 10), st.integers(1, 20), st.sampled_from(RULES), st.data())
def test_where_no_path_ends_inside_both_rules_are_one(seed: int, n: int, prefix: int, rule: Any, data: Any) -> None:
    """Paths that the token limit cut off are short, too, and do not count as ended."""
    pool, checks = a_pool(seed, 10), [some_checks(seed, 10), some_checks(seed + 7, 10)]
    pool = replace(pool, stopped=pool.stopped & (pool.lengths > prefix + 5))
    cuts = data.draw(st.integers(1, 2))
    stages = (Stage(prefix, data.draw(st.integers(2, n))), Stage(prefix + 5, 2))[:cuts]
    alike(*(play(pool, Policy(n, stages, rule, ended=ended), checks[:cuts], 4) for ended in ENDED))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 10), st.integers(1, 10), st.sampled_from([None, Never("parallel")]))
def test_where_every_path_ends_inside_all_vote_and_nothing_is_saved(seed: int, n: int, keep: int, rule: Any) -> None:
    pool, check = a_pool(seed, 10), some_checks(seed, 10)
    pool = replace(pool, stopped=np.ones_like(pool.stopped))
    free = replace(check, path_tokens=0 * check.path_tokens, shared_tokens=0 * check.shared_tokens)
    stages = (Stage(int(pool.lengths.max()), min(keep, n)),)
    cut = play(pool, Policy(n, stages, rule, ended="bypass"), [free], 4)
    alike(cut, play(pool, Policy(n), (), 4))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 30), st.sampled_from(RULES), st.data())
def test_a_smaller_launch_is_the_mean_of_its_draws(seed: int, n: int, prefix: int, rule: Any, data: Any) -> None:
    """Each played as a pool of its own, whose paths stand in the order of their indices."""
    pool, checks = a_pool(seed, 10), some_checks(seed, 10)
    policy = Policy(n, (Stage(prefix, data.draw(st.integers(1, n))),), rule, ended=data.draw(st.sampled_from(ENDED)))
    alone = []
    for drawn in orders(10, 4)[:, :n]:
        chosen = tuple(sorted(drawn.tolist()))
        own = replace(checks, **{f: getattr(checks, f)[:, chosen] for f in ("scores", "path_tokens", "path_flops")})
        alone.append(play(part(pool, chosen), policy, [own], 1))
    alike(play(pool, policy, [checks], 4), Played(*(np.mean([getattr(p, f) for p in alone], 0) for f in COLUMNS)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 10), st.integers(1, 30), st.sampled_from(RULES))
def test_numbers_kept_that_are_played_at_once_are_those_played_alone(seed: int, n: int, prefix: int, rule: Any) -> None:
    pool, checks, keeps = a_pool(seed, 10), [some_checks(seed, 10)], [1, 2, 3, 4]
    policies = [Policy(n, (Stage(prefix, keep),), rule, ended="bypass") for keep in keeps]
    for policy, one in zip(policies, play_keeps(pool, policies[0], keeps, checks, 4), strict=True):
        alike(one, play(pool, policy, checks, 4))


def test_the_order_of_problems_does_not_matter() -> None:
    pool, check, order = a_pool(5, 10), some_checks(5, 10), [2, 0, 1]
    moved = replace(check, **{f: getattr(check, f)[order] for f in ("scores", "path_tokens", "shared_tokens")})
    other = pool.subset([pool.problems[q] for q in order])
    for rule in RULES:
        policy = Policy(6, (Stage(25, 2),), rule, ended="bypass")
        one, two = play(pool, policy, [check], 4), play(other, policy, [moved], 4)
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(one, name)[order], getattr(two, name))


# -- every (n, k) ------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(pools(), st.data(), st.booleans())
def test_closed_forms_are_the_mean_over_all_launches(
    given_pool: tuple[Pool, np.ndarray], data: st.DataObject, at_random: bool
) -> None:
    """Every subset of n paths is pruned by the loop's own rule; of random scores the mean over all of their orders."""
    pool, scores = given_pool
    n = data.draw(st.integers(1, min(pool.n, 4) if at_random else pool.n))
    k = data.draw(st.integers(1, n))
    free = ended_inside(pool, PREFIX)
    swept = sweep(pool, None if at_random else scores, PREFIX, [(n, k)], draws=0, free=free)
    results = []
    for chosen in combinations(range(pool.n), n):
        small = part(pool, chosen)
        orders_of = [[order] * len(scores) for order in permutations(range(n))]
        for ranked in orders_of if at_random else [scores[:, chosen]]:
            results.append(replay(small, kept_mask(small, np.array(ranked, float), k, PREFIX, "bypass"), PREFIX))
    for ours, theirs in ((swept.accuracy, "accuracy"), (swept.tokens, "tokens"), (swept.flops, "flops")):
        assert ours[0] == pytest.approx(np.mean([getattr(r, theirs) for r in results], axis=0))


@settings(max_examples=60, deadline=None)
@given(pools(), st.integers(1, 12), st.booleans())
def test_votes_are_the_loops_own_on_the_same_draws(
    given_pool: tuple[Pool, np.ndarray], draws: int, at_random: bool
) -> None:
    pool, scores = given_pool
    grid = [(n, k) for n in range(1, pool.n + 1) for k in range(1, n + 1)]
    swept = sweep(pool, None if at_random else scores, PREFIX, grid, draws=draws, free=ended_inside(pool, PREFIX))
    rng = generator("sweep", pool.n, 0)
    places, chance = (rng.random((draws, pool.n)).argsort(1) for _ in range(2))
    for row, (n, k) in enumerate(grid):
        right = np.zeros(len(pool.problems))
        for drawn, luck in zip(places, chance, strict=True):
            chosen = tuple(np.flatnonzero(drawn < n).tolist())
            small = part(pool, chosen)
            ranked = -np.broadcast_to(luck, scores.shape)[:, chosen] if at_random else scores[:, chosen]
            right += weighted_vote(small, kept_mask(small, ranked, k, PREFIX, "bypass").astype(float))
        assert swept.voted[row] == pytest.approx(right / draws)


@settings(max_examples=30, deadline=None)
@given(pools(), st.booleans())
def test_a_sweep_without_ended_paths_is_the_usual_one(given_pool: tuple[Pool, np.ndarray], at_random: bool) -> None:
    pool, scores = given_pool
    grid = [(n, k) for n in range(1, pool.n + 1) for k in range(1, n + 1)]
    values = None if at_random else scores
    one, two = (sweep(pool, values, PREFIX, grid, draws=5, free=free) for free in (None, np.zeros_like(pool.stopped)))
    for name in ("accuracy", "matched", "voted", "tokens", "flops"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name))


# -- tables ------------------------------------------------------------------------------------------------------------


def benched(run: Run) -> report.Group:
    bench(run, [registry.pruner(name) for name in ("logprob", "shortest")], lambda done, note: None)
    (group,) = report.selected(run.results)
    return group


def test_matched_budgets_are_of_the_rule_that_they_name(toy_run: Callable[..., Run]) -> None:
    """The largest launch is the table's own replay; the controls that cut nothing are the same."""
    group = benched(toy_run(n=16, prefix=20))
    by_name = {c.name: c for c in curves(group, 20, "bypass")}
    usual = {c.name: c for c in curves(group, 20)}
    method = next(m for m in group.judged if m.name == "logprob")
    row = by_name["logprob"].swept.at((16, 4))
    replayed = replay(group.pool, kept_mask(group.pool, method.values, 4, 20, "bypass"), 20, method.checks)
    for name in ("accuracy", "voted", "tokens", "flops"):
        np.testing.assert_allclose(getattr(by_name["logprob"].swept, name)[row], getattr(replayed, name))
    np.testing.assert_array_equal(by_name["no pruning"].swept.voted, usual["no pruning"].swept.voted)
    ended = ended_inside(group.pool, 20).any(1)
    more = by_name["random"].swept.accuracy != usual["random"].swept.accuracy
    assert ended.any() and not more[:, ~ended].any() and more[:, ended].any()
    told = markdown(budgets(group, draws=5, ended="bypass"))
    assert ", ended bypass" in told and "vote in addition" in told
    assert "bypass" not in markdown(budgets(group, draws=5))


def test_the_verbs_take_the_rule_and_write_beside_the_usual_reports(
    toy_run: Callable[..., Run], run_cli: Callable[..., tuple[int, str]], tmp_path: FilePath
) -> None:
    run = toy_run(n=16, prefix=20)
    benched(run)
    here = ("--results", str(run.results), "--ended", "bypass", "--draws", "2")
    code, told = run_cli("frontier", *here, "--scorer", "logprob", "--figures", str(tmp_path))
    assert code == 0, told
    assert not (run.results / "frontier.md").exists()
    data = pd.read_csv(run.results / "frontier-bypass.csv")
    assert set(data.ended) == {"bypass"} and {"logprob", "logprob+asc"} <= set(data.lane)
    assert ", ended bypass" in (run.results / "frontier-bypass.md").read_text()
    assert (tmp_path / f"toy-{run.folder.name}-frontier-bypass.png").exists()
    code, told = run_cli("budgets", *here)
    assert code == 0 and set(pd.read_csv(run.results / "budgets-bypass.csv").ended) == {"bypass"}
    code, told = run_cli("recommend", *here, "--scorer", "logprob", "--only", "*", "--budget", "0.8")
    assert code == 0 and "bypass" in told
    code, told = run_cli("frontier", "--results", str(run.results), "--ended", "bypas")
    assert code == 2 and "did you mean bypass" in told and "Traceback" not in told
    assert parse_stages("20:3") == run.spec.stages
