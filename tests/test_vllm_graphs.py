"""A Check wherever a captured graph may get hold of its [STOP] ids: the scores are those of ``hf``, or there are none.

No graph is captured on a CPU. What a replayed one does is to run a pass without asking the model's Python: that is what
``decode_graphs`` makes of every pass in which each request has one token, as vLLM does beside a GPU. What the cache then holds
of such tokens is wrong, and must not show anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.api import Path, PathpruneError
from harness.engines.served.asking import Request
from tasks.embedded.hands import Hands

pytestmark = pytest.mark.vllm
BLOCK = 32
STOP = FilePath("pruners/checkpoints/stop/3bfac10f82c4")
NO_STATISTICS: Any = frozenset({"token_stats"})


@pytest.fixture
def decode_graphs(served: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, passes of one token of each request are those of a graph."""
    served.new_adapter(STOP)  # opens the engine
    from vllm.config import CUDAGraphMode
    from vllm.forward_context import get_forward_context

    from harness.engines.vllm import model

    def replayed() -> bool:
        metadata = get_forward_context().attn_metadata
        return bool(metadata) and next(iter(metadata.values())).max_query_len == 1

    def begin() -> None:
        monkeypatch.setattr(model, "_capturing", replayed)
        worker = served.llm.llm_engine.model_executor.driver_worker.worker
        loaded = worker.model_runner.get_model()
        monkeypatch.setattr(loaded, "compilation", SimpleNamespace(cudagraph_mode=CUDAGraphMode.FULL))

    return begin


