"""Cuts that do not lie at one length: places depend on a path's own first tokens, and live runs and replays agree on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry
from harness.api import Cost, FlopModel, Path, PathpruneError, Problem, Sampling
from harness.engines.toy import ToyEngine
from harness.loop import Spent, placed, prune
from harness.places import Placer, step_end
from harness.replay.policy import Policy, play
from harness.replay.pool import Pool
from harness.replay.stages import Checks, generation, latency_of, replay_stages
from harness.report.paired import paired
from harness.report.schedule import schedule_of
from harness.report.table import Table
from harness.runners.bench import bench, open_record
from harness.runners.live import run_live
from harness.runners.run import Run
from harness.spec import Cut, RunSpec, Stage, parse_stages
from harness.store import packed, records, validate
from harness.store.keys import digest
from tasks.embedded.hands import Hands
from tasks.toy import Toy
from tests import test_policies, test_stages


class Steps(Toy):
    """Steps end with the word w3; answers are read from half of the digits alone, so that some probes fail."""

    name = "steps"
    defaults = replace(Toy.defaults, step="w3")

    def answer(self, text: str) -> str | None:
        digit = super().answer(text)
        return digit if digit in set("01234") else None


def steps_run_in(folder: FilePath) -> Callable[..., Run]:
    """Runs on the toy engine with stages of any places, whose records and bank lie in a folder."""

    def make(stages: Any, n: int = 8, task: Any = None, engine: Any = None, problems: int = 6, **rest: Any) -> Run:
        task, engine = task or Steps(), engine or registry.engine("toy", "toy", Sampling())
        stages = parse_stages(stages) if isinstance(stages, str) else stages
        return Run(
            RunSpec.of(task, engine, n, 48, stages, **rest),
            task,
            engine,
            problems,
            folder / "results",
            folder / "bank",
        )

    return make


@pytest.fixture
def steps_run(tmp_path: FilePath) -> Callable[..., Run]:
    return steps_run_in(tmp_path)


# -- places ------------------------------------------------------------------------------------------------------------

CUTS = [Cut(4, "step", 40), Cut(4, "step", 9), Cut(3, "forced", 40), Cut(4, "forced", 10), Cut(6, "token", 6)]


def place(cut: Cut, path: Path, engine: Any = None) -> tuple[int, int, Cost]:
    """(where a finished path is cut, how far it is generated for that, what it costs)."""
    engine = engine or ToyEngine()
    placer = Placer(Steps(), engine)
    start = path.cut(cut.prefix, engine.decode)
    reached = placer.reach(cut, [start], lambda paths, length: [path.cut(length, engine.decode) for _ in paths])
    return reached.places[0], len(reached.grown[0].tokens), placer.spent(path.problem.id).cost


def walks(seed: int, count: int = 8) -> list[Path]:
    return ToyEngine().launch([Problem("p", f"guess {seed}", "1")], count, 48, seed)[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(CUTS))
def test_a_place_depends_on_the_tokens_before_it(seed: int, cut: Cut) -> None:
    """Futures that share the first ``place`` tokens are cut at the same place."""
    engine = ToyEngine()
    for path in walks(seed):
        at, _, cost = place(cut, path)
        if at == len(path.tokens) < cut.cap:  # the path ends there: another future would not
            continue
        other = replace(path.cut(at, engine.decode), seed=seed + 1)
        future = replace(engine.resume([other], 48)[0], seed=path.seed)
        assert place(cut, future)[::2] == (at, cost)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(CUTS))
def test_a_place_is_what_it_is_said_to_be(seed: int, cut: Cut) -> None:
    engine = ToyEngine()
    for path in walks(seed):
        at, end, cost = place(cut, path)
        length = len(path.tokens)
        assert min(length, cut.prefix) <= at <= min(length, cut.cap) and at <= end <= min(length, cut.cap)
        if cut.at == "step":
            words = engine.decode(path.tokens).split()
            ends = [t for t in range(cut.prefix, length + 1) if words[t - 1 : t] == ["w3"]]
            assert at == min([*ends, length, cut.cap]) and end - at < 16 and cost == Cost()
        if cut.at == "forced":
            assert end == at and (at % cut.prefix == 0 or at in (length, cut.cap))
            assert (cost.probed > 0) == (length > cut.prefix or path.finish == "length")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "\n", "b\n", "\n\n", ".\n\nSo", "\n\n\n\n", ""]), max_size=80), st.integers(1, 60)
)
def test_a_step_ends_with_the_token_that_completes_its_mark(pieces: list[str], first: int) -> None:
    """Whatever tokens the mark is spread over, and whatever stands behind it in the same token."""

    def decode(tokens: Sequence[int]) -> str:
        return "".join(pieces[t] for t in tokens)

    pieces = [
        "a" if t % 8 == 0 else piece for t, piece in enumerate(pieces)
    ]  # no line break is longer than what is read
    counts = [decode(range(t)).count("\n\n") for t in range(len(pieces) + 1)]
    by_hand = [t for t in range(max(1, first), len(pieces) + 1) if counts[t] > counts[t - 1]]
    at = step_end(range(len(pieces)), first, "\n\n", decode)
    assert at == min(by_hand, default=-1)
    assert at == -1 or step_end(range(at), first, "\n\n", decode) == at


def test_what_finding_a_place_costs_belongs_to_its_path() -> None:
    placer = Placer(Steps(), ToyEngine())
    for path in walks(3):
        placer.reach(Cut(4, "forced", 40), [path.cut(4, ToyEngine().decode)], ToyEngine().resume)
    placing = placer.spent("p")
    assert sum((c.probed for c in placing.each.values()), 0) == placing.cost.probed > 0
    both = placed(Spent(Cost(reread=5), {0: Cost(reread=5)}, cold=9, cold_each={0: 9}), placing)
    assert both.cost == Cost(reread=5) + placing.cost and both.cold == 9 + placing.cost.tokens
    assert sum((c.tokens for c in both.each.values()), 0) == both.cost.tokens
    assert both.cold == sum(both.cold_each.values())


# -- live and replay ---------------------------------------------------------------------------------------------------

SCHEDULES = [
    "step@5:3",
    "forced@4:3",
    "5:5,step@9:2",
    "step@4:5,step@14:2",
    "step@5:4,12:2",
    "forced@4:5,step@12:3,24:1",
]


@pytest.mark.parametrize("stages", SCHEDULES)
@pytest.mark.parametrize(("name", "ended"), [("logprob", "count"), ("logprob", "bypass"), ("shortest", "count")])
def test_live_is_replay(name: str, stages: str, ended: Any, steps_run: Callable[..., Run]) -> None:
    """Kept paths at every stage, tokens, FLOPs and vote."""
    test_stages.agrees(steps_run(stages, ended=ended, problems=3), name)


@pytest.mark.parametrize("stages", ["step@5:4", "forced@4:5,step@12:3"])
def test_live_is_replay_with_a_stopping_rule_behind(stages: str, steps_run: Callable[..., Run]) -> None:
    test_policies.agrees(steps_run(stages), "logprob+asc:threshold=0.7")


@pytest.mark.parametrize("stages", [pytest.param("step@16:3", marks=pytest.mark.long), "forced@16:4,step@40:2"])
def test_live_is_replay_on_the_embedded_engine(
    stages: str, hands: Hands, hands_engine: Any, tmp_path: FilePath
) -> None:
    spec = RunSpec.of(hands, hands_engine, 6, 120, parse_stages(stages))
    test_stages.agrees(Run(spec, hands, hands_engine, 1, tmp_path / "results", tmp_path / "bank"), "stop")


def test_serial_tokens_are_those_of_the_longest_path(steps_run: Callable[..., Run]) -> None:
    run = steps_run("step@5:4,step@16:2")
    bench(run, [registry.pruner("logprob")], lambda done, note: None)
    method = schedule_of(run.folder, run.spec, [p.id for p in run.chosen()])[0].judged[0]
    result, _ = replay_stages(method.pool, method.cuts, run.spec.stages)
    for q, problem in enumerate(run.chosen()):
        engine, serial = _Watched(), 0
        prune(problem, run.task, engine, registry.pruner("logprob").pruner, run.spec)
        for lengths in engine.phases(run.spec):
            serial += max(lengths, default=0)
        assert result.latency is not None and result.latency.serial[q] == serial


class _Watched(ToyEngine):
    """Remembers by path how many tokens each call has added."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, dict[int, int]]] = []

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        longer = super().resume(paths, max_tokens)
        added = {b.index: len(b.tokens) - len(a.tokens) for a, b in zip(paths, longer, strict=True)}
        self.calls.append((max_tokens, added))
        return longer

    def phases(self, spec: RunSpec) -> list[list[int]]:
        """What paths have added between two decisions: up to each stage's cap, and to the limit."""
        ends, sums = [*(cut.cap for cut in spec.cuts), spec.limit], list[dict[int, int]]()
        for low, high in zip([0, *ends], ends, strict=False):
            here: dict[int, int] = {}
            for length, added in self.calls:
                if low < length <= high:
                    here = {i: here.get(i, 0) + added.get(i, 0) for i in here.keys() | added.keys()}
            sums.append(here)
        return [list(s.values()) for s in sums]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 10), st.integers(1, 20), st.integers(1, 20))
