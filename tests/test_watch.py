"""Decision rules that ask a scorer: whom they abort, what they are charged, and how the scorer is named and found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.api import Check, Decision, Path, PathpruneError, Sampling
from harness.learn import checkpoints
from harness.loop import ScoringError, Spent, check, decide
from harness.plugins.declared import Plugin
from harness.report.staleness import is_stale
from harness.runners.bench import bench, open_record
from harness.runners.run import Run
from harness.testing import conformance
from tasks.embedded.hands import Hands
from tasks.toy import Toy


def finished(n: int = 10, seed: int = 0) -> tuple[Toy, Any, list[Path]]:
    task = Toy()
    engine = registry.engine("toy", "toy", Sampling())
    return task, engine, engine.launch(task.problems("test", 1), n, 48, seed)[0]


def decided(plugin: Plugin, paths: Sequence[Path], task: Any, engine: Any) -> tuple[Decision, Spent]:
    return decide(plugin.pruner, paths, engine, task, 0, scorer=plugin.scores_by)


def by_hand(
    paths: Sequence[Path], scorer: str, step: int, bar: Callable[[list[float], int], float]
) -> tuple[list[int], int]:
    """(where each path ends, how many scores that took), path by path and look by look."""
    task, engine, _ = finished(1)
    ends, scored = [len(p.tokens) for p in paths], 0
    for now in range(step, 49, step):
        running = [i for i, p in enumerate(paths) if ends[i] > now]
        if not running:
            break
        scores = [
            float(check(registry.pruner(scorer).pruner, [paths[i].cut(now, engine.decode)], engine, task, 0)[0][0])
            for i in running
        ]
        scored += len(running)
        dropped = [i for i, s in zip(running, scores, strict=True) if s < bar(scores, now)]
        if len(dropped) == len(running) and not any(
            e == len(p.tokens) <= now for e, p in zip(ends, paths, strict=True)
        ):
            dropped.remove(running[scores.index(max(scores))])
        for i in dropped:
            ends[i] = now
    return ends, scored


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("step", [3, 5, 16])
@pytest.mark.parametrize(
    ("options", "bar"),
    [
        ("drop=0", lambda scores, now: float(np.median(np.array(scores, np.float32)))),
        ("drop=0.1", lambda scores, now: float(np.median(np.array(scores, np.float32))) - 0.1),
        ("bar=-0.9", lambda scores, now: -0.9),
        ("bar=9", lambda scores, now: 9.0),
    ],
)
def test_who_is_aborted_where(options: str, bar: Any, step: int, seed: int) -> None:
    task, engine, paths = finished(seed=seed)
    rule = registry.pruner(f"watch:scorer=logprob,step={step},{options}")
    decision, _ = decided(rule, paths, task, engine)
    ends, _ = by_hand(paths, "logprob", step, bar)
    assert decision.spent.tolist() == ends
    assert decision.weights.tolist() == [float(end == len(p.tokens)) for end, p in zip(ends, paths, strict=True)]
    assert decision.weights.any(), "somebody votes, whatever the bar"


def test_a_path_has_to_be_worth_the_tokens_that_it_still_needs() -> None:
    """The rest is that of warm-up paths which were longer; a cost that nobody can pay leaves the best."""
    task, engine, paths = finished(12)
    for cost in (0.001, 0.01, 0.02, 5.0):
        rule = registry.pruner(f"watch:scorer=repetition,step=4,cost={cost},warmup=3")
        decision, _ = decided(rule, paths, task, engine)
        left = [len(p.tokens) for p in paths[:3]]
        assert decision.spent[:3].tolist() == left

        def bar(scores: list[float], now: int, left: list[int] = left, cost: float = cost) -> float:
            longer = [length - now for length in left if length > now]
            return cost * (np.mean(longer) if longer else 4)

        ends = by_hand([*paths[3:]], "repetition", 4, bar)[0]
        if cost < 5:
            assert decision.spent[3:].tolist() == ends
        else:
            assert (decision.spent[3:] <= 4).all(), "the warm-up votes, so nobody else has to"


@pytest.mark.parametrize("scorer", ["logprob", "think-just-enough", "adadec"])
def test_a_scorer_is_charged_for_every_look(scorer: str) -> None:
    """What it is charged for all looks together is what the same looks cost one by one."""
    task, engine, paths = finished()
    plugin = registry.pruner(f"watch:scorer={scorer},step=6,drop=1000")
    _, spent = decided(plugin, paths, task, engine)
    looks = [p.cut(now, engine.decode) for now in range(6, 49, 6) for p in paths if len(p.tokens) > now]
    alone = [check(registry.pruner(scorer).pruner, [p], engine, task, 0)[1].cost.tokens for p in looks]
    assert spent.cost.tokens == sum(alone)
    assert sum(c.tokens for c in spent.each.values()) == spent.cost.tokens


@pytest.mark.long
def test_a_probed_look_is_charged(hands: Hands, hands_engine: Any) -> None:
    paths = hands_engine.launch(hands.problems("test", 1), 4, 60, 0)[0]
    plugin = registry.pruner("watch:scorer=stop,step=20")
    checkpoints.attach(plugin, hands_engine)
    decision, spent = decided(plugin, paths, hands, hands_engine)
    looks = sum(
        1 for now in (20, 40) for end, p in zip(decision.spent, paths, strict=True) if end >= now < len(p.tokens)
    )
    assert spent.cost.probed == looks * 5 > 0  # the prefix's last token and four appended ones


@pytest.mark.parametrize(
    "spec", ["watch:scorer=logprob,step=2,drop=0.05", "watch:scorer=entropy,step=3,bar=0.1", "watch:scorer=repetition,cost=0.01,warmup=3,step=4"]
)  # fmt: skip
def test_it_conforms(spec: str) -> None:
    """It looks at no token behind an abort, and at no order of paths."""
    task, engine, _ = finished(1)
    found = list(conformance(registry.pruner(spec), task, engine, 6))
    assert found and not [wrong for _, wrong in found if wrong]


class Nosy:
    """A rule of one's own that asks its scorer beyond what it was given."""

    quadrant, needs, warmup, scorer = "control", frozenset[Any](), 0, "logprob"

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        scores = check.score(paths, 6)
        assert scores.dtype == np.float32 and scores.shape == (len(paths),)
        assert len(check.score([], 6)) == 0
        lengths = np.array([len(p.tokens) for p in paths])
        return Decision(
            np.where(scores >= np.median(scores), lengths, np.minimum(lengths, 6)), (scores >= np.median(scores)) * 1.0
        )


