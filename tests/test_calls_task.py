"""``calls``: a corpus whose outputs are Python's own, dooms that are what they are said to be, and a model that calls."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import registry
from harness.engines.prompts import Prompts
from harness.loop import prune
from harness.replay.pool import replay
from harness.runners.bench import bench
from harness.runners.run import Run
from harness.spec import RunSpec, Stage
from harness.testing import task_conformance
from harness.tools.engine import ToolEngine
from harness.tools.formats import FENCED
from harness.tools.interpreter import UNDONE
from harness.tools.sandbox import Call, Sandbox
from harness.where import Where
from tasks.embedded.arithmetic import Definition, evaluate, final_answer
from tasks.embedded.base import Example
from tasks.embedded.calls import (
    AUTHORS,
    CALL,
    END,
    ERRORS,
    OUTPUT,
    Author,
    Calculator,
    Calls,
    Step,
    as_python,
    joined,
    write_solution,
)
from tests.test_tool_paths import pool_of
from tests.test_tools import needs_bwrap

CAREFUL, LEFT, STALE, IGNORING = AUTHORS
LIMIT = 300


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    opened = Sandbox(workers=2)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def engine(sandbox: Sandbox) -> ToolEngine:
    opened: ToolEngine = registry.engine("hf", "calls", Calls().defaults.sampling, **Calls().defaults.engine)
    opened.sandbox = sandbox
    return opened


@pytest.fixture(scope="module")
def words() -> Prompts:
    """The model's tokenizer."""
    from transformers import AutoTokenizer

    from harness.engines import identity

    return Prompts(AutoTokenizer.from_pretrained(identity.locate("calls")), 1024, {"model": "calls"})


def written_by(author: Author, seed: int) -> tuple[list[Definition], Example]:
    """A problem, and a solution of this author."""

    class Pick(random.Random):
        def choices(self, population: Any, *args: Any, **kwargs: Any) -> Any:
            return [author] if population is AUTHORS else super().choices(population, *args, **kwargs)

    definitions = Calls()._draw(random.Random(seed), Calls.shape)[0]
    return definitions, write_solution(Pick(seed), definitions)


def right(author: Author, seed: int) -> bool:
    definitions, example = written_by(author, seed)
    return final_answer(" ".join(example.words)) == str(evaluate(definitions)[definitions[-1].name])


def test_conforms() -> None:
    assert [f for f in task_conformance(registry.task("calls")) if f[1]] == []


@given(st.integers(0, 10_000))
def test_the_careful_author_is_always_right(seed: int) -> None:
    assert right(CAREFUL, seed)


@pytest.mark.parametrize("author", AUTHORS[1:], ids=["left to right", "stale", "ignoring"])
def test_every_other_author_is_wrong_sometimes_and_right_sometimes(author: Author) -> None:
    share = np.mean([right(author, seed) for seed in range(200)])
    assert 0.2 < share < 0.8


def test_each_doom_by_hand() -> None:
    """2 + 3 * 4 is 1 mod 13 and from left to right 20 = 7; a value that is not assigned leaves the old one behind."""
    mixed = Definition("x", (2, 3, 4), ("+", "*"))
    assert [Calculator().run(as_python(mixed, wrong)) for wrong in (False, True)] == [["1"], ["7"]]
    again = Definition("a", ("a", 3), ("+",))
    for stale, then in ((False, "8"), (True, "5")):
        python = Calculator({"a": 5})
        assert python.run(joined(Step((again,), (False,), stale).statements())) == ["8"]
        assert python.run(["a"]) == [then]


def test_an_error_is_mended_by_the_careful_and_passed_over_by_the_ignoring() -> None:
    """Behind an error the one writes another call before it says a value; the other mostly says one that Python never printed."""

    def says_at_once(author: Author) -> list[bool]:
        texts = [written_by(author, seed)[1].words for seed in range(60)]
        return [
            words[i + (3 if words[i] == "NameError" else 2)] != "wait"
            for words in texts
            for i in range(len(words) - 3)
            if words[i - 1] == OUTPUT and words[i] in ERRORS
        ]

    careful, ignoring = says_at_once(CAREFUL), says_at_once(IGNORING)
    assert len(careful) > 10 and not any(careful)
    assert 0.6 < np.mean(ignoring) < 1


def test_what_python_prints_is_not_trained_and_all_else_is() -> None:
    for _, example in itertools.islice(Calls().corpus(3, short=False), 50):
        printed = False
        for word, trained in zip(example.words, example.trained, strict=True):
            printed |= word == OUTPUT
            assert trained is not printed
            printed &= word != END
        assert {*example.words} <= {*Calls.vocabulary} and example.words.count(CALL) == example.words.count(OUTPUT)