def test_places_at_one_length_are_a_cut_there(seed: int, n: int, first: int, further: int) -> None:
    """The arrays of places are the general case: constant ones give what a plain schedule gives."""
    pool, stages = test_policies.a_pool(seed, n), (Stage(first, 3), Stage(first + further, 2))
    plain = [test_policies.some_checks(seed, n), test_policies.some_checks(seed + 7, n)]
    at = [np.full((3, n), stage.prefix) for stage in stages]
    given = [replace(check, places=a, reached=a) for check, a in zip(plain, at, strict=True)]
    one, other = (replay_stages(pool, checks, stages, "bypass")[0] for checks in (plain, given))
    for name in ("accuracy", "voted", "tokens", "flops"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(play(pool, Policy(n, stages), plain).tokens, play(pool, Policy(n, stages), given).tokens)


def test_a_path_that_is_dropped_is_charged_to_where_it_was_generated() -> None:
    pool = Pool(
        ("a",),
        np.ones((1, 2), bool),
        np.zeros((1, 2), int),
        np.array([[30, 30]]),
        np.ones((1, 2), bool),
        np.array([4]),
        FlopModel(1.0, 0.0),
    )
    scores, zeros = np.array([[1.0, 0.0]], np.float32), np.zeros((1, 2))
    check = Checks(
        scores, zeros, zeros, np.zeros(1), np.zeros(1), places=np.array([[7, 9]]), reached=np.array([[16, 20]])
    )
    result, _ = replay_stages(pool, [check], [Stage(5, 1, "step")])
    assert result.tokens[0] == 16 + 20 + 14 and result.flops[0] == 4 + 50
    assert result.latency is not None and result.latency.serial[0] == 20 + 14


# -- records -----------------------------------------------------------------------------------------------------------


def test_a_cut_at_a_length_has_the_keys_it_had(steps_run: Callable[..., Run]) -> None:
    """Neither ``at`` nor anything else of places is in them, so present records are found again."""
    keys = {"task", "task_version", "engine", "seed", "max_tokens", "n"}
    one, two = steps_run("5:3", task=Toy()).spec, steps_run("5:4,9:2", task=Toy()).spec
    assert [digest(s) for s in (one.scored_at(5), one.live, two.live)] == [
        "5bf7c7fb20fa",
        "0f0f5f501722",
        "5ae2d14390e7",
    ]
    assert set(one.scored_at(5)) == keys | {"prefix"} == set(two.scored_at(9))
    assert set(one.live) == keys | {"prefix", "keep", "ended", "vote", "live"}
    assert two.live["stages"] == [[5, 4], [9, 2]] and set(two.live) == keys | {"stages", "ended", "vote", "live"}
    assert one == steps_run([(5, 3, "token")], task=Toy()).spec and str(two) == "8 -> 4 at 5 -> 2 at 9"
    assert str(steps_run("step@5:4,forced@9:2").spec) == "8 -> 4 at step@5 -> 2 at forced@9"


def test_places_do_not_change_records_at_a_length(steps_run: Callable[..., Run]) -> None:
    """A stage at a length has the same record, byte for byte, whatever cuts stand beside it."""
    bench(steps_run("5:3"), [registry.pruner("logprob")], lambda done, note: None)
    folder = steps_run("5:3").folder
    before = {f.name: f.read_bytes() for f in folder.glob("*.jsonl")}
    bench(steps_run("5:5,step@9:3"), [registry.pruner("logprob")], lambda done, note: None)
    assert before == {f.name: f.read_bytes() for f in folder.glob("*.jsonl") if f.name in before}
    groups = [g.prefix for g in _groups(folder)]
    assert groups == [5], "records of places stand in no table of a length"


def _groups(folder: FilePath) -> list[Any]:
    from harness.report import groups_of

    return list(groups_of(folder))


def test_what_decides_places_names_records(steps_run: Callable[..., Run]) -> None:
    """A cap, which follows from the next stage, may move places."""
    stages = ["step@5:4", "step@5:4,20:2", "step@5:4,21:2", "forced@5:4", "5:4"]
    runs = [steps_run(s) for s in stages]
    assert len({json.dumps(run.spec.scored_at(5), sort_keys=True) for run in runs}) == len(runs)
    assert len({json.dumps(run.spec.live, sort_keys=True) for run in runs}) == len(runs)


def test_rows_with_places_are_stored_and_found_again(steps_run: Callable[..., Run], tmp_path: FilePath) -> None:
    run = steps_run("step@5:5,forced@9:3")
    plugin = registry.pruner("logprob")
    bench(run, [plugin], lambda done, note: None)
    record = open_record(run, plugin, 5)
    assert record.file.name.startswith("step5-logprob-")
    rows = list(record.lines.values())
    packed.write(tmp_path / "step5.parquet", [packed.Packed(record.file.name, record.header, rows)])
    assert packed.rows(tmp_path / "step5.parquet", record.file.name) == rows
    again = steps_run("step@5:2,forced@9:1")
    assert bench(again, [plugin], lambda done, note: None).sampled == 0
    assert open_record(again, plugin, 9).file == open_record(run, plugin, 9).file


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"places": [1]}, "places must be"),
        ({"places": [48] * 8}, "places must be"),
        ({"reached": [0] * 8}, "cut behind its end"),
        ({"reached": None}, "reached must be"),
    ],
)
def test_a_damaged_row_is_named(change: dict[str, Any], told: str, steps_run: Callable[..., Run]) -> None:
    run, plugin = steps_run("step@5:5"), registry.pruner("logprob")
    bench(run, [plugin], lambda done, note: None)
    record = open_record(run, plugin, 5)
    name, row = next(iter(record.lines.items()))
    with pytest.raises(validate.FlawError, match=told):
        validate.rows(record.header, {name: {**row, **change}})
    with pytest.raises(validate.FlawError, match="at in its header"):
        validate.header(record.header | {"spec": record.header["spec"] | {"at": "word"}})


