"""The bench: replay equals live, nothing is sampled twice, a kill loses nothing, a failure hurts only itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import registry, report
from harness.api import PathpruneError, UnavailableError
from harness.loop import prune, select
from harness.registry import Plugin
from harness.replay.pool import Pool, kept_mask, random_pruning, replay
from harness.report.rows import rows
from harness.runners.bench import bench
from harness.runners.live import run_live
from harness.runners.run import Run
from harness.store.records import Record

Make = Callable[..., Run]
NAMES = ("random", "first", "jaccard", "logprob", "deepconf")


def quiet(done: int, note: str) -> None:
    pass


def plugins(*specs: str) -> list[Plugin]:
    return [registry.pruner(s) for s in specs]


def contents(folder: Path) -> dict[str, Any]:
    """Every record's rows, without provenance."""
    files = sorted(folder.rglob("*.jsonl"))
    return {f.name: Record.read(f).lines for f in files}


def test_second_run_calls_no_engine(toy_run: Make) -> None:
    first = bench(toy_run(), plugins(*NAMES), quiet)
    run = toy_run()
    before = contents(run.results)
    second = bench(run, plugins(*NAMES), quiet)
    assert first.sampled > 0 and second.sampled == 0 and run.engine.generated == 0
    assert contents(run.results) == before


def test_a_later_pruner_replays_the_bank(toy_run: Make) -> None:
    together, apart = toy_run(), toy_run()
    bench(together, plugins("first", "logprob"), quiet)
    expected = contents(together.results)
    for file in together.results.rglob("L5-logprob*"):
        file.unlink()
    done = bench(apart, plugins("logprob"), quiet)
    assert done.sampled == 0 and contents(apart.results) == expected


