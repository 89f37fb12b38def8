"""Paths that run code: interrupted anywhere they are the paths that nothing interrupted, on disk, in replay and in the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pathprune as pp
from harness import registry
from harness.api import Check, Cost, Decision, Path, PathpruneError, Sampling
from harness.engines.prompts import Prompts
from harness.engines.toy import ToyEngine
from harness.imports.exporting import export_bank, export_pool
from harness.imports.pool import native
from harness.imports.schema import content_digest
from harness.imports.shipping import About, other_paths, ship
from harness.learn.labels import LabelRecipe, continue_often, label_group
from harness.ledger import Metered, MeteredProbe
from harness.loop import decide, prune
from harness.plugins.declared import Method
from harness.pools.bank import Bank, Banked
from harness.replay.policy import Policy, play
from harness.replay.pool import Pool, own_rule, replay
from harness.replay.stages import Checks, generation
from harness.replay.sweep import sweep
from harness.report import groups
from harness.report.rows import rows
from harness.report.sheet import sheet
from harness.runners.bench import bench
from harness.runners.live import run_live
from harness.runners.run import Run
from harness.runners.work import _pool_row
from harness.spec import RunSpec, Stage, bank_spec
from harness.studies.findings import with_tools
from harness.testing import engine_conformance
from harness.tools import formats
from harness.tools.drawn import Restoring
from harness.tools.engine import ToolEngine
from harness.tools.formats import FORMATS, Malformed
from harness.tools.interpreter import UNDONE
from harness.tools.limits import MIB, Limits
from harness.tools.sandbox import Sandbox
from tasks.toy import Toy
from tests.calling import Caller, calling
from tests.test_imports import differing
from tests.test_tools import needs_bwrap

LIMIT = 170
FAST = Limits(seconds=2.0, wall=20.0, memory=512 * MIB)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    opened = Sandbox(FAST, workers=2)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def whole(sandbox: Sandbox) -> list[list[Path]]:
    """Paths that nothing interrupted, some of them with several calls."""
    return calling(sandbox).launch(Toy().problems("dev", 2), 8, LIMIT, 0)


def same(one: Path, other: Path) -> bool:
    """Tokens, what of them was given, text, end and statistics."""
    parts = ("tokens", "given", "text", "finish")
    return all(getattr(one, p) == getattr(other, p) for p in parts) and bool(
        one.stats and other.stats and np.array_equal(one.stats.logprob, other.stats.logprob)
    )


@needs_bwrap
def test_calls_are_run_and_what_they_print_is_given(whole: list[list[Path]]) -> None:
    """Each kind of call is there, none of the made-up outputs is, and a length counts what the model wrote."""
    paths = [p for group in whole for p in group]
    given = [p.text[start:stop] for p in paths for start, stop in p.given]
    assert {"```output\n3\n```\n"} <= {g.lstrip("\n") for g in given}
    assert (
        any("NameError" in g for g in given)
        and any(UNDONE in g for g in given)
        and any("SyntaxError" in g for g in given)
    )
    assert "999" not in "".join(p.text for p in paths) and max(len(p.given) for p in paths) >= 3
    for path in paths:
        assert path.drawn <= LIMIT and path.stats is not None and len(path.stats.logprob) == path.drawn
        assert path.finish == ("stop" if path.tokens[-1] == 31 else "length")


@needs_bwrap
@pytest.mark.parametrize("kept", ["warm", "rebuilt", pytest.param("everywhere", marks=pytest.mark.long)])
def test_a_path_that_was_cut_anywhere_goes_on_as_if_it_had_not_been(
    kept: str, whole: list[list[Path]], sandbox: Sandbox
) -> None:
    """Inside a call, behind one before its output, behind the output: the same tokens, statistics and state."""
    paths = [p for group in whole for p in group if len(p.given) > 1][: 3 if kept != "everywhere" else 8]
    fresh = Sandbox(FAST, workers=2, most=3)
    engine = calling(fresh if kept == "rebuilt" else sandbox)
    try:
        for path in paths:
            behind = [start - sum(b - a for a, b in path.given[:k]) for k, (start, _) in enumerate(path.given)]
            lengths = {
                "warm": range(1, path.drawn, 11),
                "rebuilt": [*behind, path.drawn - 2],
                "everywhere": range(1, path.drawn),
            }
            for length in lengths[kept]:
                prefix = path.cut(length, engine.decode)
                assert prefix.drawn == length and (not prefix.given or prefix.given[-1][1] < len(prefix.tokens))
                assert same(engine.resume([prefix], LIMIT)[0], path)
    finally:
        fresh.close()


@needs_bwrap
@pytest.mark.parametrize("stride", [1, 16, 64, 1000])
def test_launching_to_any_length_is_cutting_there(stride: int, whole: list[list[Path]], sandbox: Sandbox) -> None:
    """A launch runs no call that its last token completes, however often it looks for one."""
    engine = calling(sandbox, stride)
    problems = Toy().problems("dev", 1)
    for length in (1, 20, 48, 49, 60, 130) if stride > 1 else (49, 60):
        launched = engine.launch(problems, 8, length, 0)[0]
        assert all(same(one, path.cut(length, engine.decode)) for one, path in zip(launched, whole[0], strict=True))


@needs_bwrap
@pytest.mark.long
def test_an_engine_with_tools_keeps_every_promise_of_an_engine(sandbox: Sandbox) -> None:
    """The conformance suite that ships, bench and bank included."""

    class Short(Toy):
        defaults = replace(Toy.defaults, max_tokens=120)

    for name, wrong in engine_conformance(calling(sandbox), Short(), (10, 49)):
        assert wrong is None, f"{name}: {wrong}"


@needs_bwrap
def test_given_tokens_are_charged_as_read(whole: list[list[Path]], sandbox: Sandbox) -> None:
    """Drawn ones are generated, and both take their FLOPs, at once or in two steps."""
    engine, problems = calling(sandbox), Toy().problems("dev", 2)
    once, twice = Check(np.random.default_rng(0)), Check(np.random.default_rng(0))
    Metered(engine, once).launch(problems, 8, LIMIT, 0)
    meter = Metered(engine, twice)
    groups = meter.launch(problems, 8, 49, 0)
    meter.resume([p for group in groups for p in group], LIMIT)
    paths = [p for group in whole for p in group]
    drawn = sum(p.drawn for p in paths)
    assert (once.cost.generated, once.cost.probed) == (drawn, sum(len(p.tokens) for p in paths) - drawn)
    assert twice.cost.generated == once.cost.generated and twice.cost.probed == once.cost.probed
    assert twice.cost.flops == pytest.approx(once.cost.flops)


@needs_bwrap
def test_banks_hold_what_was_given_and_refuse_what_cannot_be(
    whole: list[list[Path]], sandbox: Sandbox, tmp_path: FilePath
) -> None:
    """Read back, every path is what it was; a pool without tools has no such column."""
    engine, task = calling(sandbox), Toy()
    problem = whole[0][0].problem
    bank = Bank(tmp_path, bank_spec(task, engine, 0, LIMIT))
    bank.put(problem, whole[0])
    assert all(same(a, b) for a, b in zip(bank.get(problem, 0), whole[0], strict=True))
    cuts = Banked(engine, bank, LIMIT).launch([problem], 8, 60, 0)[0]
    assert all(same(a, b.cut(60, engine.decode)) for a, b in zip(cuts, whole[0], strict=True))
    table = pq.read_table(bank.file(problem))
    for wrong in ([[5]] * 8, [[9, 5]] * 8, [[0, 5]] * 8, [[3, 10**6]] * 8, [[3, None]] * 8):
        column = table.schema.get_field_index("given")
        pq.write_table(table.set_column(column, "given", pa.array(wrong, pa.list_(pa.int32()))), bank.file(problem))
        with pytest.raises(PathpruneError, match="given to a path"):
            bank.get(problem, 0)
    plain = Bank(tmp_path / "plain", bank_spec(task, Caller(), 0, LIMIT))
    plain.put(problem, Caller().launch([problem], 2, 40, 0)[0])
    assert "given" not in pq.read_table(plain.file(problem)).column_names


def tool_run(sandbox: Sandbox, folder: FilePath, engine: Any = None, n: int = 6) -> Run:
    task, engine = Toy(), engine or calling(sandbox)
    spec = RunSpec.of(task, engine, n, 130, [Stage(49, 2)])
    return Run(spec, task, engine, 3, folder / "results", folder / "bank")


def journals(folder: FilePath) -> dict[str, list[Any]]:
    """Rows of every record, without what tells of the machine."""
    return {
        str(f.relative_to(folder)): sorted((json.loads(line) for line in f.read_text().splitlines()[1:]), key=str)
        for f in sorted(folder.rglob("*.jsonl"))
    }


@needs_bwrap
def test_a_replay_costs_and_keeps_what_a_live_run_does(sandbox: Sandbox, tmp_path: FilePath) -> None:
    """Tokens, FLOPs, kept paths and votes of one problem after the other; seconds of calls stand in the live record."""
    run = tool_run(sandbox, tmp_path)
    plugin = registry.pruner("logprob")
    result = bench(run, [plugin], lambda done, note: None)
    assert not result.failures
    live = run_live(run, [Method.alone(plugin)], lambda done, note: None)[0]
    for problem in Toy().problems("test", 3):
        outcome = prune(problem, run.task, run.engine, plugin.pruner, run.spec)
        pool = pool_of(run, problem)
        mask = np.isin(np.arange(6), outcome.kept)[None]
        replayed = replay(pool, mask, 49, [outcome.rounds[0].cost])
        assert replayed.tokens[0] == outcome.cost.tokens and replayed.generated[0] == outcome.cost.generated
        assert replayed.flops[0] == pytest.approx(outcome.cost.flops)
        drawn, given, flops = generation(pool, [49], [mask])
        assert drawn[0] + given[0] == outcome.cost.generated + outcome.cost.probed
        assert flops[0] == pytest.approx(outcome.cost.flops - outcome.rounds[0].cost.flops)
        row = live.lines[problem.id]
        assert row["kept"] == list(outcome.kept) and row["cost"] == vars(outcome.cost) and row["tools"] >= 0
    assert run.engine.tool_seconds > 0


def pool_of(run: Run, problem: Any) -> Pool:
    paths = run.engine.launch([problem], run.spec.n, run.spec.limit, 0)[0]
    row = _pool_row(run.task, run.engine, paths)
    return Pool.from_record({"flops": vars(run.engine.flops)}, {problem.id: row}, run.spec.n)


@needs_bwrap
def test_expectations_count_what_is_given(sandbox: Sandbox, tmp_path: FilePath) -> None:
    """Keeping all of a pool costs all of its tokens, in every kind of replay."""
    run = tool_run(sandbox, tmp_path)
    problem = Toy().problems("test", 1)[0]
    pool, paths = pool_of(run, problem), run.engine.launch([problem], 6, 130, 0)[0]
    every = sum(len(p.tokens) for p in paths)
    assert pool.given is not None and pool.subset(pool.problems).read(pool.lengths).sum() == every - pool.lengths.sum()
    assert sweep(pool, None, 49, [(6, 6)], draws=0).tokens[0, 0] == every
    assert play(pool, Policy(6, (Stage(49, 6),)), [even_checks(pool)], draws=3).tokens[0] == every
    assert (
        play(
            pool, Policy(6, (Stage(49, 6),), registry.pruner("fewer:n=6").pruner), [even_checks(pool)], draws=3
        ).tokens[0]
        == every
    )
    ruled = own_rule(pool, pool.lengths, np.ones((1, 6)), [Cost()])
    assert ruled.tokens[0] == every and ruled.generated[0] == pool.lengths.sum()


@needs_bwrap
@pytest.mark.parametrize(
    "name",
    [
        "deepconf-online:warmup=2", "deepconf-offline", "self-certainty-borda", "slimsc-online", "asc", "st-bon-online",
        "parallel-probe:step=24,suffix=§6answer", "mars:step=24,window=4,warmup=4,suffix=§6answer",
    ],
)  # fmt: skip
def test_decision_rules_bear_outputs(name: str, whole: list[list[Path]], sandbox: Sandbox) -> None:
    """A rule counts drawn tokens, of which a path has no more than it may spend."""

    class Reads(Toy):
        def answer(self, text: str) -> str | None:
            return text.rpartition("answer ")[2] if "answer " in text else None

    decision, _ = decide(registry.pruner(name).pruner, whole[0], calling(sandbox), Reads(), 0)
    assert (decision.spent <= [p.drawn for p in whole[0]]).all() and decision.spent.any()


class Probing:
    """A rule that asks an engine about every beginning of a path, and remembers what it is told."""

    needs = frozenset({"text", "trace", "forced"})
    warmup = 0

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        cuts = [p.cut(length, check.decode) for p in paths for length in range(1, len(p.tokens), 9)]
        self.texts = check.engine.force(cuts, "answer", 3)
        self.states = [
            check.engine.trace([p], lambda states, path: (states.shape[1], len(path.tokens)), before=1)[0] for p in cuts
        ]
        self.lengths = [len(p.tokens) for p in cuts]
        return Decision(np.array([len(p.tokens) for p in paths]), np.ones(len(paths)))


@needs_bwrap
def test_a_rule_asks_about_drawn_tokens_and_the_model_reads_all(whole: list[list[Path]], sandbox: Sandbox) -> None:
    """Forced texts begin with the whole prefix, states are of drawn tokens alone, and what was given is charged as read."""
    rule, engine, paths = Probing(), calling(sandbox), whole[0]
    _, spent = decide(rule, paths, engine, Toy(), 0)
    cuts = [p.cut(length, engine.decode) for p in paths for length in range(1, p.drawn, 9)]
    assert any(c.given for c in cuts)
    for cut, text, (columns, length), drawn in zip(cuts, rule.texts, rule.states, rule.lengths, strict=True):
        assert text.startswith(cut.text + "answer") and (columns, length, drawn) == (
            1 + cut.drawn,
            cut.drawn,
            cut.drawn,
        )
    assert spent.cost.probed >= sum(1 + len(c.tokens) for c in cuts)
    with pytest.raises(PathpruneError, match="no beginning of path"):
        Restoring(MeteredProbe(engine, Check(np.random.default_rng(0))), paths, engine.decode).force(
            [replace(paths[0], tokens=(1, 2), given=())], "answer", 3
        )


@needs_bwrap
def test_findings_take_in_pools_with_tools(sandbox: Sandbox, tmp_path: FilePath) -> None:
    """Of 16 and 24 paths: the votes of its table's rows; pools without tools and of other sizes are passed over."""
    for n, engine in ((16, None), (6, None), (16, ToyEngine())):
        run = tool_run(sandbox, tmp_path, engine, n)
        assert not bench(run, [registry.pruner("logprob")], lambda done, note: None).failures
    random, everything = with_tools(tmp_path / "results", "logprob")
    (group,) = (g for g in groups(tmp_path / "results") if "tools" in g.spec["engine"] and g.pool.n == 16)
    table = {row.name: row.voted.mean for row in rows(group, 8)}
    assert random.value.mean == pytest.approx(table["logprob"] - table["random (expected)"])
    assert everything.value.mean == pytest.approx(table["logprob"] - table["all (no pruning)"])
    assert random.paper == "39 to 43 of 50 (AIMO3, one run)" and random.testbed == "toy by caller, L 49"


