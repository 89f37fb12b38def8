"""Recorded rewards rank prefixes by what was scored within them, and vote on finished paths where they are of the whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pathprune as pp
from harness import loop, registry
from harness.api import PathpruneError, UnavailableError
from harness.imports.placed import placed, step_ends
from harness.imports.pool import Pool, native
from harness.imports.tokens import Document
from harness.where import Where

STEPS = ("Let us add.", "One and one", "make \\boxed{2}")
Rewards = Callable[[int], Any]


def imported(
    folder: Path, reward: Rewards, field: str = "prm", finish: str = "stop", name: str = "own", **more: Any
) -> Pool:
    """Three problems of four paths, of three steps each; every word is a token."""
    rows = []
    for q in range(3):
        for i in range(4):
            steps = (*STEPS[:2], f"make \\boxed{{{2 + i % 2}}}")
            words = [w + " " for w in "\n\n".join(steps).replace("\n\n", " \n\n").split(" ")]
            rows.append(
                {"id": f"p{q}", "problem": f"1 + 1 ({q})?", "gold": "2", "text": "".join(words), "tokens": words, "finish_reason": finish,
                 "trace_idx": i, field: reward(i)} | {k: v(i) for k, v in more.items()}
            )  # fmt: skip
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pp.import_pool(file, name, mapping={"rewards": field}, pools=folder / "pools", progress=False)


def bench(pool: Pool, folder: Path, pruners: Any, **more: Any) -> Any:
    return pp.bench(pruners, pool, **{"prefix": 6, "keep": 1, "results": folder / "r", "progress": False} | more)


def row(table: Any, name: str) -> Any:
    """The line of a method, whatever others keep the same paths."""
    return next(r for r in table.rows if r.name == name)


def document(text: str, *ends: int) -> Document:
    return Document("0 of p", len(ends), text, None, np.array(ends, np.int32))


def test_steps_end_with_the_token_that_completes_them() -> None:
    text = "ab c\n\n\n\nd e\n\nf"
    assert step_ends(document(text, 2, 4, 8, 9, 11, 14)) == [2, 5, 6]
    assert step_ends(document(text, 3, 6, 10, 14)) == [2, 4, 4]  # a token may reach over a step's end
    assert step_ends(Document("0 of p", 7, text, None, None, 2.0)) == [
        2,
        6,
        7,
    ]  # cut at a rate: as texts of prefixes are


@pytest.mark.parametrize("length", range(1, 7))
def test_no_score_is_of_more_than_the_prefix(length: int) -> None:
    """Whatever the scores are of; where they may be of two things, they are of the longer one."""
    path = document("ab c\n\nd e\n\nf", 2, 4, 7, 9, 10, 12)
    for scores, grid in (([0.1, 0.2, 0.3], [1, 3, 4]), ([0.1, 0.2, 0.3], [2, 5, 6]), ([0.0] * 6, []), ([0.5], [])):
        try:
            known = placed("rm", scores, path, grid, length)
        except UnavailableError:
            continue
        assert known and all(reward.position <= length for reward in known)
    assert [r.position for r in placed("rm", [0.1, 0.2, 0.3], path, [1, 3, 6], 6)] == [2, 4, 6]


def test_prefixes_are_ranked_by_the_steps_within_them(tmp_path: Path) -> None:
    pool = imported(tmp_path, lambda i: [0.5, i / 4, 1 - i])
    view = native(pool)
    where = Where(pool, None, "hf", "", 6, None, 0)
    cut = [p.cut(6, where.engine.decode) for p in view.get(pool.entries["p0"].problem, 0)]
    assert cut[0].text.strip().endswith("One and one")
    by = lambda spec: loop.check(registry.pruner(spec).pruner, cut, where.engine, where.task, 0)  # noqa: E731
    scores, spent = by("recorded-reward")
    assert scores.tolist() == [0.0, 0.25, 0.5, 0.75] and spent.cost.reread == 4 * 6 and spent.cost.flops == 0
    assert by("recorded-reward:aggregation=mean")[0].tolist() == [0.25, 0.375, 0.5, 0.625]
    assert by("recorded-reward:aggregation=min,parameters=1e3")[1].cost.flops == 2e3 * 24
    table = bench(pool, tmp_path, "recorded-reward", keep=1)
    assert not table.failures and row(table, "recorded-reward").accuracy.mean == 0.0  # the last path's answer is 3


def test_the_order_of_prefixes_and_what_comes_behind_them_change_nothing(tmp_path: Path) -> None:
    pool = imported(tmp_path, lambda i: [0.5, i / 4, 1 - i])
    where = Where(pool, None, "hf", "", 6, None, 0)
    whole = native(pool).get(pool.entries["p1"].problem, 0)

    def scores(paths: Any, length: int) -> list[float]:
        cut = [p.cut(length, where.engine.decode) for p in paths]
        found: list[float] = loop.check(registry.pruner("recorded-reward").pruner, cut, where.engine, where.task, 0)[
            0
        ].tolist()
        return found

    assert scores(whole, 6) == scores(whole, 7) == scores(whole[::-1], 6)[::-1]  # no step ends between 6 and 7
    assert scores(whole, 8) != scores(whole, 7)


@pytest.mark.parametrize(
    ("reward", "says"),
    [
        (lambda i: i / 4, "reward 'prm' rates the whole path, beyond the prefix"),
        (lambda i: [0.1, 0.2], "reward 'prm' has 2 scores for 3 steps, 0 probes and 8 tokens"),
        (lambda i: None, "has no recorded reward|needs rewards"),
    ],
)
def test_what_cannot_rank_prefixes_says_why(reward: Rewards, says: str, tmp_path: Path) -> None:
    pool = imported(tmp_path, reward, extra=lambda i: i)
    table = bench(pool, tmp_path, "all-registered")
    assert re.search(says, table.left_out["recorded-reward"]) and "\n" not in table.left_out["recorded-reward"]
    assert "recorded-reward" not in {row.name for row in table.rows}


def test_a_prefix_before_the_first_step_has_no_score(tmp_path: Path) -> None:
    table = bench(imported(tmp_path, lambda i: [0.5, i / 4, 1 - i]), tmp_path, "recorded-reward,first", prefix=2)
    assert "has its first score at 3 tokens, beyond the prefix of 2" in table.failures["recorded-reward"][1]


def test_rewards_of_whole_paths_vote_on_finished_ones(tmp_path: Path) -> None:
    """Answers are 2, 3, 2, 3 and 2 is right: the best of n is right where a path of 2 has the highest reward."""
    for name, right in (("high", [0.9, 0.1, 0.2, 0.3]), ("low", [0.1, 0.9, 0.2, 0.3])):
        pool = imported(tmp_path, lambda i, of=right: of[i], name=name)
        voted = row(bench(pool, tmp_path / name, "recorded-best-of-n"), "recorded-best-of-n")
        assert voted.accuracy.mean == float(right[0] == 0.9)
        assert voted.tokens.mean == 2 * 4 * 8  # generated, and read by a reward model
    tied = imported(tmp_path, lambda i: 1.0, name="tied")
    assert row(bench(tied, tmp_path / "t", "recorded-best-of-n"), "recorded-best-of-n").accuracy.mean == 1.0
    rule = "recorded-best-of-n:rule=weighted"
    weighted = imported(tmp_path, lambda i: [0.3, 0.4, 0.3, 0.1][i], name="weighted")
    assert row(bench(weighted, tmp_path / "w", rule), rule).own_vote[1].mean == 1.0
    negative = imported(tmp_path, lambda i: -i, name="negative")
    assert (
        "use rule=best"
        in bench(negative, tmp_path / "n", "recorded-best-of-n:rule=weighted,first").failures[
            "recorded-best-of-n:rule=weighted"
        ][1]
    )


def test_several_rewards_are_named(tmp_path: Path) -> None:
    pool = imported(tmp_path, lambda i: {"one": i, "other": -i})
    table = bench(
        pool, tmp_path, "recorded-best-of-n,recorded-best-of-n:reward=one,recorded-best-of-n:reward=none,first"
    )
    assert "name one: reward=one or other" in table.failures["recorded-best-of-n"][1]
    assert (
        "no reward 'none' was recorded so far; there is one, other"
        in table.failures["recorded-best-of-n:reward=none"][1]
    )
    assert "recorded-best-of-n:reward=one" not in table.failures


def test_of_prefixes_the_rewards_of_whole_paths_are_none(tmp_path: Path) -> None:
    pool = imported(tmp_path, lambda i: {"orm": i, "prm": [0.5, i / 4, 1 - i]})
    table = bench(pool, tmp_path, "all-registered")
    assert "recorded-reward" not in table.left_out and not table.failures
    assert table.left_out["recorded-best-of-n"].endswith(
        "these paths have several rewards; name one: reward=orm or prm"
    )


def test_an_engine_without_rewards_says_so(tmp_path: Path) -> None:
    with pytest.raises(PathpruneError, match="needs rewards, which engine toy does not provide"):
        pp.bench("recorded-reward", "toy", engine="toy", n=4, keep=1, results=tmp_path, bank=tmp_path, progress=False)


def test_what_was_not_declared_is_not_given(tmp_path: Path) -> None:
    class Sly(pp.Pruner):
        quadrant, needs = "external-fixed", frozenset({"text"})

        def score(self, prefixes: Any, check: Any) -> Any:
            return [check.rewards(p)["prm"][0].score for p in prefixes]

    assert (
        "declares that it needs rewards" in bench(imported(tmp_path, lambda i: i), tmp_path, [Sly]).failures["Sly"][1]
    )


def test_the_harness_cuts_what_an_engine_tells_too_early(tmp_path: Path) -> None:
    """A reward of an engine of others that looks beyond the prefix reaches no method."""
    pool = imported(tmp_path, lambda i: [0.5, i / 4, 1 - i])
    where = Where(pool, None, "hf", "", 6, None, 0)
    whole = native(pool).get(pool.entries["p0"].problem, 0)[0]
    told = where.engine.rewards(whole)
    check = loop.opened(
        registry.pruner("recorded-reward").pruner,
        [whole],
        type("E", (), {"rewards": lambda self, p: told, "device": ""})(),
        where.task,
        0,
    )[0]
    assert len(told["prm"]) == 3 and [r.position for r in check.rewards(whole.cut(6, where.engine.decode))["prm"]] == [
        3,
        6,
    ]
