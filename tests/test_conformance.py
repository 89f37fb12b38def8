"""The conformance suite catches what it names: for each of its checks, a pruner, an engine or a task that breaks that rule alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.api import Check, Cost, Decision, Path, PathpruneError, Problem, Sampling, UnavailableError
from harness.engines.toy import ToyEngine
from harness.testing import conformance, engine_conformance, task_conformance
from tasks.toy import Toy

PREFIX = 5


class Good:
    """Conforms: the state of each prefix, asked of the engine."""

    quadrant, needs, fidelity, pointwise = "control", frozenset({"hidden", "token_stats", "text"}), "exact", True

    def score(self, prefixes: Sequence[Path], check: Check) -> Any:
        return self.read(prefixes, check).tolist()

    def read(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return np.asarray(check.engine.probe(prefixes)[:, 0, 0], dtype=float)


class Renamed(Good):
    """Names other weights at every call."""

    calls = 0

    def identity(self) -> dict[str, str]:
        self.calls += 1
        return {"weights": str(self.calls)}


class RenamedByWork(Good):
    weights = "a"

    def identity(self) -> dict[str, str]:
        return {"weights": self.weights}

    def score(self, prefixes: Sequence[Path], check: Check) -> Any:
        self.weights = "b"
        return super().score(prefixes, check)


class Counts(Good):
    """Scores by the number of its calls."""

    calls = 0

    def score(self, prefixes: Sequence[Path], check: Check) -> Any:
        self.calls += 1
        return (self.read(prefixes, check) + self.calls).tolist()


class Positions(Good):
    pointwise = False

    def score(self, prefixes: Sequence[Path], check: Check) -> Any:
        return (self.read(prefixes, check) + np.arange(len(prefixes))).tolist()


class Foresees(Good):
    """Finds the rest of a path behind the statistics of its prefix."""

    def score(self, prefixes: Sequence[Path], check: Check) -> Any:
        arrays = [p.stats.logprob for p in prefixes if p.stats]
        future = [float(np.frombuffer(self.root(a), a.dtype).astype(float).sum()) for a in arrays]
        return (self.read(prefixes, check) + np.array(future)).tolist()

    def root(self, array: Any) -> Any:
        while isinstance(array, np.ndarray):
            array = array.base
        return array


class Centred(Good):
    """Scores depend on the other paths, although it says that they do not."""

    def score(self, prefixes: Sequence[Path], check: Check) -> Any:
        scores = self.read(prefixes, check) + np.array([p.index for p in prefixes])
        return (scores - scores.mean()).tolist()


class ChargesTogether(Good):
    """Charges what belongs to each path to none of them, in tokens or in FLOPs."""

    cost = Cost(reread=3)

    def score(self, prefixes: Sequence[Path], check: Check) -> Any:
        for _ in prefixes:
            check.charge(self.cost)
        return super().score(prefixes, check)


class FlopsTogether(ChargesTogether):
    cost = Cost(flops=1e6)


class Evades(Good):
    """Asks the engine behind the ledger."""

    def read(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        inside: Any = check.engine
        return np.asarray(inside._engine.probe(prefixes)[:, 0, 0], dtype=float)


class Remembers(Good):
    """Asks once, and remembers the states."""

    def __init__(self) -> None:
        self.known: dict[Any, float] = {}

    def read(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        new = [p for p in prefixes if p.tokens not in self.known]
        states = super().read(new, check) if new else []
        self.known |= {p.tokens: float(s) for p, s in zip(new, states, strict=True)}
        return np.array([self.known[p.tokens] for p in prefixes])


class Disturbs(Good):
    """Leaves the model another one, from its first call on."""

    def read(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        inside: Any = check.engine
        getattr(inside._engine, "_engine", inside._engine).skill = 0.0
        return super().read(prefixes, check)


PRUNERS: dict[str, tuple[type, str]] = {
    "renamed": (Renamed, "identity() names the same every time"),
    "renamed by work": (RenamedByWork, "identity() names the same after its work"),
    "counts": (Counts, "is deterministic"),
    "positions": (Positions, "permuting the prefixes permutes the scores"),
    "foresees": (Foresees, "text after the prefix changes nothing (continuation 1)"),
    "centred": (Centred, "scores a path the same whatever stands beside it, as pointwise says"),
    "charges together": (ChargesTogether, "some of the paths cost what is charged to each of them"),
    "charges FLOPs together": (FlopsTogether, "some of the paths cost what is charged to each of them"),
    "evades": (Evades, "its engine calls are all charged"),
    "remembers": (Remembers, "its engine calls are all charged"),
    "disturbs": (Disturbs, "probing leaves the continuation as it was"),
}


def findings(pruner: Any, sampling: Sampling = Toy.defaults.sampling, prefix: int = PREFIX) -> dict[str, str | None]:
    return dict(conformance(registry.of_object(pruner), Toy(), ToyEngine("toy", sampling), prefix))


def test_what_conforms_is_found_to() -> None:
    found = findings(Good())
    assert [f for f in found.items() if f[1]] == []
    assert {name for _, name in PRUNERS.values()} <= set(found)


@pytest.mark.parametrize("broken", PRUNERS)
def test_a_pruner_that_breaks_a_rule_fails_its_check(broken: str) -> None:
    kind, name = PRUNERS[broken]
    assert findings(kind())[name]


def test_futures_that_do_not_differ_prove_nothing() -> None:
    told = findings(Good(), prefix=4000)["text after the prefix changes nothing (continuation 1)"]
    assert told and "cannot be tried" in told


class Rule:
    """Conforms: it aborts what had a low token among its first ones, once it has read them."""

    quadrant, needs, fidelity, warmup = "control", frozenset[str](), "exact", 2
    at = 3

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        lengths = np.array([len(p.tokens) for p in paths])
        doomed = np.array([self.dooms(p) and p.index >= self.warmup for p in paths]) & (lengths > self.at)
        return Decision(np.where(doomed, self.at, lengths), np.where(doomed, 0.0, 1.0))

    def dooms(self, path: Path) -> bool:
        return sum(path.tokens[: self.at]) % 2 == 1


class Late(Rule):
    """Aborts behind the prefix, by what comes after: two futures of the prefix do not show it."""

    at = PREFIX + 4

    def dooms(self, path: Path) -> bool:
        return sum(path.tokens) % 2 == 1


class Early(Rule):
    def dooms(self, path: Path) -> bool:
        return sum(path.tokens) % 2 == 1


class Moody(Rule):
    calls = 0

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        self.calls += 1
        decision = super().decide(paths, check)
        return replace(decision, weights=decision.weights * self.calls)


class Ordered(Rule):
    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        decision = super().decide(paths, check)
        return replace(decision, weights=decision.weights * (1 + np.arange(len(paths))))


class Sequential(Rule):
    """The last path decides about those before it."""

    sequential, batch = True, 1

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        decision = super().decide(paths, check)
        last = max(paths, key=lambda p: p.index)
        return replace(decision, weights=decision.weights * (1 + sum(last.tokens)))


RULES: dict[str, tuple[type, str]] = {
    "moody": (Moody, "is deterministic"),
    "ordered": (Ordered, "permuting the paths permutes the decision"),
    "early": (Early, "text after an abort changes nothing before it"),
    "late": (Late, "text after an abort changes nothing"),
    "sequential": (Sequential, "later paths change nothing of earlier ones"),
}


@pytest.mark.parametrize("broken", RULES)
def test_a_rule_that_breaks_a_rule_fails_its_check(broken: str) -> None:
    kind, name = RULES[broken]
    assert findings(kind())[name]


def test_a_rule_that_conforms_is_found_to() -> None:
    assert [f for f in findings(Rule()).items() if f[1]] == []


class Restarts(ToyEngine):
    """Begins another random stream at a resume."""

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        again = [replace(p, seed=p.seed + 1) if p.tokens else p for p in paths]
        return [replace(p, seed=o.seed) for p, o in zip(super().resume(again, max_tokens), paths, strict=True)]


class Batches(ToyEngine):
    """A path depends on how many are sampled with it."""

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        groups = super().launch(problems, n, max_tokens, seed + n)
        return [[replace(p, seed=seed) for p in group] for group in groups]


class Fewer(ToyEngine):
    """Gives fewer paths than it is asked for where there are few."""

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        return super().launch(problems, n if n > 4 else 0, max_tokens, seed)


class Forgetful(ToyEngine):
    """Samples other paths at every launch."""

    launches = 0

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        self.launches += 1
        return [[replace(p, seed=seed) for p in g] for g in super().launch(problems, n, max_tokens, self.launches)]


class Unspecified(ToyEngine):
    """A new spec whenever it is asked, so that no bank is found again."""

    asked = 0

    def __getattribute__(self, name: str) -> Any:
        if name != "spec":
            return super().__getattribute__(name)
        Unspecified.asked += 1
        return {**super().__getattribute__("__dict__")["spec"], "opened": Unspecified.asked}


class Mute(ToyEngine):
    """Does not say what it runs on."""

    def describe(self) -> dict[str, str]:
        raise PathpruneError("there is no device")


class Lengthens(ToyEngine):
    """Its prompts grow each time that they are measured."""

    measured = 0

    def prompt_length(self, problem: Problem) -> int:
        self.measured += 1
        return self.measured


ENGINES: dict[str, tuple[Callable[..., Any], str]] = {
    "restarts": (Restarts, "launch to 3 and resume is one uninterrupted sample"),
    "batches": (Batches, "a path does not depend on its batch"),
    "fewer": (Fewer, "a path does not depend on its batch"),
    "forgetful": (Forgetful, "every generated token is in the ledger"),
    "unspecified": (Unspecified, "a second bench samples nothing"),
    "mute": (Mute, "a bench runs on it"),
    "lengthens": (Lengthens, "a second bench reads the same paths"),
}


def test_an_engine_that_conforms_is_found_to() -> None:
    found = dict(engine_conformance(ToyEngine("toy", Sampling()), Toy(), cuts=(3,)))
    assert [f for f in found.items() if f[1]] == [] and {name for _, name in ENGINES.values()} <= set(found)


@pytest.mark.parametrize("broken", ENGINES)
def test_an_engine_that_breaks_a_rule_fails_its_check(broken: str) -> None:
    kind, name = ENGINES[broken]
    assert dict(engine_conformance(kind("toy", Sampling()), Toy(), cuts=(3,)))[name]


def test_a_cut_behind_every_path_proves_nothing() -> None:
    (told, *_) = engine_conformance(ToyEngine("toy", Sampling()), Toy(), cuts=(100_000,))
    assert told[1] and "cannot be tried" in told[1]


class Changing(Toy):
    calls = 0

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        self.calls += 1
        return super().problems(split, n, start + self.calls)


class Twins(Toy):
    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        return [replace(p, id="twin") for p in super().problems(split, n, start)]


class Empty(Toy):
    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        return [] if split == "test" else super().problems(split, n, start)


class Leaks(Toy):
    """Its label split is that of the test."""

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        return super().problems("test" if split == "label" else split, n, start)


class LeaksInPart(Toy):
    """The first of its dev problems is one of the test."""

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        some = super().problems(split, n, start)
        return [*super().problems("test", 1), *some[1:]] if split == "dev" else some


class Undivided(Toy):
    """Its dev problems are those of the test, and it has no labels."""

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        if split == "label":
            raise UnavailableError("no label problems")
        return super().problems("test", n, start)


class Grades(Toy):
    """Grades by a function of (right, is there an answer?)."""

    def __init__(self, by: Callable[[bool, bool], bool]) -> None:
        super().__init__()
        self.by = by

    def correct(self, answer: str | None, problem: Problem) -> bool:
        return self.by(super().correct(answer, problem), answer is not None)


TASKS: dict[str, tuple[Callable[[], Any], str]] = {
    "changing": (Changing, "is the same every time"),
    "twins": (Twins, "has distinct ids"),
    "empty": (Empty, "has test problems"),
    "leaks": (Leaks, "keeps its splits apart"),
    "leaks in part": (LeaksInPart, "keeps its splits apart"),
    "strict": (lambda: Grades(lambda right, there: False), "grades its own answers right"),
    "lenient": (lambda: Grades(lambda right, there: there), "grades answers of other problems wrong"),
    "kind": (lambda: Grades(lambda right, there: right or not there), "grades no answer wrong"),
}


def test_a_task_that_conforms_is_found_to() -> None:
    found = dict(task_conformance(Toy()))
    assert [f for f in found.items() if f[1]] == [] and {name for _, name in TASKS.values()} == set(found)


def test_a_task_may_lack_splits() -> None:
    assert [f for f in task_conformance(Undivided()) if f[1]] == []


@pytest.mark.parametrize("broken", TASKS)
def test_a_task_that_breaks_a_rule_fails_its_check(broken: str) -> None:
    opened, name = TASKS[broken]
    assert dict(task_conformance(opened()))[name]