def test_more_paths_and_problems_extend_a_pool(toy_run: Make) -> None:
    bench(toy_run(problems=3), plugins("logprob"), quiet)
    small = toy_run(n=8).engine
    more = toy_run(problems=6, n=16, engine=small)
    bench(more, plugins("logprob"), quiet)
    fresh = toy_run(problems=6, n=16, results=more.results / "x", bank=more.bank / "x")
    bench(fresh, plugins("logprob"), quiet)
    assert contents(fresh.folder) == contents(more.folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ended", ["count", "bypass"])
def test_replay_is_live(name: str, ended: Any, toy_run: Make) -> None:
    """Same kept paths, same vote, same tokens, same FLOPs, whether the dropped paths were ever finished or not."""
    run = toy_run(prefix=9, ended=ended)
    bench(run, plugins(name), quiet)
    group = next(report.groups(run.results))
    judged = group.judged[0]
    mask = kept_mask(judged.pool, judged.values, 3, 9, ended)
    result = replay(judged.pool, mask, 9, judged.checks)
    for row, problem in enumerate(run.task.problems("test", run.problems)):
        live = prune(problem, run.task, toy_run().engine, registry.pruner(name).pruner, run.spec)
        assert live.kept == tuple(np.flatnonzero(mask[row]))
        assert run.task.correct(live.voted, problem) == bool(result.voted[row])
        assert live.cost.tokens == result.tokens[row]
        assert live.cost.flops == pytest.approx(result.flops[row])


def test_live_records_hold_every_stage(toy_run: Make) -> None:
    run = toy_run()
    records = run_live(run, [*map(registry.method, ("logprob", "all"))], quiet)
    for record, kept in zip(records, (3, run.spec.n), strict=True):
        rows = list(record.lines.values())
        assert len(rows) == run.problems
        assert all(len(r["kept"]) == kept and set(r["seconds"]) == {"launch", "check", "resume"} for r in rows)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("calls", [1, 3, 4])
def test_a_killed_bench_continues_to_the_same_files(calls: int, toy_run: Make, monkeypatch: Any) -> None:
    """Interrupted in the middle of a group, then run again with the same command."""
    whole = toy_run(results=toy_run().results / "whole", bank=toy_run().bank / "whole")
    bench(whole, plugins("first", "logprob"), quiet)
    run = toy_run()
    engine, left = run.engine, [calls]
    engine.rows = 16  # two problems a group, three groups
    true_resume = engine.resume

    def dies(*args: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KilledError
        return true_resume(*args)

    monkeypatch.setattr(engine, "resume", dies)
    with pytest.raises(KilledError):
        bench(run, plugins("first", "logprob"), quiet)
    bench(toy_run(), plugins("first", "logprob"), quiet)
    assert contents(run.folder) == contents(whole.folder)


def test_a_torn_last_line_is_mended(toy_run: Make) -> None:
    run = toy_run()
    bench(run, plugins("logprob"), quiet)
    expected = contents(run.results)
    file = next(run.results.rglob("L5-*"))
    file.write_bytes(file.read_bytes()[:-37])
    bench(toy_run(), plugins("logprob"), quiet)
    assert contents(run.results) == expected


class Broken:
    quadrant, needs, fidelity = "control", frozenset[str](), "exact"

    def __init__(self, how: str) -> None:
        self.how = how

    def score(self, prefixes: Any, check: Any) -> Any:
        if self.how == "raises":
            raise RuntimeError("no such luck")
        return {"nan": [float("nan")] + [0.0] * (len(prefixes) - 1), "count": [1.0]}[self.how]


@pytest.mark.parametrize(
    ("how", "says"), [("nan", "1 of 8 scores are not finite"), ("count", "shape (1,)"), ("raises", "no such luck")]
)
def test_a_failing_pruner_is_an_error_record_and_hurts_no_other(how: str, says: str, toy_run: Make) -> None:
    run = toy_run()
    broken = Plugin(Broken(how), f"broken-{how}", {}, "test", "0")
    done = bench(run, [broken, *plugins("logprob")], quiet)
    assert done.failures[f"broken-{how}"][0] == run.problems and says in done.failures[f"broken-{how}"][1]
    table = rows(next(report.groups(run.results)), 3)
    by_name = {row.name: row for row in table}
    assert by_name[f"broken-{how}"].problems == 0 and by_name[f"broken-{how}"].gain is None
    assert by_name["logprob"].problems == run.problems and not by_name["logprob"].note
    lines = next(run.results.rglob("*broken*")).read_text().splitlines()[1:]
    assert all("scores" not in json.loads(line) for line in lines)


def test_select_keeps_k_and_breaks_ties_low() -> None:
    scores = np.array([1.0, 3.0, 3.0, 2.0, 3.0])
    assert select(scores, [False] * 5, 2, "count") == (1, 2)
    assert select(scores, [True, False, False, False, False], 2, "bypass") == (0, 1, 2)


def test_exact_controls_equal_many_random_draws(toy_run: Make) -> None:
    run = toy_run(problems=30)
    bench(run, plugins("first"), quiet)
    pool: Pool = next(report.groups(run.results)).pool
    exact = random_pruning(pool, 3, 5)
    rng = np.random.default_rng(1)
    draws = [replay(pool, kept_mask(pool, rng.random(pool.correct.shape), 3, 5), 5) for _ in range(300)]
    assert np.mean([d.accuracy for d in draws]) == pytest.approx(exact.accuracy.mean(), abs=0.01)
    assert np.mean([d.tokens for d in draws]) == pytest.approx(exact.tokens.mean(), rel=0.01)
    assert np.mean([d.voted for d in draws]) == pytest.approx(exact.voted.mean(), abs=0.03)


class Lacking:
    quadrant, needs, fidelity = "control", frozenset[str](), "exact"
    calls = 0

    def score(self, prefixes: Any, check: Any) -> Any:
        self.calls += 1
        raise UnavailableError("no weights")


def test_what_is_not_there_is_tried_once_a_run(toy_run: Make) -> None:
    """Every problem has its error record; the next run tries again; the other pruner is unharmed."""
    run, lacking = toy_run(), Lacking()
    plugin = Plugin(lacking, "lacking", {}, "test", "0")
    done = bench(run, [plugin, *plugins("logprob")], quiet)
    assert lacking.calls == 1 and done.failures == {"lacking": (run.problems, "no weights")}
    bench(toy_run(), [plugin, *plugins("logprob")], quiet)
    assert lacking.calls == 2
    table = {row.name: row for row in rows(next(report.groups(run.results)), 3)}
    assert table["logprob"].problems == run.problems and table["lacking"].problems == 0


def test_a_method_that_cannot_be_opened_leaves_the_others_unharmed(toy_run: Make) -> None:
    run = toy_run()
    done = bench(run, plugins("qwen-prm:model=/nowhere", "logprob"), quiet)
    (name, (_, why)), *others = done.failures.items()
    assert name.startswith("qwen-prm:model=nowhere+") and "no model folder at /nowhere" in why and not others
    assert {r.name: r for r in rows(next(report.groups(run.results)), 3)}["logprob"].problems == run.problems
    with pytest.raises(PathpruneError, match="nowhere"):
        bench(toy_run(), plugins("qwen-prm:model=/nowhere"), quiet)


def test_own_rules_alone_make_a_table(toy_run: Make) -> None:
    run = toy_run()
    bench(run, plugins("deepconf-offline"), quiet)
    shown = next(report.groups_of(run.folder, prefix=5))
    assert shown.prefix == 5 and "deepconf-offline" in [r.name for r in rows(shown, 3)]
    assert next(report.groups(run.results)).judged


def test_own_rules_are_rows_without_a_prefix_length(toy_run: Make) -> None:
    """One record serves every L; what is spent is what the rule let run; nobody is compared with it at equal k."""
    specs = ("logprob", "deepconf-online:warmup=2,window=2", "deepconf-offline")
    bench(toy_run(prefix=5), plugins(*specs), quiet)
    run = toy_run(prefix=9)
    assert bench(run, plugins(*specs), quiet).sampled == 0
    assert len(list(run.results.rglob("own-rule-*"))) == 2
    for group in report.groups(run.results):
        table = {row.name: row for row in rows(group, 3)}
        online, offline = table[specs[1]], table["deepconf-offline"]
        assert offline.accuracy == table["all (no pruning)"].accuracy and offline.saved == 0
        assert offline.own_vote is not None and offline.own_vote[0] == "weighted"
        assert 0 < online.saved < 1 and online.adjusted_p is None and "own rule" in online.note


def test_own_rules_are_not_run_live(run_cli: Any, tmp_path: Path) -> None:
    given = ("--task", "toy", "--engine", "toy", "--results", str(tmp_path / "r"), "--bank", str(tmp_path / "b"))
    code, out = run_cli("bench", *given, "--pruner", "deepconf-offline", "--live")
    assert code == 2 and "decision rule of its own" in out and "Traceback" not in out
