"""Stopping rules: what they may see, what they must not depend on, and where their authors' code stops on the same answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry
from harness.api import Check, Path, PathpruneError, Problem, Tally, TokenStats
from harness.loop import decide
from harness.stopping import walk
from harness.testing import conformance
from pruners.internal_fixed.mars import MARS, calibrated, features, switch_model
from pruners.internal_fixed.parallel_probe import ParallelProbe
from pruners.stopping.asc import ahead, largest
from pruners.stopping.fewer import Fewer
from pruners.stopping.short import ShortM
from tasks.toy import Toy
from tests.test_plugins import bench, is_one_line, rows  # noqa: F401

GOLDEN = json.loads((FilePath(__file__).parent / "fixtures" / "stopping.json").read_text())
SEQUENTIAL = (
    "asc", "asc:threshold=0.8,batch=3", "asc:criterion=dirichlet,threshold=0.7", "asc:criterion=entropy", "asc:criterion=majority",
    "esc:window=2", "esc", "sprt", "sprt:p1=0.7,beta=0.3", "msprt", "msprt:prior=5,beta=0.3", "fewer:n=4", "fewer:n=3,batch=2",
    "agreement:warmup=3,consensus=0.6", "agreement:batch=4,warmup=4",
)  # fmt: skip
PARALLEL = (
    "short", "short:m=1", "asc:order=parallel", "sprt:order=parallel", "msprt:order=parallel",
    "agreement:order=parallel,warmup=2,consensus=0.7",
)  # fmt: skip
PROBING = (
    "parallel-probe:step=4,stable=2,patience=1,delay=0",
    "mars:step=4,window=4,warmup=4",
    "mars:step=3,warmup=5,gamma=0.5",
)
COUNTING = ("short", "short:m=1", "fewer:n=4", "fewer:n=3,batch=2")  # they stop whatever is answered
ANSWERS = st.one_of(st.none(), st.sampled_from("abcde"))
PATHS = st.lists(st.tuples(ANSWERS, st.integers(1, 9)), max_size=30)
few = settings(max_examples=40, deadline=None)


@cache
def rule(spec: str) -> Any:
    return registry.pruner(spec).pruner


def walked(spec: str, paths: Sequence[tuple[Any, int]]) -> list[int]:
    return walk(rule(spec), [a for a, _ in paths], [n for _, n in paths]).tolist()


def paths_of(lengths: Sequence[int]) -> list[Path]:
    return [Path(Problem("p", "q", "0"), i, 0, tuple(range(n)), "", None, "stop") for i, n in enumerate(lengths)]


# What holds for every rule.


@few
@given(paths=PATHS, others=PATHS)
def test_a_sequential_rule_depends_on_earlier_paths_alone(paths: Any, others: Any) -> None:
    for spec in SEQUENTIAL:
        spent = walked(spec, paths)
        begun = sum(s > 0 for s in spent)
        assert spent == [n for _, n in paths[:begun]] + [0] * (len(paths) - begun), spec
        if begun < len(paths):  # it stopped: whatever comes after it
            assert walked(spec, [*paths[:begun], *others]) == spent[:begun] + [0] * len(others), spec


@few
@given(paths=st.lists(st.tuples(ANSWERS, st.integers(1, 9), ANSWERS, st.integers(1, 9)), max_size=30))
def test_a_parallel_rule_depends_on_the_first_tokens_of_all(paths: Any) -> None:
    for spec in PARALLEL:
        spent = walked(spec, [(a, n) for a, n, _, _ in paths])
        end = max(spent, default=0)
        assert spent == [min(n, end) for _, n, _, _ in paths], spec
        if any(n > end for _, n, _, _ in paths):  # it stopped: whoever still ran goes on as he likes
            assert walked(spec, [(a, n) if n <= end else (b, end + m) for a, n, b, m in paths]) == spent, spec


@few
@given(paths=PATHS, labels=st.permutations("vwxyz"))
def test_the_names_of_answers_do_not_matter(paths: Any, labels: Any) -> None:
    renamed = dict(zip("abcde", labels, strict=True))
    for spec in (*SEQUENTIAL, *PARALLEL):
        assert walked(spec, [(renamed.get(a), n) for a, n in paths]) == walked(spec, paths), spec


def test_without_answers_only_a_number_of_paths_stops() -> None:
    paths = [(None, n) for n in (3, 1, 4, 1, 5, 9, 2, 6)]
    stopped = [spec for spec in (*SEQUENTIAL, *PARALLEL) if walked(spec, paths) != [n for _, n in paths]]
    assert sorted(stopped) == sorted(COUNTING)


@few
@given(st.lists(ANSWERS, max_size=40))
def test_a_tally_counts_as_counter_does(answers: list[Any]) -> None:
    tally = Tally()
    for count, answer in enumerate(answers, 1):
        tally.add(answer)
        votes = Counter(a for a in answers[:count] if a is not None)
        assert tally.answers == answers[:count] and tally.counts == votes and tally.answered == votes.total()
        assert [tally.first, tally.second] == ([n for _, n in votes.most_common(2)] + [0, 0])[:2]
        assert votes[tally.leader] == tally.first


# Each rule.


STRICTER = [
    *((f"asc:criterion={c},threshold={a}", f"asc:criterion={c},threshold={b}")
      for c in ("beta", "dirichlet", "majority") for a, b in ((0.3, 0.8), (0.8, 0.95))),
    ("asc:criterion=entropy,threshold=0.8", "asc:criterion=entropy,threshold=0.5"),
    ("asc:order=parallel,threshold=0.8", "asc:order=parallel,threshold=0.95"),
    ("agreement:consensus=0.6,warmup=2", "agreement:consensus=0.9,warmup=2"),
    ("agreement:warmup=2", "agreement:warmup=6"), ("short:m=1", "short:m=3"), ("fewer:n=2", "fewer:n=3"),
]  # fmt: skip


@few
@given(PATHS)
def test_a_stricter_rule_never_stops_earlier(paths: Any) -> None:
    for low, high in STRICTER:
        assert all(a <= b for a, b in zip(walked(low, paths), walked(high, paths), strict=True)), (low, high)


@few
@given(PATHS, st.integers(1, 40))
def test_fewer_is_the_first_paths(paths: Any, n: int) -> None:
    assert walk(Fewer(n), [a for a, _ in paths], [m for _, m in paths]).tolist() == [
        length if i < n else 0 for i, (_, length) in enumerate(paths)
    ]


@few
@given(PATHS, st.integers(1, 8))
def test_short_lets_those_vote_that_finish_no_later_than_the_mth(paths: Any, m: int) -> None:
    lengths = [n for _, n in paths]
    end = sorted(lengths)[m - 1] if m <= len(lengths) else 9
    assert walk(ShortM(m), [a for a, _ in paths], lengths).tolist() == [min(n, end) for n in lengths]


def test_a_window_that_is_unanimous_has_answers_only() -> None:
    def begun(answers: str) -> int:
        return sum(walked("esc:window=3", [(None if a == "." else a, 1) for a in answers]))

    assert begun("aaabbb") == 3 and begun("abaaaa") == 6 and begun("abbbba") == 6
    assert begun("aa.aaabbb") == 6 and begun("...bbbccc") == 6
    assert begun("abaa") == 4  # the rest is a smaller window, which decides nothing


@few
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5))
def test_every_share_is_the_largest_with_probabilities_that_add_up(counts: list[int]) -> None:
    each = [largest((counts[i], *counts[:i], *counts[i + 1 :])) for i in range(len(counts))]
    assert sum(each) == pytest.approx(1, abs=2e-5)
    if len(counts) == 2:
        assert each[0] == pytest.approx(ahead(*counts), abs=2e-5)


# The authors' numbers.


def sequences() -> list[list[str | None]]:
    return [[None if a == "." else a for a in text] for text in GOLDEN["sequences"]]


def empty_window(answers: Sequence[str | None], window: int) -> bool:
    starts = range(0, len(answers), window)
    return any(not any(a is not None for a in answers[s : s + window]) for s in starts)


@pytest.mark.parametrize("spec", [*GOLDEN["stops"], *GOLDEN["one_by_one"]])
def test_it_stops_where_the_authors_code_does(spec: str) -> None:
    ends = (GOLDEN["stops"] | GOLDEN["one_by_one"])[spec]
    asked = rule(spec)
    compared = 0
    for answers, end in zip(sequences(), ends, strict=True):
        if spec.startswith("esc") and empty_window(answers, asked.window):
            continue
        assert walk(asked, answers, [1] * len(answers)).sum() == end, answers
        compared += 1
    assert compared >= 120 and len(set(ends)) > 2


def test_the_authors_dirichlet_criterion_estimates_our_integral() -> None:
    for counts, estimate in GOLDEN["dirichlet"]:
        assert largest(tuple(counts)) == pytest.approx(estimate, abs=0.015)


class Table:
    """An engine whose forced answers are given: of each path a text, one character for every ``step`` tokens."""

    def __init__(self, answers: Sequence[str], step: int) -> None:
        self.answers, self.step, self.asked = answers, step, Counter[int]()

    def force(self, paths: Sequence[Path], suffix: str, max_tokens: int) -> list[str]:
        self.asked.update(p.index for p in paths)
        return [self.answers[p.index][len(p.tokens) // self.step - 1] for p in paths]


def probed(
    answers: Sequence[str], lengths: Sequence[int], finals: Sequence[str], method: Any, confidence: Sequence[float] = ()
) -> tuple[Any, Table]:
    def read(text: str) -> str | None:
        return None if text == "." else text

    engine = Table(answers, method.step)
    check = Check(
        np.random.default_rng(0), engine, answer=read, final=lambda p: read(finals[p.index]), decode=lambda t: ""
    )
    paths = [
        replace(p, stats=TokenStats(confidence=np.full(len(p.tokens), c, dtype=np.float16)))
        for p, c in zip(paths_of(lengths), confidence or [0.0] * len(lengths), strict=True)
    ]
    return method.decide(paths, check), engine


@pytest.mark.parametrize("case", GOLDEN["probes"], ids=range(len(GOLDEN["probes"])))
def test_parallel_probe_does_what_the_authors_code_does(case: dict[str, Any]) -> None:
    """Tokens of every path, and the answer, but for the one running path that votes where no finished path can."""
    stable, patience, delay = case["options"]
    answers, lengths, finals = zip(*case["branches"], strict=True)
    decision, _ = probed(answers, lengths, finals, ParallelProbe(5, stable, patience, delay))
    voters = np.flatnonzero(decision.weights).tolist()
    longer = np.flatnonzero(decision.spent != case["spent"]).tolist()
    assert longer in ([], voters[:1])
    if longer:
        (voter,) = voters
        assert (
            decision.spent[voter] == lengths[voter] and answers[voter][case["spent"][voter] // 5 - 1] == case["answer"]
        )
    else:
        assert {finals[i] for i in voters} == {case["answer"]} - {"."}


def test_parallel_probe_draws_answers_of_running_paths_alone() -> None:
    """Three of four agree from token 10 on: path 3 strays twice and is dropped, path 2 ends, and at token 25 it is enough."""
    answers = ["aaaaaaaa", "baaaaaaa", "aaa", "bbbbbbbb"]
    decision, engine = probed(answers, [42, 42, 17, 42], "aaab", ParallelProbe(5, 3, 2, 0))
    assert decision.spent.tolist() == [25, 25, 17, 15] and decision.weights.tolist() == [0, 0, 1, 0]
    assert engine.asked == {0: 4, 1: 4, 2: 2, 3: 2}


def test_parallel_probe_says_if_no_path_can_be_made_to_answer() -> None:
    with pytest.raises(PathpruneError, match="none of 4 probes gives an answer behind"):
        probed(["...", "..."], [20, 20], "ab", ParallelProbe(5, 9, 9, 0))


MARSES = [(case, name) for case in GOLDEN["mars"] for name in ("calibrated", "worst")]


@pytest.mark.parametrize(("case", "name"), MARSES, ids=range(len(MARSES)))
def test_mars_stops_where_the_authors_code_does(case: dict[str, Any], name: str) -> None:
    answers, finals, first = case["answers"], np.array([int(a) for a in case["finals"]]), case["warmup"]
    ids = np.array([[-1 if a == "." else int(a) for a in row] for row in answers])
    grid = 10 * np.arange(1, ids.shape[1] + 1)
    rows = features(grid, np.repeat(np.array(case["confidence"])[:, None], len(grid), axis=1), ids)
    changes = switch_model(rows[:first], ids[:first] != finals[:first, None])(rows[:, len(grid) // 2])
    assert changes == pytest.approx(np.array(case["q"]), abs=2e-4)
    assert calibrated(ids[:first], finals[:first]) == case["gamma"]
    stop, answer = case["stops"][name]
    lengths = case["lengths"]
    gamma = None if name == "calibrated" else 1.0
    method = MARS(step=10, window=20, warmup=first, gamma=gamma)
    decision, engine = probed(answers, lengths, case["finals"], method, case["confidence"])
    assert decision.spent.tolist() == [n if i < first or stop < 0 else min(n, stop) for i, n in enumerate(lengths)]
    assert {case["finals"][i] for i in np.flatnonzero(decision.weights)} == {str(answer)}
    assert all(engine.asked[i] <= n // 10 for i, n in enumerate(lengths))  # once at a length


def test_features_of_the_switch_model() -> None:
    got = features(np.array([5, 10, 15, 20]), np.array([[1.0, 3.0, 2.0, 2.0]]), np.array([[0, 0, -1, 0]]))[0]
    assert got.T.tolist() == [[5, 10, 15, 20], [1, 3, 2, 2], [0, 0, 1, 2], [1, 2, 1, 1], [0, 2, -1, 0]]


def test_without_a_warm_up_that_answers_mars_lets_all_paths_end() -> None:
    method = MARS(step=5, window=5, warmup=4)
    decision, engine = probed(["aaaa"] * 6, [20] * 6, "a....a", method, [1.0] * 6)
    assert decision.spent.tolist() == [20] * 6 and decision.weights.tolist() == [1, 0, 0, 0, 0, 1] and not engine.asked


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        ("asc", "exact"), ("asc:criterion=dirichlet", "paper-specified"), ("asc:order=parallel", "adapted (decision)"), ("esc", "exact"),
        ("sprt", "exact"), ("msprt:order=parallel", "adapted (decision)"), ("short:m=1", "paper-specified"),
        ("short", "adapted (decision)"), ("agreement", "adapted (signal)"), ("fewer", "definition"), ("parallel-probe", "adapted (decision)"), ("mars", "adapted (signal, decision)"),
    ],
)  # fmt: skip
def test_labels(spec: str, label: str) -> None:
    assert registry.pruner(spec).traits.fidelity == label


# At work.


@pytest.mark.parametrize("spec", [*SEQUENTIAL, *PARALLEL, *PROBING])
def test_rules_conform(spec: str) -> None:
    task = Toy()
    findings = list(conformance(registry.pruner(spec), task, registry.engine("toy", "toy", task.defaults.sampling), 8))
    assert len(findings) >= 5 and not [f for f in findings if f[1] is not None]


def test_walk_asks_after_every_batch_and_after_every_token_at_which_paths_finish() -> None:
    class Listens:
        def __init__(self, order: str, batch: int, last: int) -> None:
            self.order, self.batch, self.last, self.asked = order, batch, last, 0

        def stops(self, tally: Tally) -> bool:
            self.asked += 1
            heard.append(list(tally.answers))
            return self.asked == self.last

    heard: list[list[Any]] = []

    assert walk(Listens("sequential", 2, 9), "abcde", [5, 4, 3, 2, 1]).tolist() == [5, 4, 3, 2, 1]
    assert heard == [["a", "b"], ["a", "b", "c", "d"], ["a", "b", "c", "d", "e"]]
    assert walk(Listens("sequential", 2, 2), "abcde", [5, 4, 3, 2, 1]).tolist() == [5, 4, 3, 2, 0]
    heard.clear()
    assert walk(Listens("parallel", 1, 2), "abcde", [7, 3, 3, 9, 5]).tolist() == [5, 3, 3, 5, 5]
    assert heard == [["b", "c"], ["b", "c", "e"]]


@pytest.mark.parametrize("order", ["sequential", "parallel"])
@pytest.mark.parametrize("says", [True, False])
def test_walk_over_no_paths(order: str, says: bool) -> None:
    asked = type("Always", (), {"order": order, "stops": lambda self, tally: says})()
    assert walk(asked, [], []).tolist() == []


def test_paths_are_generated_by_index_and_those_that_finish_have_one_vote() -> None:
    paths = paths_of([4, 5, 6, 7])
    decision, spent = decide(rule("fewer:n=2"), [paths[i] for i in (3, 0, 2, 1)], None, Toy(), 0)
    assert decision.spent.tolist() == [0, 4, 0, 5] and decision.weights.tolist() == [0, 1, 0, 1]
    assert spent.cost.tokens == 0


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("asc:threshold=1", "threshold is between 0 and 1"), ("asc:threshold=0", "threshold is between 0 and 1"), ("asc:criterion=gamma", "criterion is one of"),
        ("asc:threshold=x", "cannot be made with"), ("asc:order=both", "order is sequential or parallel"), ("asc:batch=0", "batch 1 or more"),
        ("asc:order=parallel,batch=2", "leave out batch"), ("asc:treshold=0.9", "did you mean threshold"), ("esc:window=1", "window is 2 paths or more"),
        ("esc:window=2.5", "must be an integer"), ("esc:batch=2", "unknown option of esc"), ("sprt:p1=0.5", "between 0.5 and 1"), ("sprt:p1=1", "between 0.5 and 1"),
        ("sprt:alpha=0.5,beta=0.5", "together below 1"), ("msprt:alpha=0", "above 0"), ("msprt:prior=0", "prior is above 0"), ("short:m=0", "1 or more"),
        ("short:order=sequential", "unknown option of short"), ("agreement:consensus=0", "share above 0"), ("agreement:warmup=0", "1 or more"),
        ("fewer:n=0", "1 or more"), ("fewer:n=x", "must be an integer"), ("parallel-probe:step=0", "all 1 or more"), ("parallel-probe:delay=-1", "delay is 0 or more"),
        ("parallel-probe:step=0.5", "must be an integer"), ("mars:warmup=3", "4 paths or more"), ("mars:gamma=1.5", "from 0 to 1"), ("parallel_probe", "did you mean parallel-probe"),
    ],
)  # fmt: skip
def test_bad_options_are_one_line(spec: str, says: str) -> None:
    with pytest.raises(PathpruneError) as caught:
        registry.pruner(spec)
    assert is_one_line(str(caught.value), says), caught.value


MINE = """
class Mine:
    '''Stop at three equal answers.'''

    quadrant = "control"

    def stops(self, tally):
        return {returns}
