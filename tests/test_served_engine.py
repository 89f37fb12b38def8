"""The engine contract over ``ask`` alone: a server that replies from a table, with nothing of vLLM's and no weights."""

from __future__ import annotations

import ast
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
import torch

from harness import registry
from harness.api import Check, Cost, Path, PathpruneError, Problem, Sampling
from harness.engines.identity import locate
from harness.engines.sampling import as_stats, statistics
from harness.engines.served import asking
from harness.engines.served.asking import Reply, Request
from harness.engines.served.engine import ServedEngine
from harness.engines.served.turns import Turns
from harness.ledger import Metered
from harness.plugins.sampled import without
from harness.pools.bank import Banked
from harness.rng import uniforms
from harness.runners.live import run_live
from harness.runners.run import Run
from harness.spec import RunSpec
from harness.testing import engine_conformance
from tasks.embedded.hands import Hands

LIMIT, CUT = 60, 22


class TableEngine(ServedEngine):
    """A row of the table is log P of the next token after this one; the served "cache" holds prompts seen before."""

    def __init__(self, sampling: Sampling | None = None, **options: Any) -> None:
        sampling = sampling or Sampling()
        spec = {"engine": "table", "model": "hands", "fingerprint": "t", "dtype": "none", "sampling": asdict(sampling)}
        super().__init__(locate("hands"), spec, sampling, revision=None, context=None, rows=4, **options)
        size = self.config.vocab_size
        logits = np.random.default_rng(0).normal(size=(size, size)) * 2
        self.table = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        self.asked: list[Request] = []
        self.seen: set[tuple[int, ...]] = set()

    def ask(self, requests: Sequence[Request]) -> list[Reply]:
        self.asked += requests
        return [self._reply(r) for r in requests]

    def _reply(self, request: Request) -> Reply:
        cached = max((len(p) for p in self.seen if request.prompt[: len(p)] == p), default=0)
        tokens = list(request.prompt)
        rows, tops = [], []
        while len(rows) < request.max_tokens:
            logprobs = self.table[tokens[-1]]
            token = int(logprobs.argmax())
            if key := request.stream:
                u = uniforms(key.seed, key.problem, key.path, key.start + len(rows), key.start + len(rows) + 1)[0]
                token = int(np.exp(logprobs).cumsum().searchsorted(u))
            tokens.append(token)
            rows.append([logprobs[i] for i in (token, *request.logprob_ids)])
            likely = logprobs.argsort()[::-1][: request.top]
            tops.append((likely.tolist(), logprobs[likely].tolist()))
            if request.stop_at_end and token in self.ends:
                break
        self.seen.add(tuple(tokens[:-1]))
        drawn = tuple(tokens[len(request.prompt) :])
        return Reply(drawn, "stop" if drawn[-1] in self.ends else "length", np.array(rows), tops, cached)


class MuteEngine(TableEngine):
    """A server that reports no log-probabilities."""

    provides = frozenset({"text", "forced"})


@pytest.fixture
def problems(hands: Hands) -> list[Problem]:
    return hands.problems("dev", 3)


def flat(groups: list[list[Path]]) -> list[Path]:
    return [p for group in groups for p in group]


def test_launch_and_resume_are_one_uninterrupted_sample(problems: list[Problem]) -> None:
    engine = TableEngine()
    whole = flat(engine.launch(problems, 8, LIMIT, seed=4))
    assert {p.finish for p in whole} == {"stop", "length"} and len({p.tokens for p in whole}) > 12
    prefixes = flat(engine.launch(problems, 8, CUT, seed=4))
    for path, expected in zip(engine.resume(prefixes, LIMIT), whole, strict=True):
        assert (path.tokens, path.text, path.finish) == (expected.tokens, expected.text, expected.finish)
        assert path.stats is not None and expected.stats is not None
        assert np.array_equal(path.stats.logprob, expected.stats.logprob) and len(path.stats.logprob) == len(
            path.tokens
        )


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.0)])
def test_it_conforms(sampling: Sampling, hands: Hands) -> None:
    assert [f for f in engine_conformance(TableEngine(sampling), hands, cuts=(1, CUT)) if f[1]] == []


