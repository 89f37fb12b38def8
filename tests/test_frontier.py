"""The frontier and its recommendation: budgets hold, choices are made on other problems, and lanes are what replay says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from harness import registry, report, session
from harness.api import PathpruneError
from harness.replay.policy import Policy, play, play_keeps, play_sizes
from harness.replay.pool import kept_mask, replay
from harness.report import frontier as frontiers
from harness.report.frontier import crossfitted, folds_of, mixture
from harness.report.lanes import WHOLE, Lane, _own_rules, lanes, rules_of, scorers_of, tables_of
from harness.report.recommend import recommend
from harness.runners.bench import bench
from harness.runners.run import Run
from harness.spec import Stage
from tests.conftest import toy_run_in
from tests.test_policies import Never, a_pool, some_checks

RULES = [
    *(
        registry.pruner(spec).pruner
        for spec in ("asc:threshold=0.7", "asc:order=parallel,threshold=0.7", "esc:window=3")
    ),
    Never(batch=2),
]


def a_lane(seed: int, settings: int = 6, problems: int = 20, name: str = "lane", kind: Any = "one cut") -> Lane:
    """The dearer a setting the better, in the mean."""
    rng = np.random.default_rng(seed)
    tokens = np.sort(rng.integers(10, 100, (settings, problems)), axis=0).astype(float)
    return Lane(
        name, kind, "control", tuple(f"s{i}" for i in range(settings)), rng.random(tokens.shape), tokens, 2 * tokens
    )


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.floats(5, 120), st.integers(1, 9))
def test_a_mixture_is_the_best_that_keeps_to_its_budget(seed: int, budget: float, count: int) -> None:
    """As a linear program has it, which is another way to the same optimum."""
    lane, some = a_lane(seed, count), np.random.default_rng(seed).random(20) < 0.7
    lane = replace(lane, voted=lane.voted.round(1))  # ties
    weights = mixture(lane, some, budget)
    if not some.any():
        assert weights is None
        return
    voted, tokens = lane.voted[:, some].mean(1), lane.tokens[:, some].mean(1)
    if weights is None:
        assert tokens.min() > budget
        return
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all() and weights @ tokens <= budget * (1 + 1e-9)
    best = linprog(-voted, A_ub=[tokens], b_ub=[budget], A_eq=np.ones((1, count)), b_eq=[1.0])
    assert weights @ voted == pytest.approx(-best.fun)
    # As many right votes for fewer tokens there are not.
    dear = linprog(tokens, A_ub=[-voted], b_ub=[-(weights @ voted)], A_eq=np.ones((1, count)), b_eq=[1.0])
    assert weights @ tokens <= dear.fun * (1 + 1e-6) + 1e-6


def test_a_problem_has_no_part_in_what_is_chosen_for_it() -> None:
    """A setting that is right on one problem alone is never used there."""
    problems = 20
    lane = a_lane(1, 2, problems)
    voted = np.zeros((2, problems))
    voted[0], voted[1, 3] = 0.01, 1.0  # the second is best in the mean, thanks to problem 3
    lane = Lane(
        lane.name, lane.kind, lane.quadrant, lane.settings, voted, np.ones((2, problems)), np.ones((2, problems))
    )
    reached = crossfitted(lane, 10.0)
    assert reached is not None
    held = folds_of(problems) == folds_of(problems)[3]
    assert 0 < held.sum() < problems
    assert (reached.voted[held] == 0.01).all(), "chosen without problem 3"
    assert (reached.voted[~held] == 0).all(), "chosen with it"


def test_what_no_setting_affords_has_no_number() -> None:
    lane = a_lane(3)
    assert crossfitted(lane, float(lane.tokens.min()) / 2) is None
    assert (
        crossfitted(Lane(*[*vars(lane).values()][:4], *(v[:, :1] for v in (lane.voted, lane.tokens, lane.serial))), 1e9)
        is None
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 10), st.integers(1, 20), st.data())
def test_numbers_kept_that_are_played_at_once_are_those_played_alone(seed: int, n: int, prefix: int, data: Any) -> None:
    pool, checks = a_pool(seed, 10), [some_checks(seed, 10)]
    rule = data.draw(st.sampled_from([None, *RULES]))
    keeps = [k for k in (1, 2, 3, 5, 8) if k <= n]
    together = play_keeps(pool, Policy(n, (Stage(prefix, keeps[0]),), rule), keeps, checks, 4)
    for keep, one in zip(keeps, together, strict=True):
        alone = play(pool, Policy(n, (Stage(prefix, keep),), rule), checks, 4)
        for name in ("voted", "tokens", "serial", "rounds"):
            np.testing.assert_allclose(getattr(one, name), getattr(alone, name))


@pytest.mark.parametrize("options", ["warmup=4,window=2", "eta=90,warmup=8,window=2", "consensus=0,warmup=4,window=2"])
def test_a_recorded_rule_on_fewer_paths_is_the_rule_on_those_alone(options: str, toy_run: Callable[..., Run]) -> None:
    """Of a sequential rule; any other stands as it was recorded."""
    spec = f"deepconf-online:{options}"

    def lane_on(n: int) -> Lane:
        run = toy_run(n=n)
        bench(run, [registry.pruner(spec)], lambda done, note: None)
        (table,) = tables_of([*report.groups_of(run.folder, prefix=5)])
        (lane,) = _own_rules(table)
        return lane

    large, small = lane_on(24), lane_on(16)
    assert large.settings[-1] == f"24, {spec}"
    if "consensus=0" in options:
        assert len(large.settings) == 1
        return
    where, alone = large.settings.index(f"16, {spec}"), small.settings.index(f"16, {spec}")
    for name in ("voted", "tokens", "serial"):
        np.testing.assert_array_equal(getattr(large, name)[where], getattr(small, name)[alone])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 10), st.sampled_from(RULES))
def test_numbers_launched_that_are_played_at_once_are_those_played_alone(seed: int, n: int, rule: Any) -> None:
    pool, sizes = a_pool(seed, 10), sorted({1, n, 10})
    for size, one in zip(sizes, play_sizes(pool, rule, sizes, 4), strict=True):
        alone = play(pool, Policy(size, (), rule), (), 4)
        for name in ("voted", "tokens", "serial", "rounds"):
            np.testing.assert_allclose(getattr(one, name), getattr(alone, name))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Benched once for all that reads it."""
    run = toy_run_in(tmp_path_factory.mktemp("frontier"))(n=12, stages=[(4, 6), (8, 3)], problems=8)
    plugins = [
        registry.pruner(name) for name in ("logprob", "shortest", "jaccard", "deepconf-online:warmup=2,window=2")
    ]
    bench(run, plugins, lambda done, note: None)
    return tables_of(report.selected(run.results))[0]


