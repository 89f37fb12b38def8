"""Signals, votes and decision rules against numbers worked out by hand from the published formulas."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import registry
from harness.api import Check, LabelledPrefix, Path, PathpruneError, Problem, TokenStats
from harness.ledger import MeteredProbe
from harness.loop import check as run_check
from harness.loop import decide
from harness.replay.pool import Pool, vote_weights, weighted_vote
from harness.vote import VOTES, heaviest, majority, vote, weights
from pruners.internal_fixed.st_bon import chain_feature
from pruners.internal_learned.clue import Clue
from pruners.internal_learned.one_token import OneToken
from pruners.internal_learned.step import Step
from tasks.toy import Toy


def path(text: str = "", index: int = 0, tokens: int = 1, **stats: Sequence[float]) -> Path:
    """A path that has the named statistics and no others."""
    columns = {name: np.array(values, dtype=np.float16) for name, values in stats.items()}
    return Path(Problem("p", "q", "0"), index, 0, tuple(range(tokens)), text, TokenStats(**columns), "stop")


def scores(spec: str, paths: list[Path], **given: Any) -> list[float]:
    check = Check(np.random.default_rng(0), **given)
    return np.asarray(registry.pruner(spec).pruner.score(paths, check)).tolist()


def test_logprob_family() -> None:
    a = path(logprob=[-1, -2, -3])
    long = path(logprob=[-0.5] * 18 + [-4, -2])
    assert scores("logprob", [a]) == pytest.approx([-2])
    assert scores("perplexity", [a]) == pytest.approx([-np.exp(2)])
    assert scores("logprob-min", [a, long]) == pytest.approx([-3, -4])
    assert scores("logprob-lowest", [a, long]) == pytest.approx([-3, -3])  # lowest 10 %: one of three, two of twenty


def test_entropy_family() -> None:
    a = path(entropy=[0.5, 1.5, 1.0, 0.0], top_entropy=[np.log(2)] * 4, logprob=[0, 0, 0, 0])
    assert scores("entropy", [a]) == pytest.approx([-0.75])
    assert scores("adadec", [a]) == [-0.5]  # two of four tokens at 1.0 nats or more
    assert scores("adadec:threshold=1.4", [a]) == [-0.25]
    assert scores("think-just-enough", [a]) == pytest.approx([-1.0], abs=1e-3)  # a fair coin is one bit
    assert scores("stop-confidence", [a]) == pytest.approx([-1.75])  # perplexity 1 + entropy 0.75
    assert scores("stop-confidence:combine=perplexity", [a]) == pytest.approx([-1.0])


def test_margin_and_self_certainty_are_means() -> None:
    a = path(margin=[0.25, 0.75], self_certainty=[1.0, 2.0])
    assert scores("margin", [a]) == [0.5] and scores("self-certainty", [a]) == [1.5]


def test_deepconf_statistics() -> None:
    """Windows of two over 4 2 6 0 8 8: 3 4 3 4 8."""
    a = path(confidence=[4, 2, 6, 0, 8, 8])
    expected = {"deepconf": 28 / 6, "deepconf-lowest": 3, "deepconf-bottom": 3, "deepconf-tail": 8}
    for name, value in expected.items():
        assert scores(f"{name}:window=2", [a]) == pytest.approx([value])
    many = path(confidence=[*range(20, 0, -1), 0])
    assert scores("deepconf-bottom:window=1", [many]) == [0.5]  # int(0.1 * 21) = 2 windows: 0 and 1


@pytest.mark.parametrize("name", ["deepconf-lowest", "deepconf-bottom", "deepconf-tail"])
def test_published_window_collapses_to_the_mean_at_2048(name: str) -> None:
    trace = path(confidence=np.random.default_rng(0).random(2048))
    assert scores(name, [trace]) == pytest.approx(scores("deepconf", [trace]))


def test_surface_controls() -> None:
    texts = ["wait, but why", "fine " * 40, ""]
    paths = [path(t) for t in texts]
    assert scores("shortest", paths) == [-13, -200, 0] and scores("longest", paths) == [13, 200, 0]
    assert scores("repetition", paths)[1:] == [len(zlib.compress(texts[1].encode(), 9)) / 200, 1.0]
    assert scores("hesitation", paths) == pytest.approx([-2000 / 13, 0, 0])
    assert scores("hesitation:markers=why", paths) == pytest.approx([-1000 / 13, 0, 0])
    assert scores("answered", [path("w1 answer 3"), path("w1")], answer=Toy().answer) == [1, 0]


def test_chain_of_embedding_by_hand() -> None:
    """(1,0) (1,1) (0,1): steps 1 and 1 over sqrt 2, turns 45 and 45 over 90 degrees."""
    means = np.array([[1, 0], [1, 1], [0, 1]], dtype=np.float32)
    assert chain_feature(means) == pytest.approx(1 / np.sqrt(2) - 0.5)


class FakeStates:
    """An engine whose states are given: ``[layers + 1, 1 + T, d]`` per path index, the prompt's last token first."""

    def __init__(self, states: dict[int, Any], opens: int = 0) -> None:
        self.states = {k: np.asarray(v, dtype=np.float32) for k, v in states.items()}
        self.opens = opens

    def thinking(self, problem: Problem) -> int:
        return self.opens

    def trace(self, paths: Sequence[Path], reduce: Any, before: int = 0) -> list[np.ndarray]:
        return [reduce(self.states[p.index][:, 1 - before : 1 + len(p.tokens)], p) for p in paths]


