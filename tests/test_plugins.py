"""Plug-ins of others: their mistakes are one line each, stay theirs, and change nothing that another method sees."""

from __future__ import annotations

import json
import locale
import os
import random
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import pathprune as pp
from harness import registry
from harness.api import PathpruneError, UnavailableError
from harness.plugins import guard
from harness.plugins.contracts import complete_task
from harness.plugins.declared import RESERVED
from harness.plugins.guard import PluginError, contained
from harness.pools.bank import Bank
from harness.progress import bar
from harness.session import choose
from harness.spec import RunSpec
from harness.testing import conformance
from tasks.toy import Toy
from tests.test_contracts import Dice

ASKED: dict[str, Any] = {"task": "toy", "n": 4, "keep": 2, "problems": 2, "limit": 20, "prefix": 5, "progress": False}
EVERYTHING = frozenset({"text", "token_stats", "hidden", "trace", "forced"})

Score = Callable[[Any, Sequence[pp.Path], pp.Check], Any]


class Honest:
    """Mean confidence, by way of whatever of the process a score could depend on."""

    quadrant, needs = "control", frozenset({"token_stats"})

    def score(self, prefixes: Sequence[pp.Path], check: pp.Check) -> Any:
        import torch

        noise = np.random.random() + random.random() + float(torch.rand(()))
        ones = torch.ones(()) / 3
        assert FilePath("here").exists() and "HOME" in os.environ and torch.is_grad_enabled()
        warnings.warn("harmless", stacklevel=1)
        np.zeros(1) / np.zeros(1)
        return [float(p.stats.confidence.mean()) + float(ones) + noise for p in prefixes if p.stats]


def pruner(score: Score, name: str = "Mine", **members: Any) -> type:
    return type(name, (Honest,), {"score": score, **members})


@pytest.fixture
def bench(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pp.Result]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").touch()

    def run(pruners: Any, folder: str = "results", **given: Any) -> pp.Result:
        return pp.bench(pruners, **({"engine": "toy", "results": folder, "bank": "bank"} | ASKED | given))

    return run