def test_every_lane_is_there_once_and_says_what_replay_says(table: Any) -> None:
    played = {lane.name: lane for lane in lanes(table, ["logprob"], rules_of(["asc"]), 4)}
    assert {
        WHOLE,
        "asc",
        "logprob",
        "shortest",
        "jaccard",
        "logprob, two cuts",
        "logprob+asc",
        "deepconf-online",
    } <= set(played)
    scorer = next(s for s in table.scorers if s.name == "logprob")
    lane, check = played["logprob"], scorer.cuts[8]
    row = lane.settings.index("12 -> 3 at 8")
    result = replay(table.pool, kept_mask(table.pool, check.scores, 3, 8), 8)
    np.testing.assert_allclose(lane.voted[row], result.voted)
    np.testing.assert_allclose(lane.tokens[row], result.tokens)
    assert set(lane.settings) <= set(played["logprob+asc"].settings), "no rule is one more setting"
    own = next(m for m in table.rules if m.name.startswith("deepconf-online"))
    np.testing.assert_allclose(played["deepconf-online"].tokens[0], own.spent.sum(1))


def test_a_set_method_has_no_schedule(table: Any) -> None:
    assert "jaccard, two cuts" not in {lane.name for lane in lanes(table, ["jaccard"], [], 2)}


def test_an_unknown_scorer_is_one_line(table: Any) -> None:
    with pytest.raises(PathpruneError, match="did you mean logprob"):
        lanes(table, ["logprop"], [], 2)