def test_st_bon_keeps_the_most_typical() -> None:
    """Features f, f, g: the two that agree have half of the outlier's distance."""
    # Of a path of one token, the state that produced it counts: the prompt's last. What reads the token itself does not.
    typical = np.array([[[1, 0], [9, 9]], [[1, 1], [7, 0]], [[0, 1], [3, 2]]])
    outlier = np.array([[[1, 0], [9, 9]], [[5, 5], [7, 0]], [[0, 1], [3, 2]]])
    engine = FakeStates({0: typical, 1: outlier, 2: typical})
    got = scores("st-bon", [path(index=i) for i in range(3)], engine=engine)
    gap = float(chain_feature(typical[:, 0]) - chain_feature(outlier[:, 0])) ** 2
    assert got == pytest.approx([-gap / 2, -gap, -gap / 2])
    assert scores("st-bon", [path()], engine=engine) == [0]


def test_step_is_the_mean_over_boundaries() -> None:
    """Tokens 0..3 of which 1 and 3 end a step; the head is the identity, sigma(0) and sigma(2)."""
    states = np.array([[[5.0], [9.0], [0.0], [9.0], [2.0]]])
    engine = FakeStates({0: states, 1: states})
    pruner = Step(hidden=0)
    pruner.head.weights = {
        "mean": np.zeros(1), "std": np.ones(1), "last.weight": np.ones((1, 1)), "last.bias": np.zeros(1),
    }  # fmt: skip
    check = Check(np.random.default_rng(0), engine, step=".", decode=lambda ids: "a ." if ids[0] % 2 else "b")
    none = Path(Problem("p", "q", ""), 1, 0, (0, 2, 4, 6))
    got = pruner.score([path(tokens=4), none], check)
    assert got.tolist() == pytest.approx([(0.5 + 1 / (1 + np.exp(-2))) / 2, 0.0])


def test_step_learns_from_thinking_that_led_to_an_answer() -> None:
    """The unanswered path and what follows "</think>" leave no step; states are not standardised."""
    words = {0: "a", 1: ".", 2: "</think>", 3: " answer 1"}
    engine = FakeStates({i: [[[0.0], [0.0], [s], [0.0], [7.0], [0.0]]] for i, s in enumerate((3.0, -3.0, 5.0, 5.0))})

    def made(index: int, tokens: tuple[int, ...], right: float, held: bool) -> LabelledPrefix:
        text = "".join(words[t] for t in tokens)
        return LabelledPrefix(Path(Problem(f"p{index}", "q", ""), index, 0, tokens, text), right, 1, held)

    examples = [made(i, (0, 1, 2, 1, 3), float(i == 0), held) for held in (False, True) for i in (0, 1)]
    examples += [made(2, (0, 1, 0, 1, 0), 0.0, False)]
    check = Check(np.random.default_rng(0), engine, step=".", decode=lambda ids: "".join(words[i] for i in ids))
    check.answer = lambda text: "1" if "answer" in text else None
    seen: list[float] = []
    pruner = Step()
    pruner.head.fit = lambda states, labelled, *rest: seen.extend(states.ravel().tolist()) or {}  # type: ignore[assignment, func-returns-value]
    assert pruner.fit(examples, check, lambda line: None) == {"paths": 4}
    assert seen == [3.0, -3.0, 3.0, -3.0] and not pruner.head.standardise
    with pytest.raises(PathpruneError, match="of 0 that answer"):
        Step().fit(examples[4:], check, lambda line: None)


