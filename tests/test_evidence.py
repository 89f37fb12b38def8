"""The findings of every model and task: one family of comparisons, rivals that nobody chose on the problems they are shown on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pathprune as pp
from harness.replay.stats import Interval
from harness.report import Group, selected
from harness.studies import evidence
from harness.studies.evidence import GAINS, LONGER, PLACED, TOOLS, TRADE, Cell, by_letter
from tests.test_reports import full

NAN = float("nan")


@pytest.fixture(autouse=True)
def _no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups here are made of numbers, and have no records of what paths answered."""
    monkeypatch.setattr(evidence, "_preferred", lambda group, mask: None)


def pool(name: str, **signals: float) -> Group:
    made = full(**signals)
    judged = [replace(m, quadrant="internal-fixed") if m.name != "stop" else m for m in made.judged]
    return replace(made, folder=Path(name), spec=made.spec | {"task": name}, judged=judged)


def test_each_pool_is_a_column_at_the_length_of_most_methods() -> None:
    one = pool("one", stop=2.0, rival=0.1)
    shorter = replace(one, prefix=one.prefix - 1, judged=one.judged[:1])
    made = evidence.columns([shorter, one, pool("two", stop=0.0)])
    assert [column.title.partition(",")[0].split()[0] for column in made] == ["one", "two"]
    assert TRADE + "III" in made[0].cells and made[0].problems == 40 and made[0].detects


def test_the_same_paths_at_several_n_are_one_column() -> None:
    """What is launched of a pool is no other pool: its claims stand once in the family."""
    whole = pool("one", stop=2.0, rival=0.1)
    of_first = replace(
        whole.pool, **{k: getattr(whole.pool, k)[:, :3] for k in ("correct", "answers", "lengths", "stopped")}
    )
    fewer = replace(whole, folder=Path("fewer"), spec=whole.spec | {"n": 3}, pool=of_first)
    assert evidence._widest([fewer, whole]) == evidence._widest([whole, fewer]) == [whole]
    reseeded = replace(whole, spec=whole.spec | {"seed": 7})
    assert evidence._widest([whole, reseeded]) == [whole, reseeded]


def test_a_pool_without_stop_has_no_column() -> None:
    assert evidence.columns([pool("one", rival=2.0)]) == []


def test_all_columns_are_one_family() -> None:
    """The more is compared, the more it takes: the same column beside others never gains a verdict, and p-values are Holm's."""
    alone = evidence.columns([pool("one", stop=0.5, rival=0.1)])[0]
    beside = evidence.columns([pool("one", stop=0.5, rival=0.1), *(pool(f"x{i}", stop=0.0) for i in range(6))])[0]
    assert alone.cells.keys() == beside.cells.keys()
    for claim, cell in alone.cells.items():
        assert beside.cells[claim].adjusted_p >= cell.adjusted_p >= cell.value.p
        assert beside.cells[claim].value == cell.value
    assert any(beside.cells[claim].adjusted_p > cell.adjusted_p for claim, cell in alone.cells.items())


@pytest.mark.parametrize(
    ("mean", "adjusted_p", "verdict"),
    [(0.1, 0.01, "confirmed"), (-0.1, 0.01, "not confirmed"), (0.1, 0.06, "undecided"), (0.1, NAN, "undecided")],
)
def test_a_verdict_is_of_the_corrected_p(mean: float, adjusted_p: float, verdict: str) -> None:
    assert Cell("", "", Interval(mean, mean - 0.01, mean + 0.01, 0.001), adjusted_p).verdict == verdict


def test_a_rival_has_nothing_of_being_chosen_among_many() -> None:
    """Of thirty methods without signal the best on these problems beats chance; the one chosen on other problems does not."""
    gaps = []
    for seed in range(4):
        made = pool("one", stop=0.0, **{f"r{i}": 0.0 for i in range(30)})
        rng = np.random.default_rng(seed)
        noise = {m.name: rng.normal(size=m.values.shape).astype(np.float32) for m in made.judged}
        made = replace(made, judged=[replace(m, values=noise[m.name]) for m in made.judged])
        cells = evidence.columns([made])[0].cells
        gaps.append(cells[GAINS].value.mean - cells[TRADE + "III"].value.mean)
    best = max(abs(g) for g in gaps)
    assert abs(np.mean(gaps)) < 0.02 and best < 0.06, gaps


def test_a_gain_of_short_paths_alone_is_not_confirmed_beyond_lengths() -> None:
    made = pool("one", stop=0.0)
    lengths = np.tile(np.arange(10, 10 + made.pool.n), (len(made.pool.problems), 1))
    right = lengths < lengths.mean()
    shorter = replace(made.pool, lengths=lengths, correct=right)
    stop = replace(made.judged[0], pool=shorter, values=-lengths.astype(np.float32))
    cells = evidence.columns([replace(made, pool=shorter, judged=[stop])])[0].cells
    assert cells[GAINS].verdict == "confirmed" and cells[LONGER].value.mean == pytest.approx(0.0, abs=1e-9)


def test_preferring_a_letter_is_what_the_position_control_takes_away() -> None:
    """C is right on three problems of four; who keeps the paths that say C gains, and nothing beyond the letter."""
    rng = np.random.default_rng(0)
    letters = rng.choice(list("ABCD"), size=(400, 16))
    gold = np.where(rng.random(400) < 0.75, "C", "A")[:, None]
    correct, mask = letters == gold, letters == "C"
    gain = (correct * mask).sum(1) / np.maximum(1, mask.sum(1)) - correct.mean(1)
    assert gain.mean() > 0.3 and abs((gain - by_letter(letters, correct, mask)).mean()) < 0.02
    knows = correct
    gain = (correct * knows).sum(1) / np.maximum(1, knows.sum(1)) - correct.mean(1)
    assert (gain - by_letter(letters, correct, knows)).mean() > 0.1


def test_answers_that_are_no_letters_have_no_such_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    options: dict[str, Any] = {"engine": "toy", "n": 8, "keep": 2, "problems": 6, "progress": False}
    pp.bench("logprob,entropy,jaccard", "toy", prefix=5, results=tmp_path / "r", bank=tmp_path / "b", **options)
    monkeypatch.setattr(evidence, "METHOD", "logprob")
    (column,) = evidence.columns(selected(tmp_path / "r"))
    assert GAINS in column.cells and PLACED not in column.cells
    assert not any(claim.startswith(TOOLS) for claim in column.cells)
    text = evidence.markdown([column])
    assert f"all {len(column.cells)} comparisons" in text and all(f"| {c} |" in text for c in column.cells)


def test_paths_that_run_code_are_compared_at_the_papers_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pool("one", stop=2.0)
    big = full(stop=2.0)
    monkeypatch.setattr(evidence, "groups_of", lambda folder, n: [replace(big, prefix=made.prefix)])
    made = replace(made, spec=made.spec | {"engine": made.spec["engine"] | {"tools": {"python": True}}})
    cells = evidence.columns([made])[0].cells
    assert [c for c in cells if c.startswith(TOOLS)] == [f"{TOOLS}, 16 to 8"]  # the pool has 16 paths