class Alone(Nosy):
    scorer = None


def test_a_rule_of_ones_own_may_ask(toy_run: Callable[..., Run]) -> None:
    """It needs what its scorer needs, and may read none of that itself."""
    task, engine, paths = finished()
    plugin = registry.of_object(Nosy())
    assert plugin.traits.needs == {"token_stats"} and plugin.scorer is not None
    assert decided(plugin, paths, task, engine)[0].weights.sum() == 5
    assert registry.of_object(plugin.pruner).name == plugin.name == "Nosy", "asking changes nothing about an object"
    assert plugin.traits.quadrant == "internal-fixed"
    run = toy_run()
    assert not bench(run, [plugin], lambda done, note: None).failures
    with pytest.raises(ScoringError, match="only if its member scorer names"):
        decide(registry.of_object(Alone()).pruner, paths, engine, task, 0)


def test_records_name_the_scorer(toy_run: Callable[..., Run]) -> None:
    """Its name, its code and its weights decide what a row says; a change of its code makes the row stale."""
    run = toy_run()
    one, other = (registry.pruner(f"watch:scorer={name},step=4") for name in ("logprob", "entropy"))
    bench(run, [one, other], lambda done, note: None)
    headers = [open_record(run, plugin, 0).header for plugin in (one, other)]
    assert [h["spec"]["scorer"] for h in headers] == ["logprob", "entropy"]
    assert not any(map(is_stale, headers))
    changed = {**headers[0], "spec": headers[0]["spec"] | {"scorer_code": "a1:000000000000"}}
    assert is_stale(changed)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("watch:scorer=stopp", "did you mean stop"),
        ("watch:scorer=asc", "scorer asc decides by a rule of its own"),
        ("watch:scorer=watch", "scorer watch decides by a rule of its own"),
        ("watch:scorer=jaccard", "scores paths relative to each other"),
        ("watch:scorer=logprob,checkpoint=x", "scorer logprob does not use a checkpoint"),
        ("watch:step=0", "step is in tokens"),
        ("watch:drop=-1", "drop is 0 or more"),
        ("watch:cost=0", "cost above 0"),
        ("watch:bar=high", "give one number"),
        ("watch:drop=0.1,bar=0.5", "give one number"),
        ("watch:warmup=-1", "warmup a number of paths"),
        ("watch:scores=stop", "did you mean scorer"),
        ("watch+asc", "decides by a rule of its own"),
    ],
)
def test_a_bad_spec_is_one_line(spec: str, told: str) -> None:
    with pytest.raises(PathpruneError, match=told) as caught:
        registry.method(spec)
    assert "\n" not in str(caught.value)


def test_an_engine_without_the_scorers_signals_is_refused(toy_run: Callable[..., Run]) -> None:
    from harness.runners.bench import check_signals

    class Dumb(type(registry.engine("toy", "toy", Sampling()))):  # type: ignore[misc]
        provides = frozenset({"text"})

    with pytest.raises(PathpruneError, match="needs token_stats"):
        check_signals(registry.pruner("watch:scorer=logprob"), Dumb())
    assert "on this" not in checkpoints.unavailable(registry.pruner("watch"), Dumb())