def test_clue_is_nearest_centroid_and_needs_both_outcomes() -> None:
    """Deltas (2) for success and (-2) for failure, one layer: a delta of 1 is 3 from failure and 1 from success."""
    engine = FakeStates({0: [[[9.0], [0.0], [2.0]]], 1: [[[9.0], [0.0], [-2.0]]], 2: [[[9.0], [0.0], [1.0]]]})
    check = Check(np.random.default_rng(0), engine)
    examples = [LabelledPrefix(path(index=i, tokens=2), float(i == 0), 1, v) for i in (0, 1) for v in (False, True)]
    pruner = Clue()
    metrics = pruner.fit(examples, check, lambda line: None)
    assert metrics["validation_auroc"] == 1.0
    assert pruner.score([path(index=2, tokens=2)], check).tolist() == pytest.approx([2.0])
    anchored = Check(np.random.default_rng(0), FakeStates({2: [[[0.5], [0.0], [1.0]]]}, opens=1))
    assert pruner.score([path(index=2, tokens=2)], anchored).tolist() == pytest.approx([1.0])  # a delta of 0.5
    with pytest.raises(PathpruneError, match="same success"):
        Clue().fit(examples[:2], check, lambda line: None)


@given(st.integers(1, 50), st.booleans(), st.floats(0.25, 4))
def test_otv_labels_go_from_neutral_to_certain(length: int, right: bool, ramp: float) -> None:
    example = LabelledPrefix(path(tokens=length), float(right), 1, False)
    cut = OneToken(ramp=ramp).ramped(example, np.random.default_rng(length))
    share = len(cut.prefix.tokens) / length
    assert cut.success == pytest.approx(0.5 + (0.5 if right else -0.5) * share**ramp)
    assert cut.prefix.tokens == example.prefix.tokens[: len(cut.prefix.tokens)]


def test_consensus_counts_agreement_and_charges_its_tokens() -> None:
    """On the toy engine a forced path says one digit and ends: suffix, digit and end are three tokens each."""
    engine = registry.engine("toy", "toy", Toy().defaults.sampling)
    prefixes = engine.launch(Toy().problems("dev", 1), 12, 5, 0)[0]
    check = Check(np.random.default_rng(0), answer=Toy().answer, closing="answer")
    check.engine = MeteredProbe(engine, check)
    got = np.asarray(registry.pruner("consensus").pruner.score(prefixes, check))
    texts = MeteredProbe(engine, Check(np.random.default_rng(0))).force(prefixes, "answer", 16)
    assert all(t.startswith(f"{p.text} answer ") for t, p in zip(texts, prefixes, strict=True))
    answers = [Toy().answer(t) for t in texts]
    assert got.tolist() == pytest.approx([(answers.count(s) - 1) / 11 for s in answers])
    assert check.cost.probed == 12 * 3 and check.cost.generated == 0


def test_consensus_without_any_answer_is_an_error() -> None:
    engine = registry.engine("toy", "toy", Toy().defaults.sampling)
    prefixes = engine.launch(Toy().problems("dev", 1), 4, 5, 0)[0]
    with pytest.raises(PathpruneError, match=r"none of 4 paths gives an answer behind 'w1'.*suffix="):
        run_check(registry.pruner("consensus:suffix=w1,max_tokens=1").pruner, prefixes, engine, Toy(), 0)


def test_consensus_runs_through_the_harness_without_the_answer() -> None:
    """The pruner's paths carry no gold answer, and what the model says does not depend on it."""
    engine = registry.engine("toy", "toy", Toy().defaults.sampling)
    prefixes = engine.launch(Toy().problems("dev", 1), 12, 5, 0)[0]
    got, spent = run_check(registry.pruner("consensus").pruner, prefixes, engine, Toy(), 0)
    direct = Check(np.random.default_rng(0), answer=Toy().answer, closing="answer")
    direct.engine = MeteredProbe(engine, direct)
    assert got.tolist() == pytest.approx(list(registry.pruner("consensus").pruner.score(prefixes, direct)))
    assert spent.cost.probed == 36


def test_a_path_that_has_ended_is_not_forced() -> None:
    engine = registry.engine("toy", "toy", Toy().defaults.sampling)
    ended = engine.launch(Toy().problems("dev", 1), 2, 48, 0)[0]
    check = Check(np.random.default_rng(0), answer=Toy().answer, closing="answer")
    check.engine = MeteredProbe(engine, check)
    got = registry.pruner("consensus").pruner.score(ended, check)
    same = Toy().answer(ended[0].text) == Toy().answer(ended[1].text)
    assert list(got) == [float(same)] * 2 and check.cost.probed == 0