def test_what_is_asked_is_the_rest_of_each_unfinished_path(problems: list[Problem]) -> None:
    sampling = Sampling(temperature=0.9, top_p=0.8, top_k=7)
    engine = TableEngine(sampling)
    prefixes = flat(engine.launch(problems, 2, CUT, seed=4))
    unfinished = [p for p in prefixes if p.finish == "length"]
    del engine.asked[:]
    assert engine.resume(prefixes, CUT) == prefixes and not engine.asked
    engine.resume(prefixes, LIMIT)
    assert engine.asked == [
        Request(
            prompt=engine.ids(p.problem.prompt) + p.tokens,
            max_tokens=LIMIT - CUT,
            stream=asking.StreamKey(4, p.problem.id, p.index, CUT, 0.9, 0.8, 7),
            stop_at_end=True,
        )
        for p in unfinished
    ]


def test_counters_are_the_server_s_and_charges_are_the_method_s(problems: list[Problem]) -> None:
    """What the server found in its cache is counted and changes no charge: that is what the method needs."""
    engine = TableEngine()
    check = Check(np.random.default_rng(0))
    metered = Metered(engine, check)
    prefixes = metered.launch(problems[:1], 4, CUT, seed=4)[0]
    prompt = engine.prompt_length(problems[0])
    assert engine.counters.prompted == 4 * prompt
    before = engine.counters.cached
    longer = metered.resume(prefixes, LIMIT)
    unfinished = [p for p in prefixes if p.finish == "length"]
    assert engine.counters.prompted == 4 * prompt + len(unfinished) * (prompt + CUT)
    assert engine.counters.cached - before == len(unfinished) * (prompt + CUT - 1)  # all but the last token's KV
    lengths = [len(p.tokens) for p in longer]
    flops = engine.flops(0, prompt) + sum(engine.flops(prompt, prompt + n) for n in lengths)
    assert check.cost == Cost(generated=sum(lengths), flops=pytest.approx(flops))


def test_next_logprobs_are_the_table_s(problems: list[Problem]) -> None:
    engine = TableEngine()
    prefixes = engine.launch(problems[:1], 3, CUT, seed=4)[0]
    expected = [[engine.table[p.tokens[-1], t] for t in (3, 9)] for p in prefixes]
    assert np.array_equal(engine.next_logprobs(prefixes, [3, 9]), np.array(expected, dtype=np.float32))


@pytest.mark.parametrize(
    ("top", "known"),
    [(0, ("logprob",)), (5, ("logprob", "margin")), (20, ("logprob", "confidence", "margin", "top_entropy"))],
)
def test_statistics_are_those_that_the_log_probabilities_give(
    top: int, known: tuple[str, ...], problems: list[Problem]
) -> None:
    """Against the definitions over the full distribution, which this server does not report."""
    engine = TableEngine()
    engine.top = top
    for path in flat(engine.launch(problems[:1], 3, CUT, seed=4)):
        before = (*engine.ids(path.problem.prompt), *path.tokens)[-len(path.tokens) - 1 : -1]
        logits = torch.tensor(engine.table[list(before)], dtype=torch.float32)
        expected = as_stats(statistics(logits, torch.tensor(path.tokens)).numpy())
        assert path.stats is not None and path.stats.known == known
        for name in known:
            assert np.allclose(getattr(path.stats, name), getattr(expected, name), rtol=2e-3, atol=1e-3), name


def test_a_server_that_reports_nothing_provides_text(problems: list[Problem]) -> None:
    engine = MuteEngine()
    assert not hasattr(engine, "probe")
    prefixes = flat(TableEngine().launch(problems, 2, CUT, seed=4))
    unfinished = [p for p in prefixes if p.finish == "length"]
    # Statistics of the first half only would be read as those of another path.
    assert unfinished and all(p.stats is None for p in engine.resume(unfinished, LIMIT))