def rows(folder: FilePath | str, stem: str) -> list[dict[str, Any]]:
    """All rows of the records whose names begin so, headers left out."""
    files = sorted(FilePath(folder).rglob(f"{stem}*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()[1:]]


# What a score method does, and what the error row says.


def exits(self: Any, prefixes: Any, check: Any) -> Any:
    sys.exit(0)


def raises(error: BaseException) -> Score:
    def score(self: Any, prefixes: Any, check: Any) -> Any:
        raise error

    return score


def gives(value: Any) -> Score:
    return lambda self, prefixes, check: value(prefixes) if callable(value) else value


def charges(**cost: Any) -> Score:
    def score(self: Any, prefixes: Any, check: Any) -> Any:
        check.charge(pp.Cost(**cost), prefixes[0])
        return [0.0] * len(prefixes)

    return score


def asks(ask: Callable[[pp.Check, Any], Any]) -> Score:
    """Asks for something that nobody can give."""

    def score(self: Any, prefixes: Any, check: Any) -> Any:
        ask(check, prefixes)
        return [0.0] * len(prefixes)

    return score


def reader(check: pp.Check) -> Any:
    return check.reader("toy", pp.Sampling(), engine="toy")


def books(value: Any) -> Score:
    """Writes into its ledger by itself."""

    def score(self: Any, prefixes: Any, check: Any) -> Any:
        check.cost = value
        return [0.0] * len(prefixes)

    return score


class TextlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("score", "says"),
    [
        (exits, r"SystemExit: 0 \(test_plugins.py:\d+\)"),
        (raises(KeyboardInterrupt()), r"KeyboardInterrupt \(test_plugins"),
        (raises(GeneratorExit()), "GeneratorExit"),
        (raises(BaseException("odd")), "BaseException: odd"),
        (raises(StopIteration()), "StopIteration"),
        (raises(RecursionError("deep")), "RecursionError: deep"),
        (raises(ValueError("\udc80\x1b[31m\n[/x]")), r"ValueError: \\udc80\\x1b\[31m \[/x\]"),
        (raises(ValueError("x" * 10**6)), r"ValueError: x+\.\.\."),
        (raises(TextlessError()), "TextlessError: .it has no text"),
        (raises(UnavailableError("no weights")), "^no weights$"),
        (gives(None), "gave None, not 4 scores"),
        (gives("1234"), "gave '1234', not 4 scores"),
        (gives(0.5), "gave 0.5, not 4 scores"),
        (gives({}), "gave {}, not 4 scores"),
        (gives(lambda ps: (0.0 for _ in ps)), r"gave <generator object .*>, not 4 scores"),
        (gives([0.0]), r"gave scores of shape \(1,\) for 4 paths"),
        (gives([[0.0]] * 4), r"gave scores of shape \(4, 1\) for 4 paths"),
        (gives([[0.0], [0.0, 1.0], [], []]), "ValueError: .*inhomogeneous"),
        (gives(["a"] * 4), "<U1 values, not real numbers"),
        (gives([None] * 4), "object values, not real numbers"),
        (gives([1j] * 4), "complex128 values, not real numbers"),
        (gives(np.array([object()] * 4)), "object values, not real numbers"),
        (gives([0, 1, float("nan"), float("inf")]), "2 of 4 scores are not finite"),
        (gives([0, 1, 2, 1e300]), r"1e\+300 is beyond the largest float32"),
        (charges(reread=-1), "a cost must be finite and 0 or more, not reread=-1"),
        (charges(reread=2.5), "a cost in tokens must be an integer, not reread=2.5"),
        (charges(reread=float("nan")), "not reread=nan"),
        (charges(flops=float("inf")), "not flops=inf"),
        (charges(flops=1.7e308), r"flops must be at most 1e\+100"),
        (charges(reread=10**5000), r"reread must be at most 9.*e\+15"),
        (charges(flops=1j), "not flops=1j"),
        (charges(verifier="3"), "not verifier='3'"),
        (books(pp.Cost(probed=-1)), "not probed=-1"),
        (books(None), "AttributeError: 'NoneType'"),
        (lambda s, ps, c: c.charge(5), r"charge\(\) takes a Cost, not 5"),
    ],
)
def test_what_a_score_does_wrong_is_an_error_row(score: Score, says: str, bench: Any) -> None:
    table = bench([pruner(score), "first"])
    assert table.failures.keys() == {"Mine"} and table.failures["Mine"][0] == 2
    assert is_one_line(table.failures["Mine"][1], says)
    assert [set(row) for row in rows("results", "L5-Mine")] == [{"problem", "error"}] * 2
    assert len(rows("results", "L5-first")) == 2


def is_one_line(text: str, says: str) -> bool:
    return "\n" not in text.strip() and len(text) < 1200 and re.search(says, text) is not None


@pytest.mark.parametrize(
    "value", [[True, False, True, False], np.arange(4, dtype=np.int8), range(4), np.arange(4, dtype=np.float16), (1, 2, 3, 4)]
)  # fmt: skip
def test_any_sequence_of_real_numbers_is_a_score(value: Any, bench: Any) -> None:
    assert not bench(pruner(gives(value))).failures
    assert rows("results", "L5-Mine")[0]["scores"] == [float(v) for v in value]


def test_costs_may_be_numbers_of_numpy(bench: Any) -> None:
    bench(pruner(charges(reread=np.int64(3), flops=np.float32(0.5))))
    assert [row["cost"]["reread"] for row in rows("results", "L5-Mine")] == [3, 3]


def test_scores_that_float32_does_not_tell_apart_are_told(bench: Any) -> None:
    with pytest.warns(UserWarning, match="Mine differ by less than the precision of float32"):
        bench(pruner(gives([1e9 + i for i in range(4)])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bench(pruner(gives([1e9 + 1000 * i for i in range(4)]), "Other"))


# What is not declared is not read as if it were empty.


@pytest.mark.parametrize(
    ("needs", "read", "says"),
    [
        ((), lambda p, c: len(p.text), "add 'text' to its needs"),
        ((), lambda p, c: p.text.count("w1"), "add 'text' to its needs"),
        ((), lambda p, c: p.text == "", "add 'text' to its needs"),
        ((), lambda p, c: "w1" in p.text, "add 'text' to its needs"),
        ((), lambda p, c: 1.0 if p.text else 0.0, "add 'text' to its needs"),
        ((), lambda p, c: len(f"{p.text}"), "add 'text' to its needs"),
        ((), lambda p, c: len("".join([p.text])), "Undeclared found"),
        (("text",), lambda p, c: p.stats.logprob.mean(), "add 'token_stats' to its needs"),
        (("text",), lambda p, c: p.cut(2, c.decode).stats.entropy.sum(), "add 'token_stats' to its needs"),
        (("text",), lambda p, c: c.engine.probe([p])[0, 0, 0], "add 'hidden', 'trace' or 'forced' to its needs"),
        (("hidden",), lambda p, c: c.engine.force([p], "answer", 1), "declares that it needs forced"),
        (("forced",), lambda p, c: len(c.closing), "add 'text' to its needs"),
        (("forced",), lambda p, c: c.answer("x"), "declares that it needs text"),
    ],
)
def test_reading_what_was_not_declared_is_an_error_row(needs: Any, read: Any, says: str, bench: Any) -> None:
    table = bench(pruner(lambda s, ps, c: [read(p, c) for p in ps], needs=needs))
    assert says in table.failures["Mine"][1]


def test_paths_without_declared_text_are_probed_and_forced_all_the_same(bench: Any) -> None:
    def score(self: Any, prefixes: Any, check: Any) -> Any:
        forced = check.engine.force(prefixes, "answer", 1)
        return check.engine.probe(prefixes)[:, 0, 0] + [len(text) for text in forced]

    assert not bench(pruner(score, needs=("hidden", "forced"))).failures


# Nothing that a method is handed is shared with another.


def writes_statistics(path: pp.Path, check: Any) -> None:
    path.stats.logprob[:] = 0  # type: ignore[union-attr]


def unlocks_statistics(path: pp.Path, check: Any) -> None:
    path.stats.logprob.flags.writeable = True  # type: ignore[union-attr]


def unlocks_a_slice(path: pp.Path, check: Any) -> None:
    path.stats.cut(3).logprob.base.flags.writeable = True  # type: ignore[union-attr]


def assigns_statistics(path: pp.Path, check: Any) -> None:
    path.stats.logprob = np.zeros(3)  # type: ignore[union-attr]


def assigns_tokens(path: Any, check: Any) -> None:
    path.tokens = ()


@pytest.mark.parametrize(
    "change", [writes_statistics, unlocks_statistics, unlocks_a_slice, assigns_statistics, assigns_tokens]
)
def test_what_a_method_is_handed_is_read_only(change: Any, bench: Any) -> None:
    table = bench(pruner(lambda s, ps, c: [change(p, c) for p in ps], needs=EVERYTHING))
    assert any(word in table.failures["Mine"][1] for word in ("read-only", "WRITEABLE", "cannot assign"))


def tampers(self: Any, prefixes: Any, check: Any) -> Any:
    """Whatever gets past the locks of a dataclass, on all that a method can reach."""
    for path in prefixes:
        object.__setattr__(path, "tokens", (1, 2, 3))
        object.__setattr__(path, "text", "answer 7")
        object.__setattr__(path, "finish", "stop")
        object.__setattr__(path.problem, "id", "other")
        path.stats.__dict__["confidence"] = np.zeros(len(path.stats.confidence), np.float16)
    states = check.engine.probe(prefixes)
    states[:] = 0
    check.engine.spec["model"] = "other"
    check.engine.spec["sampling"]["temperature"] = 9.0
    check.each.clear()
    prefixes.clear()
    return [0.0] * 4


class Keeps(registry.load("engines", "toy")[0]("toy", pp.Sampling()).__class__):  # type: ignore[misc]
    """A toy engine that gives the same array of states again."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[Any, np.ndarray] = {}

    def probe(self, paths: Any, adapter: Any = None) -> np.ndarray:
        return self.states.setdefault(tuple(p.tokens for p in paths), super().probe(paths, adapter))

    def trace(self, paths: Any, reduce: Any, before: int = 0) -> Any:
        key = ("trace", *(p.tokens for p in paths))
        states = self.states.setdefault(key, np.ones((2, 3, 4)))
        return [reduce(states, p) for p in paths]


def test_tampering_reaches_neither_other_methods_nor_the_bank(bench: Any) -> None:
    probing = pruner(lambda s, ps, c: c.engine.probe(ps).sum((1, 2)), "Probing", needs={"hidden"})
    honest = ["deepconf", "jaccard", probing]
    bench(honest, "alone", engine=Keeps(), bank="one")
    bench([pruner(tampers, needs=EVERYTHING), *honest], "beside", engine=Keeps(), bank="two")
    assert rows("alone", "L5-[dp jP]") == rows("beside", "L5-[dp jP]")
    for name in ("L5-deepconf", "L5-jaccard", "L5-Probing", "pool"):
        assert rows("alone", name) == rows("beside", name) != []
    one, two = (sorted(FilePath(bank).rglob("*.parquet")) for bank in ("one", "two"))
    assert [f.read_bytes() for f in one] == [f.read_bytes() for f in two]


def test_states_that_are_reduced_are_read_only(bench: Any) -> None:
    def score(self: Any, prefixes: Any, check: Any) -> Any:
        return check.engine.trace(prefixes, lambda states, path: states.fill(0))

    assert "read-only" in bench(pruner(score, needs={"trace"}), engine=Keeps()).failures["Mine"][1]


def test_the_right_answers_are_not_a_step_away(bench: Any) -> None:
    def score(self: Any, prefixes: Any, check: Any) -> Any:
        task = getattr(check.answer, "__self__", None)
        return [float(task is not None or bool(p.problem.answer)) for p in prefixes]

    bench(pruner(score, needs={"text"}))
    assert rows("results", "L5-Mine")[0]["scores"] == [0.0] * 4


# Statistics belong to a pool's rows.


def test_a_pool_of_other_statistics_is_refused_and_old_rows_stay_valid(bench: Any) -> None:
    bench("first")
    run = bench("first").run
    bank, problem = run.opened_bank(), Toy().problems("test", 1)[0]
    paths = bank.get(problem, 0)
    assert all(len(row["stats"]) == 12 for row in rows("results", "pool"))
    changed = pp.TokenStats(**{n: np.zeros_like(getattr(paths[0].stats, n)) for n in paths[0].stats.known})
    object.__setattr__(paths[0], "stats", changed)
    bank.file(problem).unlink()
    bank.put(problem, paths)
    with pytest.raises(PathpruneError, match="banked token statistics of toy-test-00000 are not those"):
        bench("deepconf")
    pool = next(FilePath("results").rglob("pool.jsonl"))
    before = [json.loads(line) for line in pool.read_text().splitlines()]
    pool.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "stats"}) + "\n" for row in before))
    assert not bench("deepconf").failures


# A hostile pruner before an honest one: the honest one's scores are those it has alone.


def closes_streams() -> None:
    sys.stdout.close()
    sys.stderr.close()


def replaces_streams() -> None:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


def moves_away() -> None:
    os.chdir("/")


def empties_the_environment() -> None:
    os.environ.clear()


def seeds() -> None:
    import torch

    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)


def sets_torch() -> None:
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_float32_matmul_precision("medium")
    torch.set_default_device("meta")


def makes_warnings_errors() -> None:
    warnings.simplefilter("error")


def makes_numpy_raise() -> None:
    np.seterr(all="raise")
    np.set_printoptions(legacy="1.13", precision=1)  # type: ignore[call-overload]


def lowers_the_recursion_limit() -> None:
    sys.setrecursionlimit(120)


def sets_the_locale() -> None:
    locale.setlocale(locale.LC_ALL, "C")


def takes_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def state() -> list[Any]:
    import torch

    return [
        sys.stdout, sys.stderr, sys.stdout.closed, FilePath.cwd(), *map(os.environ.get, ("HOME", "PATH")), np.random.get_state()[1].tolist(),  # type: ignore[index, union-attr]
        random.getstate(), torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.is_grad_enabled(),
        torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.get_default_device(),
        list(warnings.filters), np.geterr(), np.get_printoptions(), sys.getrecursionlimit(), locale.setlocale(locale.LC_ALL),
        signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM),
    ]  # fmt: skip


HOSTILE = [
    closes_streams, replaces_streams, moves_away, empties_the_environment, seeds, sets_torch, makes_warnings_errors,
    makes_numpy_raise, lowers_the_recursion_limit, sets_the_locale, takes_signals,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", HOSTILE)
def test_what_a_plugin_changes_of_the_process_is_put_back(change: Callable[[], None], bench: Any) -> None:
    np.random.seed(7), random.seed(7)
    before = state()
    contained(change)
    assert state() == before

    def score(self: Any, prefixes: Any, check: Any) -> Any:
        change()
        return [0.0] * len(prefixes)

    hostile, first = pruner(score, "Hostile"), []
    for pruners, folder in (([Honest], "alone"), ([hostile, Honest], "beside")):
        np.random.seed(7), random.seed(7), __import__("torch").manual_seed(7)
        first.append(bench(pruners, folder).failures)
    assert first == [{}, {}]
    assert rows("alone", "L5-Honest") == rows("beside", "L5-Honest") != []


def test_a_plugin_may_print(bench: Any, capsys: Any) -> None:
    def score(self: Any, prefixes: Any, check: Any) -> Any:
        print("a note")
        return [0.0] * len(prefixes)

    bench(pruner(score), progress=True)
    assert capsys.readouterr().out.count("a note") == 2


# Ctrl-C and time.


def test_a_users_interruption_is_one_whatever_a_plugin_does_with_it(bench: Any) -> None:
    def swallows(self: Any, prefixes: Any, check: Any) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except BaseException:
            return [0.0] * len(prefixes)

    def turns(self: Any, prefixes: Any, check: Any) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt as error:
            raise ValueError from error

    for score in (swallows, turns):
        with pytest.raises(KeyboardInterrupt):
            bench(pruner(score))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def sleeps(self: Any, prefixes: Any, check: Any) -> Any:
    time.sleep(30)


def spins(self: Any, prefixes: Any, check: Any) -> Any:
    while True:
        pass


def holds_on(self: Any, prefixes: Any, check: Any) -> Any:
    while True:
        try:
            time.sleep(30)
        except Exception:
            continue


def gives_in(self: Any, prefixes: Any, check: Any) -> Any:
    try:
        time.sleep(30)
    except BaseException:
        return [0.0] * len(prefixes)


@pytest.mark.parametrize("score", [sleeps, spins, holds_on, gives_in])
def test_a_plugin_that_never_returns_has_a_time_limit(score: Score, bench: Any) -> None:
    began = time.monotonic()
    table = bench([pruner(score), "first"], time_limit=0.2, problems=1)
    assert table.failures.keys() == {"Mine"} and time.monotonic() - began < 20
    assert table.failures["Mine"][1].startswith("took longer than 0.2 s")
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_time_limit_never_cuts_the_harness_short() -> None:
    """An engine that is left in the middle of a step might give others wrong states."""
    inside = {"__name__": "harness.engines.any", "time": time}
    exec("def step():\n    time.sleep(0.3)\n    done.append(1)", inside | {"done": (done := [])}, space := {})
    step = space["step"]

    def work() -> None:
        step()
        time.sleep(30)

    with pytest.raises(PluginError, match="took longer"):
        contained(work, 0.05)
    assert done == [1]


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), "3"])
def test_a_time_limit_is_a_number_of_seconds(limit: Any, bench: Any) -> None:
    with pytest.raises(PathpruneError, match="time_limit must be a number of seconds"):
        bench("first", time_limit=limit)


# What is loaded.


COUNT = iter(range(99))


def fails(error: BaseException) -> property:
    def read(self: Any) -> Any:
        raise error

    return property(read)


def faulty(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("inside")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"__init__": faulty}, r"pruner 'Mine' cannot be made with no options: ZeroDivisionError: inside \(test_plugins.py:\d+\)"),
        ({"__init__": lambda self: sys.exit(0)}, "cannot be made with no options: SystemExit: 0"),
        ({"__init__": lambda self, size: None}, "cannot be made with no options: TypeError"),
        ({"quadrant": fails(ZeroDivisionError("q"))}, r"'Mine': quadrant raised ZeroDivisionError: q \(test_plugins"),
        ({"needs": fails(SystemExit(0))}, "'Mine': needs raised SystemExit: 0"),
        ({"vote": fails(AttributeError("gone"))}, "'Mine': vote raised AttributeError: gone"),
        ({"score": fails(KeyError("s"))}, "'Mine': score raised KeyError: 's'"),
        ({"decide": fails(KeyError("d"))}, "'Mine': decide raised KeyError: 'd'"),
        ({"__getattr__": faulty, "score": 3}, "'Mine': stops raised ZeroDivisionError: inside"),
        ({"identity": faulty}, r"'Mine': identity\(\) raised ZeroDivisionError: inside"),
        ({"identity": lambda self: sys.exit(0)}, r"'Mine': identity\(\) raised SystemExit: 0"),
        ({"identity": lambda self: [1]}, r"identity\(\) returned \[1\], not a dictionary"),
        ({"identity": lambda self: {1: 2}}, "not a dictionary of names"),
        ({"identity": lambda self: {"a": object()}}, "returned a value that JSON cannot store"),
        ({"identity": lambda self: {"a": float("nan")}}, "returned a value that JSON cannot store"),
        ({"identity": lambda self: {"a": next(COUNT)}}, r"identity\(\) names \{'a': \d+\} and then"),
        *[({"identity": lambda self, k=k: {k: 1}}, rf"identity\(\) may not set {k}") for k in sorted(RESERVED)],
        ({"needs": "text"}, "needs must be a set of signals"),
        ({"needs": 3}, "needs must be a set of signals"),
        ({"decide": faulty, "warmup": -1}, "warmup must be a number of paths, 0 or more, not -1"),
        ({"decide": faulty, "warmup": 1.5}, "warmup must be of type int, not 1.5"),
    ],
)  # fmt: skip
def test_what_a_pruner_raises_or_declares_wrongly_is_one_line(
    members: dict[str, Any], says: str, bench: Any, tmp_path: FilePath
) -> None:
    with pytest.raises(PathpruneError, match=says):
        bench(type("Mine", (Honest,), members))
    assert not list(tmp_path.rglob("*.jsonl"))


def test_every_key_of_a_record_is_reserved(bench: Any) -> None:
    spec = bench("first").run.spec
    assert spec.scored_at(5).keys() | spec.live.keys() <= RESERVED


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (pp.Pruner, "Pruner is an abstract pruner"),
        (pp.Streaming, "Streaming is an abstract"),
        (5, "'int' is not a pruner"),
        (int, "'int' is not a pruner|pruner int has no readable signature"),
        (None, "'NoneType' is not a pruner"),
        ([np.zeros(3)], "'ndarray' is not a pruner"),
        ("", "no pruner given"),
    ],
)
def test_what_is_no_pruner_is_one_line(given: Any, says: str, bench: Any) -> None:
    with pytest.raises(PathpruneError, match=says):
        bench(given)


HOSTILE_CLASS = (
    "class Meta(type):\n    def __getattribute__(self, name): raise KeyError(name)\n"
    "class Mine(metaclass=Meta):\n    quadrant, needs = 'control', ()\n    def score(self, ps, check): return [0.0] * len(ps)\n"
)


def test_an_object_that_shows_nothing_of_itself_is_one_line(bench: Any) -> None:
    closed = type("Mine", (Honest,), {"__getattribute__": lambda self, name: {}[name]})
    with pytest.raises(PathpruneError, match="pruner 'Mine' raised KeyError"):
        bench(closed())


FILE = "class Mine:\n    quadrant, needs = 'control', ()\n    def score(self, ps, check): return [float(p.index) for p in ps]\n"


@pytest.mark.parametrize(
    ("text", "spec", "says"),
    [
        ("import sys; sys.exit(0)", "Mine", r"cannot be imported \(SystemExit: 0 \(mine.py:1\)\)"),
        ("1 / 0", "Mine", "cannot be imported .ZeroDivisionError"),
        ("def", "Mine", "cannot be imported .SyntaxError"),
        ("\0", "Mine", "cannot be imported"),
        ("raise KeyboardInterrupt", "Mine", "cannot be imported .KeyboardInterrupt"),
        ("Mine = 5", "Mine", "Mine in .*mine.py must be a class, not 5"),
        ("def Mine(): pass", "Mine", "Mine in .*mine.py must be a class, not <function Mine>"),
        ("import os", "os", "os in .*mine.py must be a class, not <module 'os'"),
        (FILE, "Mina", "did you mean Mine"),
        (FILE, "", "unknown class in"),
        (FILE.replace("Mine:", "Mine:\n    def __init__(self): 1 / 0"), "Mine", "cannot be made with .*ZeroDivisionError.*mine.py:2"),
        ("from pathlib import Path as Mine", "Mine", "Mine is not defined in .*mine.py but in pathlib"),
        ("Mine = int", "Mine", "Mine is not defined in .*mine.py but in builtins"),
        ("from datetime import datetime as Mine", "Mine", "is not defined in .*mine.py but in datetime"),
        ("def __getattr__(name): raise KeyError(name)", "Mine", r"mine.py@Mine' raised KeyError: 'Mine' .mine.py:1"),
        (HOSTILE_CLASS, "Mine", r"raised KeyError: '\w+' .mine.py:2"),
        (HOSTILE_CLASS.replace("type", "").replace("class Mine(metaclass=Meta)", "class Mine(Meta)"), "Mine", r"raised KeyError"),
        ("from pathprune import Pruner as Mine", "Mine", "is an abstract pruner"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["bench", "check"])
def test_a_file_of_a_pruner_fails_in_one_line(
    verb: str, text: str, spec: str, says: str, run_cli: Any, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    FilePath("mine.py").write_text(text)
    given = (f"{tmp_path}/mine.py@{spec}",) if verb == "check" else ("--pruner", f"./mine.py@{spec}", "--problems", "2")
    code, said = run_cli(verb, *given, "--task", "toy", "--engine", "toy")
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1
    assert is_one_line(said, says)
    assert not FilePath("results").exists()


@pytest.mark.parametrize("name", ["nowhere.py", "~nobody-of-this-name/x.py", "nul\0.py", "folder.py", "text.txt"])
def test_a_file_that_is_not_there_is_one_line(name: str, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    FilePath("folder.py").mkdir()
    FilePath("text.txt").touch()
    with pytest.raises(PathpruneError, match="no pruner file at"):
        registry.pruner(f"{name}@Mine")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0 (mine.py:4)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt (mine.py:4)"),
        ("return [1e300] * len(ps)", "beyond the largest float32"),
        ("return [len(p.text) for p in ps]", "add 'text' to its needs"),
        (
            "self.n = getattr(self, 'n', 0) + 1; return [0.0] * (len(ps) if self.n < 4 else 1)",
            "never fails on prefixes",
        ),
    ],
)
def test_check_reports_faults_and_exits_with_2(body: str, says: str, run_cli: Any, tmp_path: FilePath) -> None:
    (tmp_path / "mine.py").write_text(
        f"class Mine:\n    quadrant, needs = 'control', ()\n    def score(self, ps, check):\n        {body}\n"
    )
    code, said = run_cli("check", f"{tmp_path}/mine.py@Mine", "--task", "toy", "--engine", "toy")
    assert code == 2 and "FAIL" in said and says in said and "Traceback" not in said


def test_a_traceback_is_there_for_who_asks(bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("PATHPRUNE_TRACEBACK", "1")
    bench([pruner(raises(ValueError("boom")))])
    assert "Traceback" in capsys.readouterr().err


# Decisions.


def decides(spent: Any, weights: Any) -> type:
    def decide(self: Any, paths: Any, check: Any) -> Any:
        lengths = np.array([len(p.tokens) for p in paths])
        return pp.Decision(spent(lengths), weights(lengths))

    return type("Rule", (), {"quadrant": "control", "needs": (), "warmup": 0, "decide": decide})


@pytest.mark.parametrize(
    ("spent", "weights", "says"),
    [
        (lambda n: n - 0.5, np.ones_like, "fractional number of spent tokens"),
        (lambda n: -n, np.ones_like, "fewer than 0"),
        (lambda n: n[1:], np.ones_like, r"spent of shape \(3,\) for 4 paths"),
        (lambda n: None, np.ones_like, "gave None, not 4 numbers of tokens spent"),
        (lambda n: n, lambda n: -n, "negative weight"),
        (lambda n: n, lambda n: n * np.nan, "4 of 4 weights are not finite"),
        (lambda n: n, lambda n: n * 1e300, "beyond the largest float32"),
        (lambda n: n, lambda n: n * 1j, "not real numbers"),
        (lambda n: n - 1, lambda n: n, "gives an aborted path a weight above 0"),
    ],
)
def test_a_decision_that_is_none_is_an_error_row(spent: Any, weights: Any, says: str, bench: Any) -> None:
    assert is_one_line(bench(decides(spent, weights)).failures["Rule"][1], says)
    assert all("error" in row for row in rows("results", "own-rule"))


def test_decide_returns_a_decision(bench: Any) -> None:
    rule = type("Rule", (decides(None, None),), {"decide": lambda self, paths, check: 3})
    assert bench(rule).failures["Rule"][1] == "gave 3, not a Decision"


# Tasks and engines.


class Graded(Toy):
    """A task of others that breaks its contract in one method."""

    def __init__(self, **members: Any) -> None:
        self.__dict__.update(members)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"correct": lambda a, p: "yes"}, r"correct\(\) returned 'yes', not True or False"),
        ({"correct": lambda a, p: None}, r"correct\(\) returned None"),
        ({"correct": lambda a, p: 2}, r"correct\(\) returned 2"),
        ({"correct": faulty}, r"task 'Graded': correct\(\) raised ZeroDivisionError: inside \(test_plugins.py:\d+\)"),
        ({"correct": lambda a, p: sys.exit(0)}, r"correct\(\) raised SystemExit: 0"),
        ({"answer": lambda t: 7}, r"answer\(\) returned 7, not a string or None"),
        ({"answer": faulty}, r"answer\(\) raised ZeroDivisionError"),
        ({"ended": lambda t: "no"}, r"ended\(\) returned 'no'"),
        ({"problems": lambda *a: None}, r"problems\(\) returned None, not a list of Problem"),
        ({"problems": lambda *a: [{"id": "1"}]}, "not a list of Problem"),
        ({"problems": lambda *a: [pp.Problem("1", "p", 7)]}, "not a answer that is a string"),
        ({"problems": faulty}, r"problems\(\) raised ZeroDivisionError"),
        ({"problems": lambda *a: [pp.Problem("1", "\ud800", "7")]}, "a prompt without lone surrogates"),
        ({"problems": lambda *a: [pp.Problem(f"id-{next(COUNT)}", "p", "7")]}, "different problems at each call"),
        ({"answer": lambda t: "\ud800"}, "a string without lone surrogates"),
        ({"version": 2}, "version must be a string, not 2"),
        ({"name": ""}, "name must be a string, not ''"),
        ({"defaults": {}}, "defaults must be a TaskDefaults"),
        ({"defaults": replace(Toy.defaults, prefixes=())}, "one or more prefixes, all integers above 0"),
        ({"defaults": replace(Toy.defaults, max_tokens="48")}, "all integers above 0"),
        ({"defaults": replace(Toy.defaults, sampling={})}, "defaults.sampling must be a Sampling"),
        ({"defaults": replace(Toy.defaults, closing=None)}, "defaults.closing must be a string"),
    ],
)
def test_a_task_that_breaks_its_contract_is_one_line(members: dict[str, Any], says: str, bench: Any) -> None:
    with pytest.raises(PathpruneError, match=says):
        bench("first", task=Graded(**members))


class Unprintable(str):
    def __str__(self) -> str:
        raise RuntimeError


def test_odd_numbers_and_texts_are_recorded_as_plain_ones(bench: Any) -> None:
    dice = Dice()
    dice.prompt_length = lambda problem: np.int64(3)  # type: ignore[method-assign]
    assert not bench("first", engine=dice).failures
    assert not bench("first", task=Graded(answer=Unprintable)).failures
    large = Honest()
    large.size = 10**5000  # type: ignore[attr-defined]
    assert not bench(large).failures


@pytest.mark.parametrize("count", [2**31, 10**12, 10**5000], ids=["just", "far", "unprintable"])
def test_problems_are_bounded(count: int, bench: Any) -> None:
    with pytest.raises(PathpruneError, match="problems must be at most 2147483647"):
        bench("first", problems=count)


def test_a_judgement_may_be_a_bool_of_numpy() -> None:
    task = complete_task(Graded(correct=lambda a, p: np.bool_(True)), "graded")
    assert task.correct("1", Toy().problems("test", 1)[0]) is True


def with_path(**changes: Any) -> Callable[[pp.Path], pp.Path]:
    def changed(path: pp.Path) -> pp.Path:
        for name, value in changes.items():
            object.__setattr__(path, name, value(path) if callable(value) else value)
        return path

    return changed


def stats(dtype: Any = np.float16, more: int = 0, value: float = 0.0) -> Callable[[pp.Path], pp.TokenStats]:
    return lambda path: pp.TokenStats(logprob=np.full(len(path.tokens) + more, value, dtype))


class Careless(Dice):
    """Changes each path that it gives."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def launch(self, problems: Any, n: int, max_tokens: int, seed: int) -> Any:
        groups = [[pp.Path(p, i, seed) for i in range(n)] for p in problems]
        return [[self.change(self._thrown(path, max_tokens)) for path in group] for group in groups]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_path(tokens=lambda p: list(p.tokens)), r"has tokens \[.*\], not a tuple of ints"),
        (with_path(tokens=lambda p: tuple(np.array(p.tokens))), "not a tuple of ints"),
        (with_path(tokens=lambda p: tuple(-t - 1 for t in p.tokens)), "not a tuple of ints from 0 on"),
        (with_path(tokens=lambda p: tuple(t + 2**31 for t in p.tokens)), "not a tuple of ints"),
        (with_path(finish="eos"), "has finish 'eos', not 'stop' or 'length'"),
        (with_path(finish=None), "has finish None"),
        (with_path(text=b"w1"), "has text b'w1'"),
        (with_path(text="\ud800"), "not a string of whole characters"),
        (with_path(index=lambda p: np.int64(p.index)), "a path's index must be an int, not np.int64"),
        (with_path(seed=1), "has seed 1, not 0"),
        (with_path(stats={}), "has stats {}, not TokenStats"),
        (with_path(stats=stats(np.float32)), "statistic logprob of path 0 of toy-test-00000 is float32, not float16"),
        (with_path(stats=stats(more=1)), "has 6 numbers for 5 tokens"),
        (with_path(stats=stats(value=np.nan)), "has values that are no numbers"),
        (lambda path: None, "it gave None, not a Path"),
        (faulty, r"engine 'Careless': launch\(\) raised ZeroDivisionError"),
        (lambda path: sys.exit(0), r"engine 'Careless': launch\(\) raised SystemExit: 0"),
    ],
)
def test_a_path_that_is_none_is_one_line(change: Any, says: str, bench: Any, tmp_path: FilePath) -> None:
    with pytest.raises(PathpruneError, match=says):
        bench("first", engine=Careless(change))
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("member", "value", "says"),
    [
        ("launch", lambda *a: None, "launch gave None"),
        ("launch", lambda *a: [5], r"launch gave \[5\]"),
        ("spec", None, "spec must be a dictionary, not None"),
        ("rows", 0, "rows must be an integer of 1 or more, not 0"),
        ("rows", "8", "rows must be an integer"),
        ("flops", pp.FlopModel(float("nan"), 0.0), "flops must have two finite numbers"),
        ("flops", pp.FlopModel(10**400, 0.0), "flops must have two finite numbers"),
        ("prompt_length", lambda p: 1.5, r"prompt_length\(\) returned 1.5, not an integer"),
        ("prompt_length", lambda p: -1, r"prompt_length\(\) returned -1"),
        ("describe", faulty, r"describe\(\) raised ZeroDivisionError"),
        ("prompt_length", faulty, r"prompt_length\(\) raised ZeroDivisionError"),
    ],
)
def test_an_engines_members_are_held_to_the_contract(member: str, value: Any, says: str, bench: Any) -> None:
    dice = Dice()
    setattr(dice, member, value)
    with pytest.raises(PathpruneError, match=says):
        bench("first", engine=dice)