READ = (
    "logprob,deepconf,jaccard,jaccard:units=words,central,repetition,first,deepconf-online:warmup=2,slimsc-online,asc"
)


@needs_bwrap
def test_an_exported_pool_with_outputs_comes_back_to_the_same_rows(sandbox: Sandbox, tmp_path: FilePath) -> None:
    """Every beginning of every path, and so the scores, costs and votes of each method that reads texts or statistics."""
    run = tool_run(sandbox, tmp_path)
    assert not bench(run, list(map(registry.pruner, READ.split(","))), lambda done, note: None).failures
    pool = pp.import_pool(export_bank(run, tmp_path / "out"), "called", pools=tmp_path / "pools", progress=False)
    for problem in Toy().problems("test", 3):
        banked = run.opened_bank().get(problem, 0)[:6]
        assert any(path.given for path in banked)
        for one, other in zip(banked, native(pool).get(problem, 0), strict=True):
            assert same(one, replace(other, tokens=tuple(other.tokens)))
            for length in range(1, one.drawn + 1):
                cut = other.cut(length, lambda tokens: tokens.text)  # type: ignore[attr-defined]
                assert same(one.cut(length, run.engine.decode), replace(cut, tokens=tuple(cut.tokens)))
    (group,) = groups(tmp_path / "results")
    table = sheet([(group, rows(group, 2))], 2)
    again = pp.bench(READ, pool, n=6, keep=2, prefix=49, results=tmp_path / "again", progress=False)
    assert not again.failures and {*table["name"]} == {*again.frame()["name"]}
    assert not differing(table, again.frame())