def test_a_recommendation_keeps_its_budgets_and_says_what_cannot_be_kept() -> None:
    every = [a_lane(5), a_lane(6, kind="two cuts", name="other")]
    best = recommend(every, 60, 110).best
    lane = next(lane for lane in every if lane.name == best.lane)
    row = lane.settings.index(best.setting)
    assert lane.tokens[row].mean() == best.tokens <= 60 and lane.serial[row].mean() == best.serial <= 110
    feasible = [
        v.mean()
        for one in every
        for v, t, s in zip(one.voted, one.tokens, one.serial, strict=True)
        if t.mean() <= 60 and s.mean() <= 110
    ]
    assert lane.voted[row].mean() == pytest.approx(max(feasible))
    with pytest.raises(PathpruneError, match="the cheapest takes"):
        recommend(every, 1)


def test_the_verbs_write_and_speak(
    toy_run: Callable[..., Run], run_cli: Callable[..., tuple[int, str]], tmp_path: FilePath
) -> None:
    run = toy_run(n=12, stages=[(4, 6), (8, 3)], problems=8)
    bench(run, [registry.pruner("logprob")], lambda done, note: None)
    here = ("--results", str(run.results), "--scorer", "logprob", "--draws", "2")
    code, told = run_cli("frontier", *here, "--out", str(tmp_path / "f.md"), "--figures", str(tmp_path))
    assert code == 0, told
    data = pd.read_csv(tmp_path / "f.csv")
    assert {"no pruning", "asc", "logprob", "logprob+asc", "logprob+asc - asc"} <= set(data.lane)
    within = data[(data.kind != "difference")]
    assert (within.spent <= within.share * 1.25 + 0.05).all()
    assert (tmp_path / f"toy-{run.folder.name}-frontier.png").stat().st_size > 1000
    code, told = run_cli("recommend", *here, "--only", "*", "--budget", "0.5")
    assert code == 0 and "recommended" in told and "no pruning" in told
    code, told = run_cli("recommend", *here, "--only", "*", "--budget", "1.5")
    assert code == 2 and "the cheapest takes" in told and "Traceback" not in told


def test_a_pool_without_the_scorer_has_the_other_lanes(table: Any) -> None:
    found = frontiers.frontiers([table], scorers_of([table], None), rules_of(["asc"]), 2)[0]
    assert found.pairs == (("asc", WHOLE),) and "frontier" not in frontiers.markdown(found)[:4]


TWO_AHEAD = """
class TwoAhead:
    quadrant = "control"
    grid = {grid}

    def __init__(self, lead: int = 2):
        self.lead = lead

    def stops(self, tally):
        return {stops}
"""


def test_a_rule_of_a_file_is_swept_and_compared(table: Any, tmp_path: FilePath) -> None:
    (tmp_path / "mine.py").write_text(
        TWO_AHEAD.format(grid={"lead": (1, 2)}, stops="tally.first - tally.second >= self.lead")
    )
    rules = rules_of([f"{tmp_path}/mine.py@TwoAhead", "asc:threshold=0.9", "short"])
    found = frontiers.frontiers([table], [["logprob"]], rules, 2)[0]
    played = {lane.name: lane for lane in found.lanes}
    assert {s.rpartition(":")[2] for s in played["mine@TwoAhead"].settings} == {"lead=1", "lead=2"}
    for rule in ("mine@TwoAhead", "asc:threshold=0.9", "short"):
        behind = played[f"logprob+{rule}"].settings
        assert (f"logprob+{rule}", rule) in found.pairs and any(rule.partition(":")[0] in setting for setting in behind)