def test_a_chain_without_length_is_a_number() -> None:
    assert chain_feature(np.ones((3, 4))) == 0 and np.isfinite(chain_feature(np.zeros((2, 4))))


def test_votes_by_hand() -> None:
    answers = ["a", "b", "b", None, "a"]
    values = np.array([0.9, 0.3, 0.5, 9.0, 0.1])
    told = np.array([a is not None for a in answers])
    # Borda: 2 + 1 for a, sqrt 3 + sqrt 2 for b; the unanswered path takes the best rank, and nobody's vote.
    assert [vote(rule, answers, values) for rule in VOTES] == ["a", "a", "b", "a", "a"]
    assert majority(["b", "a", "a", "b"]) == "b"  # a tie goes to the answer seen first
    assert weights("borda", values, told).tolist() == pytest.approx([2, np.sqrt(2), np.sqrt(3), 0, 1])
    assert weights("best", values, told).tolist() == [1, 0, 0, 0, 0]
    every = np.ones(20, dtype=bool)
    assert weights("filtered", np.linspace(0, 1, 20), every).tolist() == [0] * 18 + [
        18 / 19,
        1,
    ]  # the 90th percentile is 0.9
    # Of the answered ones the top tenth votes: a confident path without an answer takes nobody's place.
    assert weights("filtered", np.array([1.0, 2.0, 9.0]), np.array([True, True, False])).tolist() == [0, 2, 0]
    assert vote("weighted", ["a", "b", "b"], np.array([0.9, 0.3, 0.5])) == "a"
    assert vote("majority", ["a", "b", "b"], np.array([0.9, 0.3, 0.5])) == "b"
    assert vote("weighted", [None], np.array([1.0])) is None
    with pytest.raises(PathpruneError, match="borda"):
        weights("weighted", np.array([-1.0]), np.array([True]))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8), st.booleans()), min_size=1, max_size=9))
def test_the_replayed_vote_is_the_live_vote(rows: list[tuple[str, int, bool]]) -> None:
    answers, values, kept = [r[0] for r in rows], np.array([r[1] / 8 for r in rows]), np.array([r[2] for r in rows])
    codes: dict[str, int] = {}
    coded = np.array([[codes.setdefault(a, len(codes)) for a in answers]])
    shape = (1, len(rows))
    pool = Pool(("p",), np.array([[a == "a" for a in answers]]), coded, np.ones(shape, int), np.ones(shape, bool), np.ones(1), Any)  # fmt: skip
    for rule in VOTES:
        live = vote(rule, [a for a, k in zip(answers, kept, strict=True) if k], values[kept])
        replayed = weighted_vote(pool, vote_weights(pool, kept[None], values[None], rule))[0]
        assert bool(replayed) == (live == "a"), rule


def test_heaviest_ignores_who_does_not_vote() -> None:
    assert heaviest(["a", "b"], np.array([0.0, 0.1])) == "b" and heaviest(["a"], np.array([0.0])) is None


def rule(spec: str, paths: list[Path]) -> Any:
    return decide(registry.pruner(spec).pruner, paths, None, Toy(), 0)[0]


def test_deepconf_online_by_hand() -> None:
    """Warm-up lowest groups (window 2): 4 and 6. eta 10: the bar is 5.8; eta 90: 4.2."""
    traces = [[4, 4, 4, 4], [6, 6, 6, 6], [7, 7, 3, 7], [7, 7, 7, 1], [6, 6, 5, 6]]
    paths = [path("answer 1", index=i, tokens=4, confidence=t) for i, t in enumerate(traces)]
    low = rule("deepconf-online:window=2,warmup=2,consensus=0", paths)
    # Groups: 7 5 5 | 7 7 7 with a last one of 4 | 6 5.5 5.5: one is caught with its very last token and does not vote.
    assert low.spent.tolist() == [4, 4, 3, 4, 3] and low.weights.tolist() == [0, 6, 0, 0, 0]
    high = rule("deepconf-online:window=2,warmup=2,eta=90,consensus=0", paths)
    assert high.spent.tolist() == [4] * 5 and high.weights.tolist() == pytest.approx([0, 6, 5, 0, 5.5])


def test_deepconf_online_never_aborts_before_its_window_and_holds_short_paths_to_the_bar() -> None:
    traces = [[9, 9, 9], [9, 9, 9], [1, 1, 1]]
    paths = [path("answer 1", index=i, tokens=3, confidence=t) for i, t in enumerate(traces)]
    decision = rule("deepconf-online:window=2048,warmup=2,consensus=0", paths)
    assert decision.spent.tolist() == [3, 3, 3] and decision.weights.tolist() == [9, 9, 0]