@pytest.fixture
def budget(served: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many tokens vLLM computes in one step."""
    scheduler = served.llm.llm_engine.engine_core.engine_core.scheduler
    return lambda tokens: monkeypatch.setattr(scheduler, "max_num_scheduled_tokens", tokens)


@pytest.fixture(scope="module")
def paths(hands: Hands, hands_engine: Any) -> list[Path]:
    """Of several problems, so that their prompts differ in length."""
    return [p for g in hands_engine.launch(hands.problems("dev", 6), 3, 80, seed=11) for p in g]


def states(engine: Any, prefixes: list[Path]) -> np.ndarray:
    return np.asarray(engine.probe(prefixes, engine.new_adapter(STOP))[:, -1])


def leaving_one(served: Any, paths: list[Path], engine: Any) -> list[Path]:
    """Prefixes whose Check ends on the first token of a block: once it is cached, that token is left to compute."""
    tokens, cut = served.new_adapter(STOP).tokens, []
    for path in paths:
        length = (1 - tokens - served.prompt_length(path.problem)) % BLOCK + BLOCK
        if len(path.tokens) >= length:
            cut.append(path.cut(length, engine.decode))
    assert len(cut) > 3
    return cut


@pytest.fixture
def one_round(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Check has the same [STOP] ids, as one and the same round 256 Checks later: the cache has those of the last."""
    served.new_adapter(STOP)
    monkeypatch.setattr(served._engine, "turns", repeat(0))


@pytest.mark.parametrize("graphs", [False, True])
def test_the_same_check_twice_shares_no_stop_tokens(
    graphs: bool, served: Any, hands_engine: Any, paths: list[Path], decode_graphs: Callable[[], None]
) -> None:
    """So that more than one token is left to compute, wherever a block ends."""
    if graphs:
        decode_graphs()
    prefixes, tokens = leaving_one(served, paths, hands_engine), served.new_adapter(STOP).tokens
    expected = states(hands_engine, prefixes)
    for _ in range(2):
        before = replace(served.counters)
        assert np.abs(states(served, prefixes) - expected).max() < 1e-4
        asked = served.counters.prompted - before.prompted
        assert asked == sum(len(served.sequence(p)) + tokens for p in prefixes), "none was asked for twice"
    assert len(prefixes) * tokens <= served.counters.computed - before.computed <= len(prefixes) * (tokens + BLOCK)


@pytest.mark.usefixtures("one_round")
@pytest.mark.parametrize("graphs", [False, True])
def test_a_check_of_which_one_token_is_left(
    graphs: bool, served: Any, hands_engine: Any, paths: list[Path], decode_graphs: Callable[[], None]
) -> None:
    if graphs:
        decode_graphs()
    prefixes = leaving_one(served, paths, hands_engine)
    served.llm.reset_prefix_cache()
    expected = states(hands_engine, prefixes)
    assert np.abs(states(served, prefixes) - expected).max() < 1e-4
    before = replace(served.counters)
    assert np.abs(states(served, prefixes) - expected).max() < 1e-4
    computed, asked = served.counters.computed - before.computed, served.counters.prompted - before.prompted
    whole = sum(len(served.sequence(p)) + served.new_adapter(STOP).tokens for p in prefixes)
    # Beside graphs these are asked for again, and in the end computed as a whole.
    assert (computed, asked) == ((2 * len(prefixes) + whole, 3 * whole) if graphs else (len(prefixes), whole))


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("left", [1, 2, 3, 5])
def test_stop_ids_split_over_two_steps(
    left: int, graphs: bool, served: Any, hands_engine: Any, paths: list[Path], decode_graphs: Any, budget: Any
) -> None:
    """``left`` tokens of the Check are computed in a step of their own. Beside graphs nobody knows whether the first ones were in one."""
    if graphs:
        decode_graphs()
    prefix = paths[4].cut(40, hands_engine.decode)
    length = len(served.sequence(prefix)) + served.new_adapter(STOP).tokens
    budget(length - left)
    served.llm.reset_prefix_cache()
    before = served.counters.prompted
    assert np.abs(states(served, [prefix]) - states(hands_engine, [prefix])).max() < 1e-4
    # Asked for again, it finds the prefix in the cache, and what is left fits into one step.
    again = graphs and left < served.new_adapter(STOP).tokens
    assert served.counters.prompted - before == length * (1 + again)


@pytest.mark.parametrize("graphs", [False, True])
def test_checks_beside_decoding_and_twice(
    graphs: bool, served: Any, hands_engine: Any, paths: list[Path], decode_graphs: Any, budget: Any
) -> None:
    """Paths that are drawn and Checks share their steps, in turns of few tokens; each gives what it gives alone."""
    if graphs:
        decode_graphs()
    prefixes = [p.cut(20 + i, hands_engine.decode) for i, p in enumerate(paths)]
    drawing = served.without(NO_STATISTICS)
    alone = [p.tokens for p in drawing.resume(prefixes, 70)]
    adapter = served.new_adapter(STOP)
    stops = tuple(served.layout.stop_ids(adapter.slot, adapter.tokens))
    checks = [Request(served.sequence(p) + stops, top=served.layout.hidden + 1) for p in prefixes]
    draws = [drawing.draw(p, 70) for p in prefixes]
    expected = states(hands_engine, prefixes)
    budget(301)
    for _ in range(2):
        served.llm.reset_prefix_cache()
        replies = served.ask([r for pair in zip(draws, checks, strict=True) for r in pair] + checks)
        assert [p.tokens + r.tokens for p, r in zip(prefixes, replies[: 2 * len(prefixes) : 2], strict=True)] == alone
        for i, reply in enumerate(replies[1 : 2 * len(prefixes) : 2] + replies[2 * len(prefixes) :]):
            state = served.layout.state(*reply.top[0])
            if state is None:  # asked for again by the engine
                assert graphs, "nothing may get lost without graphs"
            else:
                assert np.abs(state - expected[i % len(prefixes)]).max() < 1e-4


def test_a_lora_that_was_skipped_is_an_error(
    served: Any, hands_engine: Any, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a captured piece of a model whose other pieces ran: [STOP] ids have their embeddings, and layers no LoRA."""
    from harness.engines.vllm.lora import StopLinear

    real, prefixes = StopLinear.add, [p.cut(22, hands_engine.decode) for p in paths[:4]]
    expected = states(served, prefixes)
    monkeypatch.setattr(StopLinear, "add", lambda self, *of: None if "layers.1." in self.name else real(self, *of))
    with pytest.raises(PathpruneError, match="4 of 4 states without their adapter"):
        states(served, prefixes)
    assert np.isfinite(served.probe(prefixes)).all(), "a reading without an adapter needs none"
    monkeypatch.undo()
    served.llm.reset_prefix_cache()
    assert np.abs(states(served, prefixes) - expected).max() < 1e-5


def test_an_adapter_that_was_never_loaded_has_no_state(served: Any, paths: list[Path]) -> None:
    served.new_adapter(STOP)
    for ids in ([served.layout.stop_ids(7, 1)[0]], served.layout.stop_ids(0, 9)[-1:]):
        reply = served.ask([Request((*served.sequence(paths[0]), *ids), top=served.layout.hidden + 1)])[0]
        assert served.layout.state(*reply.top[0]) is None


@pytest.mark.parametrize(
    ("ids", "positions", "whole"),
    [
        ([0, 1, 2, 3], [9, 10, 11, 12], [True] * 4),
        ([2, 3], [11, 12], [False] * 2),  # the first two were in an earlier pass
        ([0, 1, 2, 3, 0, 1], [9, 10, 11, 12, 5, 6], [True] * 6),
        ([0, 1, 2, 3], [9, 10, 31, 32], [True, True, False, False]),  # of two Checks, each in part
        ([0, 1, 16 + 2, 16 + 3], [9, 10, 11, 12], [True, True, False, False]),  # of two adapters
        ([0, 1, 128 + 2, 128 + 3], [9, 10, 11, 12], [True, True, False, False]),  # of two rounds
    ],
)
def test_whole_runs(ids: list[int], positions: list[int], whole: list[bool]) -> None:
    """Beside ordinary tokens, and at the pass' first row."""
    import torch

    from harness.engines.vllm.lora import whole_runs

    for before in (0, 3):
        offsets, places = torch.tensor([-40] * before + ids), torch.tensor([7] * before + positions)
        assert whole_runs(torch.arange(before, before + len(ids)), offsets, places).tolist() == whole