@needs_bwrap
def test_a_pool_with_outputs_is_handed_on_and_ships(sandbox: Sandbox, tmp_path: FilePath) -> None:
    run = tool_run(sandbox, tmp_path)
    assert not bench(run, [registry.pruner("logprob")], lambda done, note: None).failures
    pool = pp.import_pool(export_bank(run, tmp_path / "out"), "called", pools=tmp_path / "pools", progress=False)
    export_pool(pool, tmp_path / "second")
    assert pp.import_pool(tmp_path / "second", "again", pools=tmp_path / "pools", progress=False).digest == pool.digest
    (record,) = {file.parent for file in (tmp_path / "results").rglob("pool.*")}
    assert list(other_paths(pool, record)) == [] and pp.check_pool(pool, progress=False) == []
    shipped = ship(pool, tmp_path / "shipped", None, About())
    assert pp.check_pool(shipped, progress=False) == [] and all(
        content_digest(shipped.rows(name)) == content_digest(pool.rows(name)) for name in pool.entries
    )


def even_checks(pool: Pool) -> Checks:
    """Scores that cost nothing and put no path before another."""
    nothing = np.zeros(pool.lengths.shape)
    return Checks(nothing.astype(np.float32), nothing, nothing, nothing[:, 0], nothing[:, 0])