@needs_bwrap
def test_the_corpus_has_what_the_sandbox_prints(words: Prompts, sandbox: Sandbox) -> None:
    """Token by token, as an engine with tools would put it behind the call."""
    kinds = set()
    for number, (prompt, example) in enumerate(itertools.islice(Calls().corpus(11, short=True), 12)):
        tokens = tuple(Calls.vocabulary.index(w) for w in example.words)
        assert words.decode(words.encode(prompt)) == prompt and words.encode(words.decode(tokens)) == tokens
        earlier: tuple[tuple[int, str], ...] = ()
        start = 0
        for at in [i for i, w in enumerate(example.words) if w == OUTPUT]:
            text = words.decode(tokens[start:at])
            (call,) = FENCED.calls(text)
            assert isinstance(call.code, str)
            ran = sandbox.run([Call(number, len(earlier) + 1, call.code, earlier)])[0]
            earlier = (*earlier, (len(earlier) + 1, call.code))
            put = [i for part in FENCED.given(text, ran.text) for i in words.encode(part)]
            start = at + len(put)
            assert tuple(put) == tokens[at:start]
            kinds.add(example.words[at + 1] if not example.words[at + 1].isdigit() else "number")
    assert {"number", "NameError"} <= kinds


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("12\n", "12"),
        ("(no output)", "nothing"),
        ("27\n", "<other>"),
        ("TimeoutError: stopped after 5 seconds of a processor\n" + UNDONE, f"<other> {UNDONE}"),
        ("Traceback (most recent call last):\n  File \"<call 2>\", line 1, in <module>\n    c = a\nNameError: name 'a' is not "
         "defined. Did you mean: 'b'?\n", "NameError a"),
        ("  File \"<call 1>\", line 1\n    z = ( b\n        ^\nSyntaxError: '(' was never closed\n", "SyntaxError"),
        ("<call 1>:1: SyntaxWarning: 'int' object is not callable; perhaps you missed a comma?\n  5 ( 3 )\nTraceback (most recent "
         "call last):\n  File \"<call 1>\", line 1, in <module>\n    5 ( 3 )\nTypeError: 'int' object is not callable\n", "TypeError"),
    ],
)  # fmt: skip
def test_every_output_is_read_as_few_words(text: str, read: str, words: Prompts) -> None:
    """Numbers, an error's class and the name that it is of; what is undone stays known as such, all else is <other>."""
    assert words.decode(words.encode(text)) == read


def test_the_task_brings_the_tools_that_its_model_needs() -> None:
    """Without an option; options that are given stay."""
    plain = Where("calls", None, "hf", {}, None, None, 0)
    assert plain.engine.spec["tools"]["format"] == "fenced" and plain.engine.spec["model"] == "calls"
    slower = Where("calls", None, "hf:tool_seconds=9", {}, None, None, 0)
    assert slower.engine.spec["tools"]["limits"]["seconds"] == 9
    assert (
        plain.engine.rows == 256
    )  # as many interpreters as paths that are drawn together, or each call would start one
    assert "tools" not in Where("hands", None, "hf", {}, None, None, 0).engine.spec


def alike(one: Any, other: Any) -> bool:
    """The same path; statistics are float16 of sums that are rounded otherwise in another batch."""
    parts = ("tokens", "given", "text", "finish")
    return all(getattr(one, p) == getattr(other, p) for p in parts) and bool(
        one.stats and other.stats and np.allclose(one.stats.logprob, other.stats.logprob, atol=2e-3, rtol=2e-3)
    )


@needs_bwrap
@pytest.mark.long
def test_paths_of_the_shipped_model_go_on_as_if_nothing_had_interrupted_them(engine: ToolEngine) -> None:
    """Its calls run, its outputs are read, and a path that was cut inside a call or before an output is the same path."""
    (whole,) = engine.launch(Calls().problems("dev", 1), 6, LIMIT, 0)
    assert sum(len(p.given) for p in whole) > 6 and {p.finish for p in whole} == {"stop"}
    assert all(p.given and Calls().answer(p.text) is not None for p in whole)
    for length in (3, 17, 27):
        cut = [p.cut(length, engine.decode) for p in whole]
        (launched,) = engine.launch([whole[0].problem], 6, length, 0)
        assert all(alike(a, b) for a, b in zip(launched, cut, strict=True))
        assert all(alike(a, b) for a, b in zip(engine.resume(cut, LIMIT), whole, strict=True))


@needs_bwrap
def test_resting_draws_the_same_paths_as_striding(engine: ToolEngine, sandbox: Sandbox) -> None:
    """An inner engine that cannot rest gives the same tokens and statistics."""

    class Restless:
        def __getattr__(self, name: str) -> Any:
            if name == "stride":
                raise AttributeError(name)
            return getattr(engine.inner, name)

    striding = ToolEngine(Restless(), dict(Calls.engine), sandbox)
    problems = Calls().problems("dev", 1, start=3)
    (one,), (other,) = engine.launch(problems, 4, LIMIT, 0), striding.launch(problems, 4, LIMIT, 0)
    assert [p.tokens for p in one] == [p.tokens for p in other]


@needs_bwrap
@pytest.mark.long
def test_a_replay_is_a_live_run(engine: ToolEngine, tmp_path: FilePath) -> None:
    task, plugin = Calls(), registry.pruner("logprob")
    spec = RunSpec.of(task, engine, 6, LIMIT, [Stage(27, 2)])
    run = Run(spec, task, engine, 1, tmp_path / "results", tmp_path / "bank")
    assert not bench(run, [plugin], lambda done, note: None).failures
    for problem in task.problems("test", 1):
        outcome = prune(problem, task, engine, plugin.pruner, spec)
        mask = np.isin(np.arange(6), outcome.kept)[None]
        replayed = replay(pool_of(run, problem), mask, 27, [outcome.rounds[0].cost])
        assert replayed.tokens[0] == outcome.cost.tokens and replayed.generated[0] == outcome.cost.generated
