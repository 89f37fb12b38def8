"""The embedded tasks: conformance, and every written solution argues for itself."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import registry
from harness.testing import task_conformance
from tasks.embedded.arithmetic import MODULUS, VOCABULARY, Definition, evaluate, final_answer, reduce
from tasks.embedded.hands import AUTHORS, Hands, write_solution
from tasks.embedded.slips import Slips, needed
from tasks.reasoning_gym import as_text


@pytest.mark.parametrize("name", ["hands", "slips", "toy", "reasoning_gym:chain_sum"])
def test_conforms(name: str) -> None:
    assert [f for f in task_conformance(registry.task(name)) if f[1]] == []


def python_value(prompt: str) -> int:
    """The answer by Python's own arithmetic, run over the prompt's text until nothing changes."""
    *lines, query = prompt.removesuffix(" ?").split(" ; ")
    values: dict[str, int] = {}
    for _ in lines:  # shuffled definitions need as many passes as there are lines
        for line in lines:
            name, _, expression = line.partition(" = ")
            if all(w in values or not w.isalpha() for w in expression.split()):
                values[name] = eval(expression, {}, values) % MODULUS
    return values[query]


@pytest.mark.parametrize("task", [Hands(), Slips()])
def test_answers_are_pythons(task: Hands | Slips) -> None:
    for problem in task.problems("test", 200):
        assert problem.answer == str(python_value(problem.prompt)), problem.prompt


@given(st.integers(0, 10_000))
def test_only_the_careful_author_is_always_right(seed: int) -> None:
    definitions = Hands()._draw(random.Random(seed), Hands.shape)[0]
    truth = str(evaluate(definitions)[definitions[-1].name])

    class Pick(random.Random):
        def choices(self, *args: object, **kwargs: object) -> list:  # type: ignore[override, type-arg]
            return [AUTHORS[0]]

    assert final_answer(" ".join(write_solution(Pick(seed), definitions))) == truth


def test_each_misconception_by_hand() -> None:
    """2 + 3 * 4 mod 13 is 1, left to right 20 = 7; 3 - 5 is 11, unsigned 2; 8 + 9 is 4, overcounted 5; 6 + 7 is 0."""
    careful, left, unsigned, over = AUTHORS
    mixed = Definition("x", (2, 3, 4), ("+", "*"))
    assert reduce(mixed, {})[-1][0] == [1] and reduce(mixed, {}, left.apply, left_to_right=True)[-1][0] == [7]
    assert careful.apply("-", 3, 5) == 11 and unsigned.apply("-", 3, 5) == 2
    assert careful.apply("+", 8, 9) == 4 and over.apply("+", 8, 9) == 5 and over.apply("+", 6, 7) == 0


@pytest.mark.parametrize("task", [Hands(), Slips()])
def test_corpus_is_in_the_vocabulary_and_mostly_trained_on(task: Hands | Slips) -> None:
    for prompt, example in itertools.islice(task.corpus(0, short=False), 200):
        assert set(prompt.split()) | set(example.words) <= set(VOCABULARY)
        assert len(example.words) == len(example.trained) and sum(example.trained) > 0.8 * len(example.words)


def test_slips_plans_backward_over_what_is_needed() -> None:
    chain = [
        Definition("a", (1,)),
        Definition("b", (2,)),
        Definition("c", ("a", 3), ("+",)),
        Definition("d", ("c", "c"), ("*",)),
    ]
    assert [d.name for d in needed(chain, "d")] == ["d", "c", "a"]


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.long)])
def test_every_data_set_of_reasoning_gym_grades_its_own_answer_right(
    every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a box, as the prompt asks for it: grids keep their rows and decimals their points."""
    gym = pytest.importorskip("reasoning_gym")
    monkeypatch.setattr("tasks.reasoning_gym.BLOCK", 1)

    def graded_here(request: Any) -> bool:  # a process without rights for each would take minutes
        scorer = gym.create_dataset(request.dataset, **request.options)
        return bool(scorer.score_answer(request.answer, request.entry) >= 1)

    monkeypatch.setattr("tasks.reasoning_gym.client.right", graded_here)
    wrong = []
    # That one is made of others, which it has to be told.
    chosen = sorted(set(gym.factory.DATASETS) - {"composite"})[::every]
    for dataset in chosen:
        task = registry.task(f"reasoning_gym:{dataset}")
        (problem,) = task.problems("test", 1)
        said = task.answer(f"It is\n\\boxed{{{problem.answer}}}.")
        wrong += [] if task.correct(said, problem) else [dataset]
    assert wrong == [d for d in ("boxnet", "rush_hour") if d in chosen], "the package gives no answer to these"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}", "1 2\n3 4"),
        ("1 2 \\\\\n3 4", "1 2\n3 4"),
        ("\n1  2\n3  4 \n", "1  2\n3  4"),
        (r"\text{yes}", "yes"),
        (r"\{\text{a\_b}\}", "{a_b}"),
        ("x**2 + 1", "x**2 + 1"),
    ],
)
def test_answers_for_scorers_are_texts_line_by_line(written: str, text: str) -> None:
    assert as_text(written) == text


@pytest.mark.parametrize(
    ("written", "vote"), [("$1,234.50$", "1234.5"), ("+7", "7"), ("-0.0", "0"), ("0110", "0110"), ("-2.132", "-2.132")]
)
def test_numbers_for_scorers_are_decimals(written: str, vote: str) -> None:
    pytest.importorskip("reasoning_gym")
    assert registry.task("reasoning_gym:chain_sum").answer(rf"\boxed{{{written}}}") == vote
