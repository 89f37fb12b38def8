"""An engine, a task and pruners written from the docstrings of ``harness.api`` alone, and what is refused of a plug-in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest

import pathprune as pp
from harness import registry
from harness.api import PathpruneError, UnavailableError
from harness.plugins.declared import traits_of
from harness.pools.bank import Bank
from harness.rng import uniforms
from harness.spec import RunSpec
from harness.testing import engine_conformance
from tasks.toy import Toy

DIGITS = "0123456789"


class Dice(pp.Engine):
    """Throws dice until it says what they come to: no statistics, no states, no forced answers."""

    provides = frozenset({"text"})
    flops = pp.FlopModel(per_token=2.0, attention=0.0)

    def __init__(self, sides: int = 6) -> None:
        self.sides = sides
        self.spec = {
            "engine": "dice", "model": "dice", "fingerprint": f"dice-{sides}", "dtype": "int", "sampling": asdict(pp.Sampling()),
        }  # fmt: skip

    def launch(self, problems: Sequence[pp.Problem], n: int, max_tokens: int, seed: int) -> list[list[pp.Path]]:
        return [self.resume([pp.Path(p, i, seed) for i in range(n)], max_tokens) for p in problems]

    def resume(self, paths: Sequence[pp.Path], max_tokens: int) -> list[pp.Path]:
        return [self._thrown(path, max_tokens) for path in paths]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(f"answer {DIGITS[t - 100]}" if t >= 100 else f"w{t}" for t in tokens)

    def prompt_length(self, problem: pp.Problem) -> int:
        return len(problem.prompt.split())

    def _thrown(self, path: pp.Path, max_tokens: int) -> pp.Path:
        if path.finish == "stop" or len(path.tokens) >= max_tokens:
            return path
        tokens = list(path.tokens)
        for u in uniforms(path.seed, path.problem.id, path.index, len(tokens), max_tokens):
            tokens.append(int(u * self.sides) if len(tokens) < 12 else 100 + sum(tokens) % 10)
            if tokens[-1] >= 100:
                break
        finish = "stop" if tokens[-1] >= 100 else "length"
        return pp.Path(path.problem, path.index, path.seed, tuple(tokens), self.decode(tokens), None, finish)  # type: ignore[arg-type]


class Bare:
    """The same engine without inheriting from the contract."""

    def __init__(self) -> None:
        dice = Dice()
        self.provides, self.flops, self.spec = dice.provides, dice.flops, dice.spec
        self.launch, self.resume, self.decode, self.prompt_length = (
            dice.launch,
            dice.resume,
            dice.decode,
            dice.prompt_length,
        )


@pytest.mark.parametrize("engine", [Dice, Bare])
def test_an_engine_without_statistics_runs_a_bench(engine: Callable[[], Any], tmp_path: FilePath) -> None:
    """Text methods have rows; what needs statistics is left out by name; a second bench samples nothing."""
    asked: dict[str, Any] = {
        "task": "toy",
        "n": 8,
        "keep": 2,
        "problems": 5,
        "limit": 20,
        "prefix": 5,
        "progress": False,
    }
    asked |= {"results": tmp_path / "results", "bank": tmp_path / "bank"}
    table = pp.bench("all-registered", engine=engine(), **asked)
    assert table.sampled == 5 * 8 * 13 and not table.failures
    assert "token_stats" in table.left_out["logprob"]
    names = {
        name for row in table.frame().name for name in row.split(" = ")
    }  # those that keep the same paths are one row
    assert {"jaccard", "shortest", "repetition"} <= names
    assert pp.bench("jaccard", engine=engine(), **asked).sampled == 0
    with pytest.raises(PathpruneError, match=r"logprob needs token_stats, which engine dice does not provide"):
        pp.bench("logprob", engine=engine(), **asked)


def test_it_conforms() -> None:
    findings = list(engine_conformance(Dice(), Toy(), cuts=(3, 9)))
    assert [f for f in findings if f[1]] == [] and "a bench runs on it" in dict(findings)


def test_an_engine_that_lacks_something_is_one_line() -> None:
    class Half:
        spec: dict[str, str] = {}  # noqa: RUF012
        provides = frozenset({"text"})

    with pytest.raises(PathpruneError, match=r"'half' is not an engine: it has no flops, launch, resume, decode"):
        registry.complete(Half(), "half")
    dice = Dice()
    dice.spec = {"engine": "dice"}
    with pytest.raises(PathpruneError, match=r"no spec\['model'\], spec\['fingerprint'\]"):
        registry.complete(dice, "dice")
    dice = Dice()
    dice.provides = frozenset({"texts"})  # type: ignore[arg-type]
    with pytest.raises(PathpruneError, match="did you mean text"):
        registry.complete(dice, "dice")


class Fine:
    quadrant, needs = "control", frozenset({"text"})

    def score(self, prefixes: Any, check: Any) -> list[float]:
        return [0.0 for _ in prefixes]


@pytest.mark.parametrize(
    ("member", "value", "says"),
    [
        ("vote", "majorty", "did you mean majority"),
        ("vote", None, "unknown vote"),
        ("quadrant", "internal", "did you mean internal-"),
        ("needs", "text", "needs must be a set of signals"),
        ("needs", None, "it has no needs"),
        ("needs", {"txt"}, "did you mean text"),
        ("needs", {1}, "unknown needs '1'"),
        ("cost_class", "cheap", "unknown cost_class"),
        ("pointwise", "yes", "must be of type bool"),
        ("closed_form", "every", "unknown closed_form"),
        ("fidelity", 1, "must be of type str"),
        ("score", None, "it has no score"),
        ("score", 3, "its score is not a method"),
    ],
)
def test_what_a_pruner_declares_is_checked_when_it_is_loaded(member: str, value: Any, says: str) -> None:
    broken = type("Broken", (Fine,), {member: value})
    with pytest.raises(PathpruneError, match=says):
        registry.of_object(broken)


def test_a_bad_vote_bricks_no_folder(run_cli: Any, tmp_path: FilePath) -> None:
    """It was recorded once, and every later bench of the folder ended in a KeyError."""
    file = tmp_path / "mine.py"
    file.write_text(
        "class Mine:\n    quadrant, needs, fidelity, vote = 'control', frozenset({'text'}), 'mine', 'plurality'\n"
        "    def score(self, prefixes, check):\n        return [0.0] * len(prefixes)\n"
    )
    given = ("--task", "toy", "--engine", "toy", "--problems", "3", "--n", "4", "--keep", "1")
    given = (*given, "--results", str(tmp_path / "r"), "--bank", str(tmp_path / "b"))
    code, said = run_cli("bench", *given, "--pruner", f"{file}@Mine")
    assert code == 2 and "unknown vote 'plurality'" in said and not (tmp_path / "r").exists()
    code, said = run_cli("check", f"{file}@Mine", "--task", "toy", "--engine", "toy")
    assert code == 2 and "unknown vote 'plurality'" in said


def test_defaults_are_those_of_the_contract() -> None:
    """A class that inherits and one that does not declare the same."""
    inherits = type(
        "Inherits", (pp.Pruner,), {"quadrant": "control", "needs": frozenset({"text"}), "score": Fine.score}
    )
    assert traits_of(inherits(), "inherits") == traits_of(Fine(), "fine")


def test_a_missing_statistic_is_an_error_and_never_a_number() -> None:
    stats = pp.TokenStats(logprob=np.zeros(3, np.float16), margin=np.ones(3, np.float16))
    with pytest.raises(UnavailableError, match=r"no token statistic 'entropy'; they have logprob, margin"):
        _ = stats.entropy
    assert stats.cut(2).known == ("logprob", "margin") and len(stats.cut(2).margin) == 2
    joined = stats.join(pp.TokenStats(logprob=np.ones(2, np.float16)))
    assert joined.known == ("logprob",) and joined.logprob.tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(ValueError, match="differ in length"):
        pp.TokenStats(logprob=np.zeros(3), margin=np.zeros(2))


@pytest.mark.parametrize("known", [(), ("logprob",), ("entropy", "margin")])
def test_a_bank_holds_the_statistics_there_are(known: tuple[str, ...], tmp_path: FilePath) -> None:
    task, problem = Toy(), Toy().problems("test", 1)[0]
    bank = Bank(tmp_path, RunSpec.of(task, Dice(), 2, 20, [(5, 1)]).bank)
    stats = pp.TokenStats(**{name: np.arange(3, dtype=np.float16) for name in known}) if known else None
    bank.put(problem, [pp.Path(problem, i, 0, (1, 2, 3), "w1 w2 w3", stats, "length") for i in range(2)])
    for path in bank.get(problem, 0):
        assert (path.stats.known if path.stats else ()) == known
        assert all(np.array_equal(getattr(path.stats, name), np.arange(3)) for name in known)


class Breaks(Dice):
    """An engine that breaks its contract in one way."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def launch(self, problems: Sequence[pp.Problem], n: int, max_tokens: int, seed: int) -> list[list[pp.Path]]:
        if self.how == "another problem":
            return super().launch([problems[0]] * len(problems), n, max_tokens, seed)
        groups = super().launch(problems, n - (self.how == "too few"), max_tokens + 3 * (self.how == "too long"), seed)
        return groups[1:] if self.how == "a problem short" else groups

    def resume(self, paths: Sequence[pp.Path], max_tokens: int) -> list[pp.Path]:
        longer = super().resume(paths, max_tokens)
        if self.how == "a path short" and len(paths) > 4:
            return longer[1:]
        if self.how == "other tokens" and len(paths) > 4:
            return [replace(p, tokens=(9, *p.tokens[1:])) for p in longer]
        return longer


