"""A truncated path has no answer, whoever asks: the pool, the loop, the labels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness import grading, registry
from harness.learn.labels import continue_often
from harness.loop import prune
from harness.runners.work import _pool_row
from harness.spec import RunSpec
from tasks.toy import Toy


class Complete(Toy):
    """A task that says a text is complete as soon as there is one."""

    def ended(self, text: str) -> bool:
        return bool(text)


@pytest.fixture(scope="module")
def engine() -> object:
    task = Toy()
    return registry.engine("toy", task.defaults.model, task.defaults.sampling)


def test_a_truncated_path_answers_nothing(engine) -> None:  # type: ignore[no-untyped-def]
    task = Toy()
    paths = engine.launch(task.problems("test", 1), 16, task.defaults.max_tokens, 0)[0]
    answered = [p for p in paths if task.answer(p.text) is not None]
    assert answered
    cut = [replace(p, finish="length") for p in answered]
    assert all(grading.answer(task, p) is not None for p in answered)
    assert all(grading.answer(task, p) is None for p in cut) and not any(grading.right(task, cut))
    assert [grading.answer(Complete(), p) for p in cut] == [task.answer(p.text) for p in cut]
    row = _pool_row(task, engine, cut)
    assert not any(row["stopped"]) and not any(row["correct"]) and row["answers"] == [None] * len(cut)


def test_loop_and_labels_agree_with_the_pool(engine) -> None:  # type: ignore[no-untyped-def]
    """At a limit that cuts some paths, a loop that keeps all, fresh continuations and the pool grade alike."""
    task, limit = Toy(), 12
    problem = task.problems("test", 1)[0]
    paths = engine.launch([problem], 64, limit, 0)[0]
    row = _pool_row(task, engine, paths)
    assert 0 < sum(row["stopped"]) < 64, "the limit cuts all paths or none"
    every = registry.pruner("all").pruner
    assert (
        list(prune(problem, task, engine, every, RunSpec.of(task, engine, 64, limit, [(2, 64)])).answers)
        == row["answers"]
    )
    unfinished = [replace(p, finish="length") for p in paths if p.finish == "stop"]
    assert any(row["correct"]), "no path is right, so nothing is compared"
    success, spent = continue_often(task, engine, unfinished, 1, 1)  # no token left to continue with
    assert spent == 0 and not success.any()