@pytest.mark.parametrize(
    ("grid", "stops", "told"),
    [
        ([1], "True", "must be a dictionary from options to values"),
        ({"lead": 3}, "True", "must be a dictionary from options to values"),
        ({"led": [3]}, "True", "did you mean lead"),
        ({"lead": range(10**9)}, "True", "at most 1,000"),
        ({}, "1 / 0", "TwoAhead' raised ZeroDivisionError"),
        ({}, "7", "returned 7, not True or False"),
    ],
)
def test_a_broken_rule_is_one_line(grid: Any, stops: str, told: str, table: Any, tmp_path: FilePath) -> None:
    (tmp_path / "mine.py").write_text(TWO_AHEAD.format(grid=grid, stops=stops))
    with pytest.raises(PathpruneError, match=told) as caught:
        lanes(table, ["logprob"], rules_of([f"{tmp_path}/mine.py@TwoAhead"]), 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"scorers": "logprop"}, "did you mean logprob"), ({"scorers": "asc"}, "is a stopping rule, not a scorer"), ({"scorers": 3}, "names of methods"),
        ({"rules": "logprob"}, "is not a stopping rule"), ({"rules": "esk"}, "unknown stopping rule 'esk'; did you mean esc"), ({"draws": 0}, "draws must be an integer"),
        ({"only": 3}, "only must be terms"), ({"results": "nowhere"}, "no results folder"), ({"progress": 1}, "True or False"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", [session.frontier, partial(session.recommend, 0.5)])
def test_what_the_front_is_asked_is_checked(verb: Any, wanted: Any, told: str, table: Any) -> None:
    with pytest.raises(PathpruneError, match=told):
        verb(**({"results": table.group.folder.parents[1], "progress": False} | wanted))


@pytest.mark.parametrize(("budget", "latency"), [(0, None), (float("nan"), None), ("1", None), (1, -1), (1, True)])
def test_a_budget_is_a_number_above_zero(budget: Any, latency: Any) -> None:
    with pytest.raises(PathpruneError, match="must be a number above 0"):
        session.recommend(budget, latency=latency)


@pytest.mark.parametrize(("n", "problems", "told"), [(6, 1, "has one problem"), (1, 4, "has one path per problem")])
def test_where_nothing_can_be_chosen_that_is_said(
    n: int, problems: int, told: str, toy_run: Callable[..., Run]
) -> None:
    run = toy_run(n=n, stages=[(4, 1)], problems=problems)
    bench(run, [registry.pruner("logprob")], lambda done, note: None)
    with pytest.raises(PathpruneError, match=told):
        session.frontier(run.results, progress=False)


def test_the_front_gives_frames_and_figures(table: Any, tmp_path: FilePath) -> None:
    folder = table.group.folder.parents[1]
    found = session.frontier(folder, scorers="logprob", draws=2, progress=False)
    assert len(found) == 1 and set(found.frame().lane) >= {WHOLE, "asc", "logprob", "logprob+asc - asc"}
    assert found[0].plot(tmp_path / "figure.png").png.stat().st_size > 1000
    assert "settings tried" in repr(found[0]) and "<table" in found._repr_html_()
    advised = session.recommend(0.5, folder, scorers="logprob", draws=2, progress=False)
    frame = advised.frame()
    assert frame.recommended.tolist() == [True] + [False] * (len(frame) - 1) and frame.kind.iloc[-1] == WHOLE
    assert (frame.share <= 0.5).all() and advised.best is advised.by_kind[0]


def test_methods_without_a_lane_are_named(table: Any) -> None:
    group = table.group
    stale = replace(group, judged=[replace(m, stale=m.name == "shortest") for m in group.judged])
    (other,) = tables_of([stale])
    assert other.left_out == {"shortest": "scored by older code; bench it again"}
    with pytest.raises(PathpruneError, match=r"shortest has no lanes .* older code"):
        lanes(other, ["shortest"], [], 2)
    assert "Left out: shortest (scored by older code" in frontiers.markdown(frontiers.frontier(other, [], [], 2))


@pytest.mark.parametrize("options", ["consensus=0,warmup=4,window=2", "warmup=4,window=2"])
def test_a_rule_that_was_benched_with_fewer_paths_has_these_points_too(
    options: str, toy_run: Callable[..., Run]
) -> None:
    """Of the same paths, as a bench of a smaller n leaves them in the results folder; other paths and problems add nothing."""
    spec = f"deepconf-online:{options}"

    def lane_on(n: int, **rest: Any) -> Lane:
        run = toy_run(n=n, **rest)
        bench(run, [registry.pruner(spec)], lambda done, note: None)
        (table,) = tables_of([*report.groups_of(run.folder, prefix=5)])
        (lane,) = _own_rules(table)
        return lane

    lane_on(12, seed=1)  # others
    lane_on(12, limit=47)  # others
    lane_on(14, problems=3)  # of some problems
    small, large = lane_on(16), lane_on(24)
    sizes = [setting.partition(",")[0] for setting in large.settings]
    assert {"16", "24"} <= set(sizes) and len(sizes) == len(set(sizes))
    assert "14" not in sizes and ("consensus" not in options or sizes == ["24", "16"])
    here, there = large.settings.index(f"16, {spec}"), small.settings.index(f"16, {spec}")
    for name in ("voted", "tokens", "serial"):
        np.testing.assert_array_equal(getattr(large, name)[here], getattr(small, name)[there])
