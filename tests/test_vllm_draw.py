"""Drawing inside vLLM, by both interfaces of its logits processors: the real classes, and requests that are made up.

The interface by slots belongs to vLLM's second model runner, whose kernels need a GPU; its classes and its loader need none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness.api import Sampling, UnavailableError
from harness.engines.sampling import choose
from harness.engines.served.asking import StreamKey
from harness.rng import uniforms

pytestmark = pytest.mark.vllm
DRAW = "harness.engines.vllm.draw:Draw"
BASE, HIDDEN, SLOTS, LONGEST = 40, 6, 8, 1400
FILTERS = (Sampling(), Sampling(0.7, 0.9, 5))


def config(**more: Any) -> Any:
    entry = {"base": BASE, "hidden": HIDDEN, "adapters": []}
    model = SimpleNamespace(hf_config=SimpleNamespace(pathprune=entry))
    scheduler = SimpleNamespace(max_num_seqs=SLOTS)
    return SimpleNamespace(model_config=model, scheduler_config=scheduler, speculative_config=None, **more)


def params(stream: StreamKey | None, **more: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(temperature=0.0, extra_args={"pathprune": list(stream)} if stream else None, **more)


@dataclass(eq=False)
class Request:
    """A made-up request: logits that depend on nothing but how many tokens it has drawn."""

    number: int
    stream: StreamKey | None
    prompt: int
    drawn: list[int] = field(default_factory=list)

    @classmethod
    def random(cls, number: int, rng: np.random.Generator) -> Request:
        key = StreamKey(3, f"p{number % 3}", number, int(rng.integers(0, 1100)), *vars(FILTERS[number % 2]).values())
        return cls(number, None if number % 5 == 4 else key, int(rng.integers(2, 60)))

    def logits(self) -> torch.Tensor:
        return torch.randn(BASE + 9, generator=torch.Generator().manual_seed(1000 * self.number + len(self.drawn)))

    def expected(self, token: int) -> torch.Tensor:
        """The token that is right at a place, by the definitions alone; vLLM's own maximum without a stream."""
        logits = torch.randn(BASE + 9, generator=torch.Generator().manual_seed(1000 * self.number + token))
        if self.stream is None:
            return logits.argmax()
        position = self.stream.start + token
        number = uniforms(self.stream.seed, self.stream.problem, self.stream.path, position, position + 1)
        return choose(logits[None, :BASE], torch.from_numpy(number), Sampling(*self.stream[4:]))[0]


def check(requests: list[Request]) -> None:
    assert any(len(r.drawn) > 3 for r in requests)
    for request in requests:
        assert request.drawn == [int(request.expected(i)) for i in range(len(request.drawn))], request.number


# By slots


def slot_states() -> Any:
    from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcRequestState

    lengths = SimpleNamespace(np=np.zeros(SLOTS, dtype=np.int32))
    nothing: Any = None
    return LogitsProcRequestState(torch.device("cpu"), SLOTS, BASE, nothing, lengths, nothing, nothing)  # type: ignore[arg-type]


def by_slots(states: Any, **more: Any) -> Any:
    """Loaded as vLLM's second model runner loads it, its check of the interface included."""
    from vllm.v1.worker.gpu.sample.logits_processor import build_custom_logits_processors, loader

    real = loader.LogitsProcRequestState.from_request_state
    loader.LogitsProcRequestState.from_request_state = lambda _: states
    try:
        return build_custom_logits_processors(config(**more), states, False, [DRAW])[0]
    finally:
        loader.LogitsProcRequestState.from_request_state = real


def context(slots: list[int], lengths: list[int]) -> Any:
    from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsContext

    mapping, pos = torch.tensor(slots), torch.tensor(lengths) - 1
    zeros = torch.zeros_like(mapping)
    return LogitsContext(mapping, mapping, np.array(slots, dtype=np.intp), zeros, zeros, pos, np.array(lengths))


def step(processor: Any, states: Any, running: dict[int, Request], order: list[int], read: dict[int, int]) -> None:
    """One scheduler step over some slots; ``read``: how much of a prompt is read, where that is not all of it."""
    rows = torch.stack([running[slot].logits() for slot in order])
    lengths = [read.get(slot, running[slot].prompt + len(running[slot].drawn)) for slot in order]
    processor.apply_staged_writes()
    logits = processor.apply(rows, context(order, lengths))
    for slot, token in zip(order, logits.argmax(-1).tolist(), strict=True):
        if slot not in read:
            running[slot].drawn.append(token)


@pytest.mark.parametrize("seed", range(4))
def test_by_slots_every_schedule_draws_the_same_tokens(seed: int) -> None:
    """Requests come, wait, are read in parts, are thrown out and come back to another slot, in any order of rows."""
    rng, states = np.random.default_rng(seed), slot_states()
    processor = by_slots(states)
    requests = [Request.random(i, rng) for i in range(14)]
    waiting, running = list(requests), {}
    for _ in range(400):
        free = [s for s in range(SLOTS) if s not in running]
        if waiting and free and rng.random() < 0.5:
            slot, request = int(rng.choice(free)), waiting.pop(0)
            running[slot], states.prompt_len.np[slot] = request, request.prompt
            assert processor.add_request(slot, params(request.stream)) is (request.stream is not None)
        if not running:
            continue
        slot = int(rng.choice(list(running)))
        if rng.random() < 0.15:  # it ends, or is thrown out and comes back with what it has drawn
            request = running.pop(slot)
            waiting += [request] if len(request.drawn) < 20 else []
        order = [int(s) for s in rng.permutation(list(running)) if rng.random() < 0.9]
        partial = {s: int(rng.integers(1, running[s].prompt)) for s in order if rng.random() < 0.1}
        if order:
            step(processor, states, running, order, partial)
    check(requests)