def test_live_records_are_read_back(steps_run: Callable[..., Run]) -> None:
    from harness.report.overhead import stored

    for stages in ("step@5:3", "step@5:5,forced@9:3"):
        run = steps_run(stages)
        run_live(run, [registry.method("logprob")], lambda done, name: None)
    told = {where for where, _ in stored(run.folder)}
    assert {where.split(",")[0] for where in told} == {"L = step@5"}
    assert len(list(records.records(run.folder, "live"))) == 2


# -- tables ------------------------------------------------------------------------------------------------------------


def test_a_table_along_places(tmp_path: FilePath, run_cli: Any) -> None:
    import pathprune as pp

    asked: dict[str, Any] = {"task": Steps(), "engine": "toy", "n": 8, "problems": 6, "progress": False}
    asked |= {"stages": [(5, 3, "step")]}
    table = pp.bench("logprob,jaccard,deepconf-offline", bank=tmp_path / "bank", results=tmp_path / "r", **asked)
    lines = table.frame().set_index("name")
    live = pp.live("logprob,jaccard", results=tmp_path / "r", **asked).frame().groupby("pruner")
    for name in ("logprob", "jaccard"):  # one cut: what scores paths as a set needs no more than the others
        assert lines.loc[name].accuracy_mean == pytest.approx((live.right.mean()[name] / 3), abs=1e-6)
        assert lines.loc[name].tokens_mean == pytest.approx(
            sum(live[f"cost.{kind}"].mean()[name] for kind in ("generated", "probed", "reread", "verifier")), abs=1e-6
        )
    assert "8 -> 3 at step@5" in table.title and "deepconf-offline" in lines.index
    assert lines.loc["random (expected)"].serial_mean > 0
    with pytest.raises(PathpruneError, match="figures show a single cut"):
        table.plot()