@needs_bwrap
def test_a_bench_that_was_killed_goes_on_to_the_same_records(sandbox: Sandbox, tmp_path: FilePath) -> None:
    """With another sandbox, as another process has."""

    class Killed(ToolEngine):
        def resume(self, paths: Any, max_tokens: int) -> Any:
            if any(p.problem.id.endswith("2") for p in paths):
                raise KeyboardInterrupt
            return super().resume(paths, max_tokens)

    plugins = [registry.pruner(name) for name in ("logprob", "first")]
    options = {"tools": "python", "tool_format": "fenced"}
    with pytest.raises(KeyboardInterrupt):
        bench(
            tool_run(sandbox, tmp_path / "killed", Killed(Caller(), options, sandbox, 16)),
            plugins,
            lambda done, note: None,
        )
    other = Sandbox(FAST, workers=1)
    try:
        bench(
            tool_run(other, tmp_path / "killed", ToolEngine(Caller(), options, other, 16)),
            plugins,
            lambda done, note: None,
        )
    finally:
        other.close()
    bench(
        tool_run(sandbox, tmp_path / "whole", ToolEngine(Caller(), options, sandbox, 16)),
        plugins,
        lambda done, note: None,
    )
    assert journals(tmp_path / "killed" / "results") == journals(tmp_path / "whole" / "results")