"""


def test_a_rule_of_ones_own_is_ten_lines(bench: Any, tmp_path: FilePath) -> None:  # noqa: F811
    (tmp_path / "mine.py").write_text(MINE.format(returns="tally.first >= 3"))
    assert not bench(["./mine.py@Mine"], problems=3, n=12).failures
    assert len(rows("results", "own-rule")) == 3


@pytest.mark.parametrize(
    ("returns", "says"),
    [
        ("3", "stops.. returned 3, not True or False"), ("None", "returned None, not True or False"), ("1 / 0", "ZeroDivisionError"), ("exit()", "SystemExit"),
        ("tally.paths[0].problem.answer == tally.leader", "'Tally' object has no attribute 'paths'"), ("self.lengths", "no attribute 'lengths'"),
    ],
)  # fmt: skip
def test_a_rule_that_fails_or_peeks_is_an_error_row(returns: str, says: str, bench: Any, tmp_path: FilePath) -> None:  # noqa: F811
    (tmp_path / "mine.py").write_text(MINE.format(returns=returns))
    failures = bench(["./mine.py@Mine"]).failures
    assert len(failures) == 1 and is_one_line(next(iter(failures.values()))[1], says)
    assert rows("results", "own-rule") and all("error" in row for row in rows("results", "own-rule"))


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ("batch = 0", "batch must be a number of paths"), ("order = 'both'", "unknown order"), ("quadrant = None", "it has no quadrant"), ("batch = 1.5", "batch must be of type int, not 1.5"),
    ],
)  # fmt: skip
def test_what_a_rule_declares_is_checked(members: str, says: str, tmp_path: FilePath) -> None:
    (tmp_path / "mine.py").write_text(
        MINE.format(returns="True").replace('quadrant = "control"', f'quadrant = "control"; {members}')
    )
    with pytest.raises(PathpruneError) as caught:
        registry.pruner(f"{tmp_path}/mine.py@Mine")
    assert is_one_line(str(caught.value), says)