@pytest.mark.parametrize("member", ["spec", "rows", "fingerprint", "provides", "flops"])
def test_a_property_of_an_engine_that_raises_is_named(member: str, bench: Any) -> None:
    broken = type("Broken", (Dice,), {member: fails(ZeroDivisionError("inside")), "__init__": lambda self: None})
    if member != "spec":
        broken.spec = Dice().spec  # type: ignore[attr-defined]
    with pytest.raises(PathpruneError, match=rf"Broken'.*: {member} raised ZeroDivisionError: inside"):
        bench("first", engine=broken())


# Objects: what use changes about them makes no other pruners of them.


class Counts:
    """Holds a parameter, a counter, a cache, what it computes once, and a model that no record can name."""

    quadrant, needs = "control", frozenset[str]()

    def __init__(self, size: int = 1) -> None:
        self.size, self.calls, self.seen, self.model = size, 0, [], None

    @cached_property
    def table(self) -> dict[str, int]:
        return {"a": 1}

    def score(self, prefixes: Any, check: Any) -> Any:
        self.calls += 1
        self.seen.append(self.calls)
        self.model = lambda: self.table
        return [float(p.index * self.size) for p in prefixes]


def names_of(*objects: Any) -> list[str]:
    return [p.name for p in choose(list(objects), Dice())[0]]