@needs_bwrap
def test_prefixes_with_outputs_are_labelled_and_read_back(sandbox: Sandbox) -> None:
    """Continuations of a prefix find the state of its calls; forced answers and states are had of it."""
    engine, task = calling(sandbox), Toy()
    recipe = LabelRecipe(
        problems=2, n=4, continuations=3, prefixes=(60,), per_problem=2, max_tokens=130, bounds=(0.0, 1.0)
    )
    rows, cost = label_group(task, engine, task.problems("label", 2), recipe)
    labelled = [r for r in rows if r["kind"] == "monte-carlo"]
    assert labelled and any("given" in r for r in labelled)
    assert all(len(r["tokens"]) - sum(np.diff(r.get("given", []))[::2]) == 60 for r in labelled)
    assert cost.launched_tokens == sum(
        len(r["tokens"]) - sum(np.diff(r.get("given", []))[::2]) for r in rows if r["kind"] == "outcome"
    )
    prefix = engine.launch(task.problems("label", 1), 4, 60, 0)[0]
    assert continue_often(task, engine, prefix, 2, 130)[1] > 0
    meter = MeteredProbe(engine, Check(np.random.default_rng(0)))
    assert meter.probe(prefix).shape == (4, 1, 8)
    forced = meter.force([p for p in prefix if p.finish == "length"], "answer 4", 3)
    assert all("answer 4" in text for text in forced)