def test_a_rule_alone_has_no_places(steps_run: Callable[..., Run]) -> None:
    run = steps_run("step@5:3")
    bench(run, [registry.pruner("asc")], lambda done, note: None)
    with pytest.raises(PathpruneError, match="no scores at step@5"):
        Table.of(run.folder, run.spec, [p.id for p in run.chosen()], None, run.bank)


def test_the_shares_of_a_scorer_along_places_have_a_line_with_a_rule(steps_run: Callable[..., Run]) -> None:
    run = steps_run("step@5:5,step@16:3")
    bench(run, [registry.pruner("logprob")], lambda done, note: None)
    group, _ = schedule_of(run.folder, run.spec, [p.id for p in run.chosen()])
    together = paired(registry.method("logprob+asc"), group, run.spec)
    assert together is not None and not together.failures
    method = together.method
    assert method.spent is not None and method.latency is not None
    ends = group.ends(method.pool)
    assert (method.spent >= np.minimum(method.pool.lengths, ends[0])).all()
    alone = latency_of(method.pool, ends, [np.zeros_like(method.values, bool)] * 2)
    assert (method.latency.serial >= alone.serial).all()
    assert generation(method.pool, ends, [np.zeros_like(method.values)] * 2)[0].sum() <= method.spent.sum()