ASKED: dict[str, Any] = {"task": "toy", "n": 4, "keep": 2, "problems": 3, "limit": 20, "prefix": 5, "progress": False}


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("another problem", "gave a path of toy-test-00000 for toy-test-00001"),
        ("too few", r"launch gave 3 paths of toy-test-00000, not those of index 0 to 3"),
        ("too long", r"has 8 tokens, and at most 5 were asked for"),
        ("a problem short", "launch gave paths of 2 problems, and 3 were asked for"),
        ("a path short", "resume gave 11 paths for 12"),
        ("other tokens", "resume changed the first tokens of path 0"),
    ],
)
def test_an_engine_that_breaks_its_contract_is_named(how: str, says: str, tmp_path: FilePath) -> None:
    with pytest.raises(PathpruneError, match=f"engine dice breaks its contract: .*{says}"):
        pp.bench("first", engine=Breaks(how), results=tmp_path / "r", bank=tmp_path / "b", **ASKED)


class Problems(Toy):
    """A toy task whose problems are not those that were asked for."""

    def __init__(self, how: str) -> None:
        self.how = how

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[pp.Problem]:
        given = super().problems(split, n, start)
        return {"none": [], "more": super().problems(split, 50, start), "twice": [given[0]] * len(given)}[self.how]


@pytest.mark.parametrize(
    ("how", "says"),
    [("none", "has no test problems"), ("more", "returned 50 problems"), ("twice", "uses an id for two problems")],
)
def test_a_task_that_breaks_its_contract_is_named(how: str, says: str, tmp_path: FilePath) -> None:
    asked = ASKED | {"task": Problems(how), "engine": Dice()}
    with pytest.raises(PathpruneError, match=says):
        pp.bench("first", results=tmp_path / "r", bank=tmp_path / "b", **asked)
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"n": "8"}, "n must be an integer, not '8'"),
        ({"keep": 2.5}, "stage 1 keep must be an integer, not 2.5"),
        ({"prefix": True}, "stage 1 prefix must be an integer"),
        ({"seed": "a"}, "seed must be an integer"),
        ({"limit": 20.0}, "limit must be an integer"),
        ({"problems": "3"}, "problems must be an integer"),
        ({"stages": [5, 6], "prefix": None}, "pairs of a prefix length and a number kept"),
        ({"stages": [(5, 4, 3)], "prefix": None}, "the place of a cut must be one of token, step, forced, not 3"),
        ({"stages": [(5, 4, "step", 3)], "prefix": None}, "pairs of a prefix length and a number kept"),
        ({"ended": "cuont"}, "did you mean count"),
        ({"engine": Dice}, r"Dice is a class; pass an engine: Dice\(\.\.\.\)"),
        ({"task": Toy}, r"Toy is a class; pass a task: Toy\(\.\.\.\)"),
        ({"model": "other"}, "leave out model and sampling"),
        ({"sampling": "temperature=0.3"}, "leave out model and sampling"),
        ({"pruners": "./mine.py"}, "name its class too"),
    ],
)
def test_wrong_arguments_are_one_line_before_anything_is_sampled(
    wrong: dict[str, Any], says: str, tmp_path: FilePath
) -> None:
    asked = {"pruners": "first", "engine": Dice()} | ASKED | {"results": tmp_path / "r", "bank": tmp_path / "b"} | wrong
    with pytest.raises(PathpruneError, match=says):
        pp.bench(**asked)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("member", "value", "says"),
    [
        ("provides", ["text"], "provides must be a frozenset of signals"),
        ("flops", 5, "flops must be a FlopModel"),
        ("spec", {"engine": "dice", "model": "d", "fingerprint": object()}, "spec contains a value that JSON cannot"),
    ],
)
def test_an_engines_members_are_checked(member: str, value: Any, says: str) -> None:
    dice = Dice()
    setattr(dice, member, value)
    with pytest.raises(PathpruneError, match=says):
        registry.complete(dice, "dice")


def test_needs_may_be_a_list_and_a_task_names_no_folder_above(tmp_path: FilePath) -> None:
    listed = type("Listed", (Fine,), {"needs": ["text"]})
    table = pp.bench(listed, engine=Dice(), results=tmp_path / "r", bank=tmp_path / "b", **ASKED)
    assert not table.failures
    away = type("Away", (Toy,), {"name": "../../away"})
    with pytest.raises(PathpruneError, match="has a slash"):
        pp.bench("first", results=tmp_path / "r", **(ASKED | {"task": away(), "engine": Dice()}))