def test_by_slots_a_slot_forgets_its_former_request() -> None:
    states = slot_states()
    processor = by_slots(states)
    first = StreamKey(0, "p", 1, 0, 1.0, 1.0, 0)
    processor.add_request(2, params(first, logprob_token_ids=[BASE]))
    from harness.engines.vllm import asked

    assert asked.statistics() and not asked.states()
    processor.add_request(3, params(None, logprobs=HIDDEN + 1))
    assert asked.states()
    states.prompt_len.np[2] = 4
    assert processor.add_request(2, params(None)) is False
    assert not asked.statistics()
    row = torch.randn(1, BASE)
    assert torch.equal(processor.apply(row.clone(), context([2], [4])), row)
    from harness.engines.vllm.draw import forget

    forget()
    assert not asked.states()


def test_by_slots_speculative_decoding_is_refused() -> None:
    with pytest.raises(ValueError, match="without speculative decoding"):
        from harness.engines.vllm.draw import Draw

        Draw(SimpleNamespace(**vars(config()) | {"speculative_config": object()}), slot_states())


# By rows


def by_rows() -> Any:
    from vllm.v1.sample.logits_processor import build_logitsprocs

    every = build_logitsprocs(config(), torch.device("cpu"), False, False, [DRAW])
    return next(p for p in every.all if type(p).__name__ == "Draw")


@pytest.mark.parametrize("seed", range(4))
def test_by_rows_every_schedule_draws_the_same_tokens(seed: int) -> None:
    """The batch is condensed and reordered as vLLM's first model runner does it, with its own update."""
    from vllm.v1.sample.logits_processor.interface import BatchUpdate, MoveDirectionality

    rng, processor = np.random.default_rng(seed), by_rows()
    requests = [Request.random(i, rng) for i in range(14)]
    waiting, rows = list(requests), []
    for _ in range(300):
        removed, added, moved = [], [], []
        if rows and rng.random() < 0.15:
            gone = int(rng.integers(len(rows)))
            removed, last = [gone], len(rows) - 1
            if gone != last:
                moved, rows[gone] = [(last, gone, MoveDirectionality.UNIDIRECTIONAL)], rows[last]
            rows.pop()
        elif waiting and len(rows) < SLOTS and rng.random() < 0.5:
            rows.append(waiting.pop(0))
            added = [(len(rows) - 1, params(rows[-1].stream), [0] * rows[-1].prompt, rows[-1].drawn)]
        if len(rows) > 1 and rng.random() < 0.3:
            a, b = (int(i) for i in rng.choice(len(rows), 2, replace=False))
            rows[a], rows[b] = rows[b], rows[a]
            moved = [*moved, (a, b, MoveDirectionality.SWAP)]
        change = BatchUpdate(len(rows), removed, added, moved) if removed or added or moved else None
        processor.update_state(change)
        if rows:
            logits = processor.apply(torch.stack([r.logits() for r in rows]))
            for request, token in zip(rows, logits.argmax(-1).tolist(), strict=True):
                request.drawn.append(token)
    check(requests)


# Both


@pytest.mark.parametrize(
    "stream",
    [
        [1, "p"],
        "x",
        [1, "p", 0, 0, -1.0, 1.0, 0],
        [None] * 7,
        5,
        [1, "p", -1, 0, 1.0, 1.0, 0],
        [1, "p", 0, -3, 1.0, 1.0, 0],
    ],
)
def test_a_stream_that_is_none_is_refused_at_the_door(stream: Any) -> None:
    """By ValueError, which vLLM turns into an error of this request alone."""
    from vllm import SamplingParams

    from harness.engines.vllm.draw import Draw

    with pytest.raises(ValueError, match="no random stream of pathprune"):
        Draw.validate_params(SamplingParams(extra_args={"pathprune": stream}))


def test_a_vllm_without_a_known_interface_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.engines.vllm import draw

    monkeypatch.setattr(draw, "ROWS", "vllm.nothing_of_this_name")
    assert len(draw.interfaces()) == 1, "one interface is enough"
    monkeypatch.setattr(draw, "SLOTS", "vllm.nothing_of_this_name_either")
    with pytest.raises(UnavailableError, match=r"no interface .* install vllm 0.32 or 0.33"):
        draw.interfaces()


@pytest.mark.parametrize("slots", [False, True])
def test_numbers_go_on_across_blocks(slots: bool) -> None:
    """A path of more tokens than are computed at a time, resumed at any place, has the numbers of an uninterrupted one."""
    from harness.engines.vllm.draw import BLOCK, Uniforms

    numbers = Uniforms(SLOTS, torch.device("cpu"))
    numbers.hold(5, StreamKey(1, "p", 2, 0, 1.0, 1.0, 0))
    expected = uniforms(1, "p", 2, 0, 2 * BLOCK + 9)
    places = range(2 * BLOCK + 9) if not slots else (BLOCK - 1, 3, BLOCK, 2 * BLOCK, 7)
    for place in places:
        assert float(numbers.take(np.array([5]), np.array([place]))[0]) == expected[place]