# -- specs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ("stepp@16:4", "unknown place of a cut 'stepp'; did you mean step"),
        ("@16:4", "unknown place of a cut"),
        ("x@16:4", "known: token, step, forced"),
        ("step@:4", "is not PREFIX:KEEP"),
        ("step@x:4", "is not PREFIX:KEEP"),
        ("step:16:4", "is not PREFIX:KEEP"),
        ("step@16:4,forced@16:2", "does not come after"),
        ("step@16:4,9:2", "does not come after"),
        ("step@16:4,forced@30:5", "keep must be from 1 to .*, not 5"),
        ("step@48:4", "prefix must be from 1 to .*, not 48"),
        ("forced@0:4", "prefix must be from 1 to .*, not 0"),
        ([(16, 4, "stepp")], "did you mean step"),
        ([(16, 4, 3)], "the place of a cut must be one of token, step, forced, not 3"),
        ([(16, 4, ["step"])], "the place of a cut must be one of"),
        ([(16, 4, "step", 1)], "stages must be pairs"),
    ],
)
def test_a_bad_schedule_is_one_line(stages: Any, told: str, steps_run: Callable[..., Run]) -> None:
    with pytest.raises(PathpruneError, match=told) as caught:
        RunSpec.of(Steps(), ToyEngine(), 8, 48, parse_stages(stages) if isinstance(stages, str) else stages)
    assert "\n" not in str(caught.value)