def test_use_makes_no_other_pruner_of_an_object_and_a_change_does(bench: Any) -> None:
    one = Counts()
    before = names_of(one)
    bench(one)
    assert one.calls == 2 and one.seen and names_of(one) == before
    assert bench(one).sampled == 0 and one.calls == 2  # its rows are there
    one.size = 2
    assert names_of(one) != before and bench(one) and one.calls == 4
    one.size = 1
    assert names_of(one) == before
    one.seen = ["given"]
    assert names_of(one) != before and names_of(Counts()) == before


@pytest.mark.parametrize("slots", ["size", ("size",), ("__size",)])
def test_slots_tell_objects_apart(slots: Any) -> None:
    private = "_Slotted__size" if slots == ("__size",) else "size"
    made = type("Slotted", (), {"__slots__": slots, "quadrant": "control", "needs": (), "score": lambda s, ps, c: [0]})
    one, other = made(), made()
    setattr(one, private, 1), setattr(other, private, 2)
    assert names_of(one) != names_of(other)


# What a method asks for is held to what can be given before an engine sees it.


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (
            lambda c, p: c.charge(pp.Cost(probed=1), "x"),
            r"charge\(\) takes one of the scored paths or None as path, not 'x'",
        ),
        (lambda c, p: c.charge(pp.Cost(probed=1), 0), "as path, not 0"),
        (
            lambda c, p: c.engine.force(p, "answer", -1),
            r"check.engine.force\(\): max_tokens must be an integer from 1 to 1,048,576, not -1",
        ),
        (lambda c, p: c.engine.force(p, "answer", 2.0), "max_tokens must be an integer"),
        (lambda c, p: c.engine.force(p, "answer", 10**9), "not 1000000000"),
        (lambda c, p: c.engine.force(p, None, 1), "suffix must be a text, not None"),
        (lambda c, p: c.engine.force("ab", "answer", 1), "paths must be a list of Path, not 'ab'"),
        (lambda c, p: c.engine.probe([None]), r"check.engine.probe\(\): paths must be a list of Path"),
        (lambda c, p: c.engine.trace(3, len), r"check.engine.trace\(\): paths must be a list of Path"),
        (
            lambda c, p: reader(c).generate(["w1"], -5),
            r"check.reader\(\).generate\(\): max_tokens must be an integer",
        ),
        (lambda c, p: reader(c).generate(["w1"], 5, n=0), "n must be an integer"),
        (lambda c, p: reader(c).generate("w1", 5), "prompts must be a list of texts"),
        (lambda c, p: reader(c).choices(["w1"], ["w2", "w3"], ["1"]), "1 prompts but 2 texts"),
        (lambda c, p: reader(c).choices(["w1"], ["w2"], ["1", ""]), "one of the words is empty"),
        (lambda c, p: reader(c).choices(["w1"], [2], ["1"]), "each of texts must be a text, not 2"),
    ],
)
def test_who_asks_for_nonsense_is_told_and_not_the_engine(ask: Any, says: str, bench: Any) -> None:
    table = bench(pruner(asks(ask), needs=EVERYTHING))
    assert re.search(says, table.failures["Mine"][1]), table.failures
    assert "breaks its contract" not in table.failures["Mine"][1]