def test_a_path_that_does_not_fit_is_refused_before_anything_is_asked(problems: list[Problem]) -> None:
    engine = TableEngine()
    with pytest.raises(PathpruneError, match=r"need .* positions, the model has 1024"):
        engine.launch(problems, 1, 5000, seed=0)
    assert not engine.asked


LEAN: Any = frozenset({"token_stats"})


def test_statistics_that_nobody_reads_are_not_asked_for(problems: list[Problem]) -> None:
    """The paths are the same; what goes on from one without statistics has none, rather than those of its last tokens."""
    engine = TableEngine()
    lean = engine.without(LEAN)
    told, bare = (e.launch(problems, 4, CUT, seed=3) for e in (engine, lean))
    assert [[p.tokens for p in g] for g in told] == [[p.tokens for p in g] for g in bare]
    assert [r.bare for r in engine.asked] == [False] * 12 + [True] * 12
    assert all(p.stats is None for g in bare for p in g) and all(p.stats is not None for g in told for p in g)
    assert all(p.stats is None or len(p.stats.logprob) == len(p.tokens) for p in engine.resume(bare[0], LIMIT))
    assert lean.counters is engine.counters and lean.without(LEAN) is lean and MuteEngine().without(LEAN).asked == []


def test_a_wrapper_is_not_left_out_with_the_statistics(problems: list[Problem]) -> None:
    """One that passes on what it does not know would lose its own work: counting, a bank, a sandbox."""

    class Passing:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    wrapper = Passing(TableEngine())
    assert without(wrapper) is wrapper
    banked = Banked(TableEngine(), None, LIMIT)
    assert without(banked) is banked


@pytest.mark.parametrize(("pruner", "bare"), [("jaccard", True), ("logprob", False)])
def test_a_live_run_asks_for_statistics_where_the_method_reads_them(
    pruner: str, bare: bool, hands: Hands, tmp_path: FilePath
) -> None:
    engine = TableEngine()
    run = Run(
        RunSpec.of(hands, engine, 4, LIMIT, [(CUT, 2)]), hands, engine, 1, tmp_path / "results", tmp_path / "bank"
    )
    record = run_live(run, [registry.method(pruner)], lambda *_: None)[0]
    assert "error" not in next(iter(record.lines.values()))
    assert {r.bare for r in engine.asked} == {bare}


def test_a_bank_without_statistics_is_one_of_its_own(run_cli: Any, hands: Hands) -> None:
    """A method that needs them is refused there before anything is loaded."""
    sampling = hands.defaults.sampling
    told, lean = (registry.engine("vllm", "hands", sampling, **o) for o in ({}, {"statistics": False}))
    assert "token_stats" in told.provides and "token_stats" not in lean.provides
    assert told.spec != lean.spec and registry.engine("vllm", "hands", sampling, statistics=True).spec == told.spec
    code, said = run_cli("bench", "--engine", "vllm:statistics=false", "--pruner", "logprob", "--problems", "1")
    assert code == 2 and "needs token_stats, which engine vllm does not provide" in said


def test_the_room_knows_no_server() -> None:
    """Nothing in it imports an engine that is built on it."""
    for file in FilePath(asking.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if "vllm" in n or "engines.hf" in n], file


def test_requests_of_two_kinds_take_turns() -> None:
    turns, inside, seen = Turns(), Counter[str](), list[Counter[str]]()

    def work(kind: str) -> None:
        with turns.of(kind):
            inside[kind] += 1
            seen.append(+inside)
            time.sleep(0.002)
            inside[kind] -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, ["a", "a", "b", "a", "b", "b"] * 8))
    assert all(len(kinds) == 1 for kinds in seen) and max(kinds.total() for kinds in seen) > 1