class Stepless(Toy):
    defaults = replace(Toy.defaults, step="")


class Mute(ToyEngine):
    provides = frozenset({"text"})


@pytest.mark.parametrize(
    ("stages", "where", "told"),
    [
        ("step@16:4", {"task": Stepless()}, "which task toy does not define"),
        ("forced@16:4", {"engine": Mute()}, "needs 'forced', which engine toy does not provide"),
    ],
)
def test_places_that_cannot_be_found_are_refused(
    stages: str, where: dict[str, Any], told: str, steps_run: Callable[..., Run]
) -> None:
    with pytest.raises(PathpruneError, match=told) as caught:
        steps_run(stages, **where)
    assert "\n" not in str(caught.value) and "cut at a length: 16:4" in str(caught.value)
    steps_run("16:4", **where)


# -- imported pools ----------------------------------------------------------------------------------------------------


def imported(folder: FilePath, **more: Any) -> Any:
    """A pool of texts without tokens, four paths a problem: steps of unlike lengths."""
    import pathprune as pp

    texts = [f"one{'!' * i}\n\n" + "two words\n\n" * (i + 1) + f"so \\boxed{{{i % 2}}}" for i in range(4)]
    rows = [
        {"problem": f"{q}?", "answer": "0", "paths": [{"text": f"{q} {t}", **more} for t in texts]} for q in range(3)
    ]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pp.import_pool(folder / "mine.jsonl", "mine", pools=folder / "pools", progress=False)


def test_paths_without_tokens_are_cut_at_their_steps(tmp_path: FilePath) -> None:
    """In the units that the pool has: the text up to a place ends a step."""
    import pathprune as pp

    pool = imported(tmp_path)
    asked: dict[str, Any] = {"n": 4, "progress": False, "results": tmp_path / "results"}
    table = pp.bench(pool, "shortest", stages=[(3, 2, "step")], **asked)
    record = next(iter(records.records(table.group.folder, "judged")))
    view = table.run.engine.view
    for row in record.lines.values():
        stored = {p.index: p for p in view.get(Problem(row["problem"], "", ""), 0)}
        for index, at in enumerate(row["places"]):
            steps = [stored[index].tokens[:end].text.count("\n\n") for end in range(at + 1)]
            assert at >= 3 and steps[at] > steps[at - 1] == steps[2]
    assert len(record.lines) == 3 and not table.failures


def test_an_imported_pool_without_probes_cannot_be_forced(tmp_path: FilePath) -> None:
    import pathprune as pp

    with pytest.raises(PathpruneError, match="needs 'forced', which engine imported does not provide"):
        pp.bench(imported(tmp_path), "shortest", n=4, progress=False, results=tmp_path / "r", stages="forced@3:2")


def test_the_command_line_takes_places(tmp_path: FilePath, run_cli: Any) -> None:
    given = ("--task", "toy", "--engine", "toy", "--n", "8", "--problems", "3", "--results", str(tmp_path / "results"))
    given += ("--bank", str(tmp_path / "bank"), "--pruner", "logprob")
    code, said = run_cli("bench", *given, "--stages", "forced@5:4,9:2")
    assert code == 0 and "8 -> 4 at forced@5 -> 2 at 9" in said
    code, said = run_cli("bench", *given, "--stages", "forced@5:4,9:2", "--live")
    assert code == 0
    code, said = run_cli("bench", *given, "--stages", "forsed@5:4,9:2")
    assert code == 2 and "did you mean forced" in said and "Traceback" not in said