# A method may start processes: none of them goes on with the bench.


@pytest.mark.parametrize("ends", [lambda: None, lambda: sys.exit(0), lambda: 1 / 0])
def test_a_process_that_is_forked_ends_with_the_method(ends: Callable[[], Any], bench: Any) -> None:
    def forks(check: pp.Check, prefixes: Any) -> None:
        child = os.fork()
        if not child:
            ends()
            return
        os.waitpid(child, 0)

    owner = os.getpid()
    table = bench(pruner(asks(forks)))
    assert os.getpid() == owner and not table.failures
    assert [row["problem"] for row in rows("results", "L5-Mine")] == ["toy-test-00000", "toy-test-00001"]


def test_a_forked_process_may_compute(bench: Any) -> None:
    """The threads of torch are not there after a fork."""
    import torch

    def forks(check: pp.Check, prefixes: Any) -> None:
        ones = torch.ones(600, 600)
        ones @ ones
        child = os.fork()
        if not child:
            os._exit(int((ones @ ones)[0, 0] != 600))
        assert os.waitpid(child, 0)[1] == 0

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert not bench(pruner(asks(forks)), time_limit=30).failures
    finally:
        torch.set_num_threads(threads)


SPAWNS = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

class Mine:
    quadrant, needs = "control", frozenset({"text"})
    def score(self, prefixes, check):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return list(pool.map(length, [p.text for p in prefixes]))