CALLED = {
    "fenced": "Let me see.\n```python\nx = '```'\nx\n```\nand ```text\n``` or\n  ```py\n  1\n  ```\n",
    "hermes": 'So <tool_call>\n{"name": "python", "arguments": {"code": "1\n+1"}}\n</tool_call><tool_call>{"name": "sh"}</tool_call>',
    "harmony": (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>analysis to=python code<|message|>1+1<|call|>"
        '<|start|>assistant<|channel|>commentary to=functions.python <|constrain|>json<|message|>{"code": "2"}<|call|>'
        "<|channel|>analysis to=browser.search code<|message|>x<|call|>"
    ),
}
CODES = {
    "fenced": ["x = '```'\nx\n", "1\n"],
    "hermes": ["1\n+1", "NameError: there is no tool 'sh'; the only one is python"],
    "harmony": ["1+1", "2", "NameError: there is no tool 'browser.search'; the only one is python"],
}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_behind_a_call_does_not_move_its_end(name: str) -> None:
    """Every beginning of a text holds the calls that it completes, and no others."""
    calls, text = FORMATS[name].calls, CALLED[name]
    found = list(calls(text))
    assert [c.code.says if isinstance(c.code, Malformed) else c.code for c in found] == CODES[name]
    for length in range(len(text) + 1):
        assert list(calls(text[:length])) == [c for c in found if c.end <= length]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("hermes", "<tool_call>{</tool_call>", "no JSON"),
        ("hermes", "<tool_call>[1]</tool_call>", 'a call is {"name"'),
        ("hermes", '<tool_call>{"name": "python", "arguments": "{"}</tool_call>', "arguments of the call are no JSON"),
        ("hermes", '<tool_call>{"name": "python", "arguments": {"cod": 1}}</tool_call>', "arguments of python are"),
        ("hermes", "<tool_call>" + "[" * 100_000 + "</tool_call>", "no JSON"),
        ("harmony", "1+1<|call|>", "a call is <|channel|>"),
        ("harmony", "<|channel|>analysis to=functions.python<|message|>1<|call|>", "arguments of python are"),
    ],
)
def test_a_malformed_call_is_told_what_is_wrong(name: str, text: str, says: str) -> None:
    (call,) = FORMATS[name].calls(text)
    assert isinstance(call.code, Malformed) and says in call.code.says


QWEN = (
    "{%- if tools %}<|im_start|>system\n<tools>{{ tools | tojson }}</tools><|im_end|>\n{%- endif %}"
    "{%- for m in messages %}{%- if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response><|im_end|>{{ '\\n' }}"
    "{%- else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{{ '\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{%- endif %}{#- <tool_call> -#}"
)


def prompts_of(model: str, template: str | None, **chat: Any) -> Prompts:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = template
    return Prompts(tokenizer, 2048, {"model": "tiny", "chat": chat})


def test_a_template_tells_of_the_tool_and_shows_its_answers(tiny_model: str) -> None:
    """What stands around an output is what the model's own template writes there; the prompt names the tool."""
    told = prompts_of(tiny_model, QWEN, tools="python")
    assert told.tools is not None and told.tools.name == "hermes"
    assert told.tools.before == "<|im_end|>\n<|im_start|>user\n<tool_response>\n"
    assert told.tools.after == "\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    assert '"name": "python"' in told.spell(told.ids("1 + 1"))
    fenced = prompts_of(tiny_model, QWEN, tools="python", tool_format="fenced")
    assert formats.TIR in fenced.spell(fenced.ids("1 + 1"))
    assert prompts_of(tiny_model, QWEN).ids("1 + 1") != told.ids("1 + 1")


