"""Cuts at step boundaries and forced answers on the frontier: their lanes are what records hold, and only where they hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry, report, session
from harness.api import PathpruneError
from harness.replay.stages import replay_stages
from harness.report import frontier as frontiers
from harness.report.frontier import crossfitted, folds_of, mixture
from harness.report.lanes import PLACED, Lane, lanes, rules_of, tables_of
from harness.report.schedule import schedule_of
from harness.runners.bench import bench
from harness.runners.run import Run
from harness.spec import Stage, parse_stages
from tests.test_frontier import a_lane
from tests.test_places import steps_run as steps_run
from tests.test_places import steps_run_in

DYNAMIC = {*PLACED.values(), "dynamic cuts"}
SCHEDULES = ("5:6,9:3", "step@5:6", "step@7:6,16:3", "forced@6:6", "4:6,forced@6:4,step@20:2")
METHODS = ("logprob", "jaccard", "shortest")


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes of a few paths are played faster than processes start; those of all stopping rules are not asked about here."""
    monkeypatch.setattr("harness.report.parallel.MOST", 1)
    monkeypatch.setattr("harness.report.lanes._stopping_rules", list)


def benched(make: Callable[..., Run], schedules: tuple[str, ...], names: tuple[str, ...] = METHODS) -> Run:
    for stages in schedules:
        run = make(stages, n=12, problems=8)
        bench(run, [registry.pruner(name) for name in names], lambda done, note: None)
    return run


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Benched once for all tests that only read it."""
    return benched(steps_run_in(tmp_path_factory.mktemp("dynamic")), SCHEDULES)


def table_of(run: Run) -> Any:
    (table,) = tables_of(report.selected(run.results, places=True))
    return table


def played(run: Run, scorers: tuple[str, ...] = ("logprob",), rules: str = "asc") -> dict[str, Lane]:
    return {lane.name: lane for lane in lanes(table_of(run), scorers, rules_of([rules]), 2)}


def cuts_of(setting: str) -> tuple[int, tuple[Stage, ...]]:
    """``12 -> 6 at step@5 -> 3 at 9`` as (paths launched, stages)."""
    n, *parts = setting.split(" -> ")
    pairs = (part.split(" at ") for part in parts)
    return int(n), parse_stages(",".join(f"{where}:{keep}" for keep, where in pairs))


def test_without_such_records_there_is_no_such_lane(steps_run: Callable[..., Run]) -> None:
    run = benched(steps_run, ("5:6,9:3",))
    found = played(run)
    assert not DYNAMIC & {lane.kind for lane in found.values()} and "logprob, two cuts" in found


def test_records_of_places_leave_every_other_lane_as_it_is(every: Run, steps_run: Callable[..., Run]) -> None:
    """Bit for bit, at every setting."""
    before, after = played(benched(steps_run, SCHEDULES[:1])), played(every)
    assert {lane.kind for name, lane in after.items() if name not in before} >= DYNAMIC
    for name, lane in before.items():
        rows = [after[name].settings.index(s) for s in lane.settings]  # the length of 4 tokens is new beside them
        for column in ("voted", "tokens", "serial"):
            np.testing.assert_array_equal(getattr(lane, column), getattr(after[name], column)[rows])


def test_each_setting_is_a_schedule_that_bench_has_scored(every: Run, steps_run: Callable[..., Run]) -> None:
    """A setting names a run whose replay gives its numbers, from records that are there: nothing is scored for it."""
    checked, pool = set(), table_of(every).pool
    for lane in played(every).values():
        if lane.kind not in DYNAMIC or not lane.name.startswith("logprob"):
            continue
        for row, setting in enumerate(lane.settings):
            n, stages = cuts_of(setting)
            if n < 12:
                continue
            spec = steps_run(stages, n=n, problems=8).spec
            group, _ = schedule_of(every.folder, spec, list(pool.problems))
            method = next(m for m in group.judged if m.name == "logprob")
            result, _ = replay_stages(method.pool, method.cuts, stages)
            assert result.latency is not None and method.pool.problems == pool.problems
            np.testing.assert_allclose(lane.voted[row], result.voted)
            np.testing.assert_allclose(lane.tokens[row], result.tokens)
            np.testing.assert_allclose(lane.serial[row], result.latency.serial)
            checked.add(tuple(stage.where for stage in stages))
    assert {("step@5",), ("forced@6",), ("step@7", "16"), ("step@20",), ("4", "forced@6", "step@20")} <= checked
    assert ("step@7",) not in checked, "its search ended before the second cut, so it is no cut of its own"
    assert not any(where[-1] == "step@7" for where in checked)


def test_lanes_are_of_the_places_that_they_name(every: Run) -> None:
    found = played(every)
    assert {stage.at for s in found["logprob, cut at a step"].settings for stage in cuts_of(s)[1]} == {"step"}
    assert {stage.at for s in found["logprob, cut at a forced answer"].settings for stage in cuts_of(s)[1]} == {
        "forced"
    }
    dynamic = [cuts_of(s)[1] for s in found["logprob, dynamic cuts"].settings]
    assert all(any(stage.at != "token" for stage in stages) for stages in dynamic)
    assert {len(stages) for stages in dynamic} == {1, 2, 3}
    assert found["jaccard, cut at a step"].kind == "cut at a step", "a method of sets is cut once"
    assert "jaccard, dynamic cuts" not in found and "shortest, dynamic cuts" not in found, "nobody has asked for these"


def test_a_method_of_sets_has_no_schedule_with_places(every: Run) -> None:
    lane = played(every, ("jaccard",))["jaccard, dynamic cuts"]
    assert {len(cuts_of(s)[1]) for s in lane.settings} == {1}


def test_one_kind_of_place_alone_is_no_further_lane(steps_run: Callable[..., Run]) -> None:
    found = played(benched(steps_run, ("step@5:6",)))
    assert "logprob, cut at a step" in found and not {"logprob", "logprob+asc", "logprob, dynamic cuts"} & set(found)


def test_the_frontier_compares_them_and_the_front_reads_them(every: Run, tmp_path: FilePath) -> None:
    (found,) = session.frontier(every.results, scorers="logprob", draws=2, progress=False)
    kinds = ("two cuts", "three cuts", "cut at a step", "cut at a forced answer", "dynamic cuts")
    assert {(f"logprob, {kind}", "logprob") for kind in kinds if kind != "three cuts"} <= set(found.pairs)
    text = frontiers.markdown(found)
    assert "| logprob, dynamic cuts | dynamic cuts |" in text and "logprob, cut at a step - logprob" in text
    assert {"logprob, cut at a step", "logprob, dynamic cuts - logprob"} <= set(found.frame().lane)
    data = pd.read_csv(found.plot(tmp_path / "figure").stem.with_suffix(".csv"))
    assert {"logprob, cut at a step", "logprob, dynamic cuts"} <= set(data.lane)
    advised = session.recommend(0.9, every.results, scorers="logprob", draws=2, progress=False).frame()
    assert {"cut at a step", "dynamic cuts"} <= set(advised.kind)


def test_records_of_places_alone_are_enough(steps_run: Callable[..., Run]) -> None:
    run = benched(steps_run, ("step@5:6",), ("logprob", "asc"))
    (found,) = session.frontier(run.results, scorers="logprob", draws=2, progress=False)
    assert ("logprob, cut at a step", "logprob") not in found.pairs
    assert "logprob, cut at a step" in {lane.name for lane in found.lanes}
    with pytest.raises(PathpruneError, match="no records"):
        report.selected(benched(steps_run, ("step@9:6",), ("logprob",)).results, "prefix=9")
    assert session.frontier(run.results, only="prefix=9", scorers="logprob", draws=2, progress=False)


def test_places_of_other_rules_are_left_out_by_name(steps_run: Callable[..., Run]) -> None:
    """A record whose stride is not ours is of cuts that no run makes now."""
    run = benched(steps_run, ("5:6", "step@9:6"), ("logprob", "shortest"))
    groups = report.selected(run.results, places=True)
    older = [replace(g, key=g.key | {"stride": 3}) if g.key else g for g in groups]
    only = [replace(g, judged=[m for m in g.judged if g.key or m.name != "shortest"]) for g in older]
    (table,) = tables_of(only)
    assert table.left_out == {"shortest": "cut by older rules for places; bench it again"}
    assert not any(scorer.places for scorer in table.scorers)


def test_in_whatever_order_problems_were_recorded(steps_run: Callable[..., Run]) -> None:
    run = benched(steps_run, SCHEDULES)
    asked: dict[str, Any] = {"scorers": "logprob", "draws": 2, "progress": False}
    before = session.frontier(run.results, **asked).frame()
    for file in run.folder.glob("*.jsonl"):
        head, *lines = file.read_text().splitlines(keepends=True)
        order = np.random.default_rng(len(lines)).permutation(len(lines))
        file.write_text(head + "".join(lines[i] for i in order))
    pd.testing.assert_frame_equal(before, session.frontier(run.results, **asked).frame())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(20, 110), st.integers(1, 9))
def test_what_happens_on_a_fold_has_no_part_in_what_is_chosen_for_it(seed: int, budget: float, count: int) -> None:
    """Whatever votes and costs are put on the held-out problems, they get the mixture that the others chose."""
    lane, rng = a_lane(seed, count), np.random.default_rng(seed)
    folds = folds_of(lane.voted.shape[1])
    for fold in np.unique(folds):
        held = folds == fold
        other = {name: getattr(lane, name).copy() for name in ("voted", "tokens", "serial")}
        for values in other.values():
            values[:, held] = rng.random(values[:, held].shape)
        weights = mixture(lane, ~held, budget)
        reached = crossfitted(replace(lane, **other), budget)
        if weights is None or reached is None:
            continue
        for name, values in other.items():
            np.testing.assert_allclose(getattr(reached, name)[held], weights @ values[:, held], atol=1e-8)
