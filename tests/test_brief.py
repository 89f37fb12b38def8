"""The table of one screen: the best of a type is chosen on other problems than those that it is shown on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness import registry, report
from harness.report import Group, brief
from harness.report.frontier import folds_of
from harness.report.rows import rows
from harness.runners.bench import bench
from harness.runners.run import Run


def benched(run: Run, *names: str) -> Group:
    bench(run, [registry.pruner(name) for name in names], lambda done, note: None)
    (group,) = report.groups_of(run.folder)
    return group


def of_type(group: Group, quadrant: str) -> brief.Line:
    return next(one for one in brief.lines(group, 3) if one.quadrant == quadrant and one.gain is not None)


def test_a_method_that_is_lucky_on_one_fold_profits_from_it_nowhere(toy_run: Callable[..., Run]) -> None:
    group = benched(toy_run(n=8, problems=25), "logprob", "central", "asc")
    full = {row.name: row for row in rows(group, 3)}
    assert of_type(group, "external-fixed").accuracy == full["central"].accuracy  # the only one of its type
    fixed = next(m for m in group.judged if m.name == "logprob")
    fold = folds_of(len(group.pool.problems)) == 0
    knows = np.where(fold[:, None], group.pool.correct, fixed.values).astype(np.float32)
    group.judged.append(replace(fixed, name="lucky", values=knows))
    lucky = next(row for row in rows(group, 3) if row.name == "lucky")
    assert lucky.accuracy.mean > full["logprob"].accuracy.mean
    assert of_type(group, "internal-fixed").accuracy == full["logprob"].accuracy


def test_controls_and_a_stopping_rule_stand_beside_the_best(toy_run: Callable[..., Run]) -> None:
    group = benched(toy_run(n=8, problems=6), "logprob", "asc", "shortest")
    shown = {one.name: one for one in brief.lines(group, 3)}
    assert list(shown) == [
        "no pruning: all 8 vote", "random 3 (expected)", "shortest", "logprob", "asc: stop sampling in time"
    ]  # fmt: skip
    assert shown["no pruning: all 8 vote"].saved == 0 < shown["random 3 (expected)"].saved
    assert shown["logprob"].gain is not None and shown["asc: stop sampling in time"].gain is None


def test_two_models_are_one_table(toy_run: Callable[..., Run], tmp_path: Path) -> None:
    """Side by side, with the numbers of each model's own table; what one of them lacks is empty, never zero."""
    one = benched(toy_run(n=8, problems=6), "logprob", "asc", "shortest")
    other = benched(toy_run(n=9, problems=5, results=tmp_path / "other"), "logprob", "jaccard")
    other.spec["engine"]["model"] = "second"
    brief.write([one, other], 3, tmp_path / "both.md")
    cells = [
        row.strip("|").split("|") for row in (tmp_path / "both.md").read_text().splitlines() if row.startswith("|")
    ]
    table = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in cells}
    for at, group in ((0, one), (4, other)):
        for line in brief.lines(group, 3):
            assert table[line.place][at : at + 4] == [line.name, *line.numbers()]
    assert table["asc"][4:] == [""] * 4 and table["external-fixed"][:4] == [""] * 4
    assert {len(row) for row in table.values()} == {8} and len(table) == 2 + 6


def test_what_has_no_such_table_is_one_line(toy_run: Callable[..., Run], run_cli: Any, tmp_path: Path) -> None:
    benched(toy_run(n=4, problems=1), "logprob")
    table = ("leaderboard", "--results", str(tmp_path / "results"), "--brief", "--out", str(tmp_path / "a.md"))
    for more, said in (
        ((), "have fewer than --keep 8"),
        (("--keep", "2"), "has one problem"),
        (("--keep", "2", "--out", "a.tex"), "--brief writes Markdown"),
        (("--keep", "2", "--vote", "weighted"), "leave out --vote"),
    ):
        code, out = run_cli(*table, *more)
        assert code == 2 and said in out.replace("\n", " ") and "Traceback" not in out
    assert not (tmp_path / "a.md").exists()