def test_deepconf_online_stops_at_consensus() -> None:
    """Warm-up says 1 with all of the weight: nothing is launched. With a dissenter it goes on until 0.75 agree."""
    said = ["1", "2", "1", "1", "1"]
    paths = [path(f"answer {a}", index=i, tokens=2, confidence=[8, 8]) for i, a in enumerate(said)]
    assert rule("deepconf-online:warmup=1", paths).spent.tolist() == [2, 0, 0, 0, 0]
    decision = rule("deepconf-online:warmup=2,consensus=0.75", paths)
    assert decision.spent.tolist() == [2, 2, 2, 2, 0] and decision.weights.tolist() == [8, 8, 8, 8, 0]


def test_a_window_below_one_is_a_share_of_the_length() -> None:
    """Of 4 tokens a half is 2; online it is a share of the warm-up's mean length."""
    one = path(tokens=4, confidence=[1, 3, 9, 9])
    assert scores("deepconf-lowest:window=0.5", [one]) == scores("deepconf-lowest:window=2", [one]) == [2]
    traces = [[4, 4, 4, 4], [6, 6, 6, 6], [7, 7, 3, 7], [9] * 20]
    paths = [path("answer 1", index=i, tokens=len(t), confidence=t) for i, t in enumerate(traces)]
    share, tokens = (rule(f"deepconf-online:window={w},warmup=2,consensus=0", paths) for w in (0.5, 2))
    assert share.spent.tolist() == tokens.spent.tolist() and share.weights.tolist() == tokens.weights.tolist()
    for wrong in ("0", "-3", "2.5"):
        with pytest.raises(PathpruneError, match="window"):
            registry.pruner(f"deepconf-offline:window={wrong}")


def test_offline_votes_by_hand() -> None:
    traces = [[1, 3], [4, 4], [3, 3], [9, 9]]
    said = ["answer 1", "answer 2", "answer 1", ""]
    paths = [
        path(a, index=i, tokens=2, confidence=t, self_certainty=t)
        for i, (a, t) in enumerate(zip(said, traces, strict=True))
    ]
    assert rule("deepconf-offline", paths).weights.tolist() == [2, 4, 3, 0]
    assert rule("deepconf-offline:top=0.3", paths).weights.tolist() == [0, 4, 0, 0]  # the unanswered path sets no bar
    assert rule("deepconf-offline:statistic=tail,window=1", paths).weights.tolist() == [3, 4, 3, 0]
    borda = rule("self-certainty-borda", paths)
    assert borda.weights.tolist() == pytest.approx(
        [1, np.sqrt(3), np.sqrt(2), 0]
    )  # the unanswered one has the first rank
    assert borda.spent.tolist() == [2, 2, 2, 2]
    assert rule("deepconf-offline", paths[3:]).weights.tolist() == [0]


def test_impossible_decisions_are_errors() -> None:
    from harness.loop import ScoringError

    paths = [path(index=i, tokens=3) for i in range(2)]
    warm = SimpleNamespace(
        needs=frozenset(), warmup=1, decide=lambda p, c: SimpleNamespace(spent=[2, 3], weights=[0, 1])
    )
    with pytest.raises(ScoringError, match="warm-up"):
        decide(warm, paths, None, Toy(), 0)
    for spent, voting, says in (
        ([3, 4], [1, 1], "more spent tokens"),
        ([3, 2], [1, 1], "aborted path a weight above 0"),
        ([3, 3], [1, -1], "negative"),
        ([3], [1], "of shape"),
    ):
        method = SimpleNamespace(
            needs=frozenset(), warmup=0, decide=lambda p, c, s=spent, v=voting: SimpleNamespace(spent=s, weights=v)
        )
        with pytest.raises(ScoringError, match=says):
            decide(method, paths, None, Toy(), 0)


@pytest.mark.parametrize("needs", ["text", "hidden", "forced"])
def test_the_engine_gives_only_what_was_declared(needs: str) -> None:
    engine = registry.engine("toy", "toy", Toy().defaults.sampling)
    prefixes = engine.launch(Toy().problems("dev", 1), 2, 5, 0)[0]
    asked = {
        "hidden": lambda e: e.probe(prefixes),
        "forced": lambda e: e.force(prefixes, "answer", 2),
        "text": lambda e: e.decode((1,)),
    }
    for signal, ask in asked.items():
        probe = MeteredProbe(engine, Check(np.random.default_rng(0)), frozenset({needs}))
        if signal == needs:
            ask(probe)
        else:
            with pytest.raises(PathpruneError, match=signal):
                ask(probe)