@pytest.mark.parametrize(
    ("template", "chat", "says"),
    [
        (None, {}, "tiny has no chat template, hence no known tool format"),
        (QWEN.replace("<tool_call>", ""), {}, "chat template of tiny has no known tool format"),
        (QWEN.replace("tools", "x"), {"tool_format": "hermes"}, "does not describe tools"),
        (QWEN, {"tool_format": "harmony"}, "does not describe tools"),
        (QWEN, {"tool_format": "herms"}, "did you mean hermes"),
        (QWEN.replace("m.role == 'tool'", "false").replace("{{ m.content }}<|im_end|>", "{{ '' if m.role == 'tool' else m.content }}"), {}, "does not support tool output"),
    ],
)  # fmt: skip
def test_a_template_without_tools_is_refused_in_one_line(
    tiny_model: str, template: str | None, chat: dict[str, str], says: str
) -> None:
    with pytest.raises(PathpruneError, match=says) as error:
        prompts_of(tiny_model, template, tools="python", **chat)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("engine", "options", "says"),
    [
        ("toy", {"tools": "bash"}, "tools must be python"),
        ("toy", {"tool_format": "fenced"}, "requires tools=python"),
        ("toy", {"tools": "python", "tool_format": "fence"}, "did you mean fenced"),
        ("toy", {"tools": "python", "tool_seconds": 0}, "CPU seconds per call"),
        ("toy", {"tools": "python", "unsafe_tool": True}, "does not take unsafe_tool=True"),
    ],
)
def test_wrong_options_are_one_line(engine: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(PathpruneError, match=says):
        registry.engine(engine, "toy", Sampling(), **options)


def test_what_decides_an_output_is_part_of_the_spec() -> None:
    """Limits, versions and the lack of a sandbox: such paths are none of a run with others."""
    specs = [
        registry.engine("toy", "toy", Sampling(), tools="python", tool_format="fenced", **more).spec
        for more in ({}, {"tool_seconds": 9}, {"unsafe_tools": True}, {"tool_output": 80})
    ]
    assert len({json.dumps(s, sort_keys=True) for s in specs}) == 4 and specs[2]["tools"]["unsafe"] is True
    assert "unsafe" not in specs[0]["tools"] and specs[0]["tools"]["versions"]["python"]


@needs_bwrap
def test_an_engine_of_transformers_goes_on_behind_a_call(tiny_model: str, sandbox: Sandbox) -> None:
    """What it draws behind an output, and a state read there, are those of the same tokens without tools."""
    plain = registry.engine("hf", tiny_model, Sampling(), device="cpu")
    engine = ToolEngine(plain, {"tools": "python", "tool_format": "fenced"}, sandbox)
    problem = Toy().problems("dev", 1)[0]
    call = plain.encode("```python\nprint(6 * 7, '<eos>')\n```")
    prefix = Path(problem, 0, 0, call, plain.decode(call))
    (longer,) = engine.resume([prefix], len(call) + 12)
    assert plain.decode(longer.tokens[len(call) : longer.given[0][1]]) == "\n```output\n42 < eos>\n```\n"
    assert longer.given == ((len(call), longer.given[0][1]),) and longer.drawn == len(call) + 12
    assert 256 not in longer.tokens[len(call) : longer.given[0][1]]
    behind = replace(longer, tokens=longer.tokens[: longer.given[0][1]], stats=None, given=())
    assert plain.resume([behind], len(longer.tokens))[0].tokens == longer.tokens
    (launched,) = engine.launch([problem], 1, 70, 0)[0]
    assert plain.store.get((problem.prompt, launched.tokens)) is not None  # a Check behind it computes one token
    half = longer.cut(len(call) + 5, plain.decode)
    assert engine.resume([half], len(call) + 12)[0].tokens == longer.tokens
    assert np.allclose(engine.probe([half]), plain.probe([replace(half, given=())]), atol=1e-4)


@needs_bwrap
def test_a_context_that_is_full_ends_a_path(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is raised in the middle of a bench: the path has come to its limit, and stays what it was."""
    engine = calling(sandbox)
    monkeypatch.setattr(Caller, "context", 100, raising=False)
    for path in engine.launch(Toy().problems("dev", 1), 8, 90, 0)[0]:
        assert len(path.tokens) + engine.prompt_length(path.problem) <= 100
        assert same(engine.resume([path], 90)[0], path)