def length(text):
    return len(text)
"""


def test_a_file_of_ones_own_is_found_by_processes_that_it_spawns(tmp_path: FilePath) -> None:
    (tmp_path / "mine.py").write_text(SPAWNS)
    words = "bench --task toy --engine toy --problems 1 --n 4 --keep 2 --pruner ./mine.py@Mine"
    done = subprocess.run(
        [sys.executable, "-m", "pathprune", *words.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


# Names are of others: they are text on every console.


def test_no_bar_stands_above_the_line_of_an_error(capsys: Any) -> None:
    with pytest.raises(PathpruneError), bar("loading", 3):
        raise PathpruneError("no such model")
    assert "loading" not in capsys.readouterr().err


def test_a_bar_shows_brackets_as_they_are(capsys: Any) -> None:
    with bar("[/x] :smile:", 3) as step:
        step(1, "[red]note")
    drawn = capsys.readouterr().err
    assert "[/x] :smile:" in drawn and "[red]note" in drawn


@pytest.mark.parametrize("name", ["[/x]", "[red]hot", ":smile:", "[link=x]y"])
def test_brackets_in_a_name_are_brackets(name: str, bench: Any) -> None:
    table = bench([pruner(raises(ValueError(name)), name)], progress=True)
    good = bench([pruner(gives([0.0] * 4), name)], "good")
    console = Console(width=300)
    with console.capture() as text:
        console.print(good)
    assert name in text.get() and name in repr(good) and name in table.failures[name][1]


def test_the_command_line_prints_names_as_they_are(run_cli: Any, tmp_path: FilePath) -> None:
    """A task's name and an error with rich's markup in them."""
    (tmp_path / "[red]mine.py").write_text(FILE.replace("return", "raise ValueError('[/x] :smile:') or"))
    given = ("--task", "toy", "--engine", "toy", "--problems", "2", "--n", "4", "--keep", "2")
    folders = ("--results", f"{tmp_path}/[b]", "--bank", f"{tmp_path}/bank")
    code, said = run_cli("bench", "--pruner", f"{tmp_path}/[red]mine.py@Mine", *given, *folders)
    assert code == 1 and "[red]mine@Mine failed on 2 problems" in said and "[/x] :smile:" in said and "/[b]/" in said


def test_a_bank_never_holds_writable_statistics(tmp_path: FilePath) -> None:
    """Whoever reads a bank, another program included, gets arrays that stay as they are."""
    source = np.ones(3, np.float16)
    given = pp.TokenStats(logprob=source)
    source[:] = 5
    assert given.logprob.tolist() == [1, 1, 1]
    task, problem = Toy(), Toy().problems("test", 1)[0]
    bank = Bank(tmp_path, RunSpec.of(task, Dice(), 1, 20, [(5, 1)]).bank)
    bank.put(problem, [pp.Path(problem, 0, 0, (1, 2, 3), "w1 w2 w3", given, "length")])
    with pytest.raises(ValueError, match="read-only"):
        bank.get(problem, 0)[0].stats.logprob[0] = 2  # type: ignore[union-attr]


def test_honest_pruners_conform_as_before() -> None:
    task, engine = registry.task("toy"), registry.engine("toy", "toy", pp.Sampling())
    findings = list(conformance(registry.pruner("consensus"), task, engine, 5))
    assert len(findings) > 5 and [f for f in findings if f[1]] == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_ctrl_c_around_a_plugins_code_is_the_users(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def interrupted() -> Iterator[None]:
        if when == "before":
            raise KeyboardInterrupt
        yield
        raise KeyboardInterrupt

    monkeypatch.setattr(guard, "_state_kept", interrupted)
    with pytest.raises(KeyboardInterrupt):
        guard.contained(lambda: 1)
