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
from harness.engines.sampling import choose, statistics
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


def params(stream: StreamKey | None, wish: tuple[str, int] | None = None, **more: Any) -> Any:
    from vllm import SamplingParams

    extra: dict[str, Any] = {"pathprune": list(stream)} if stream else {}
    extra |= {"pathprune_record": list(wish)} if wish else {}
    return SamplingParams(temperature=0.0, extra_args=extra or None, **more)


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

    @property
    def wish(self) -> tuple[str, int] | None:
        """Most are recorded."""
        return ("statistics", 70 + self.number) if self.number % 3 else None

    def logits(self) -> torch.Tensor:
        return self.of(len(self.drawn))

    def of(self, token: int) -> torch.Tensor:
        logits = torch.randn(BASE + 9, generator=torch.Generator().manual_seed(1000 * self.number + token))
        logits[BASE if self.stream is None else BASE + 9 :] = -torch.inf
        return logits

    def expected(self, token: int) -> torch.Tensor:
        """The token that is right at a place, by the definitions alone; vLLM's own maximum without a stream."""
        logits = self.of(token)
        if self.stream is None:
            return logits.argmax()
        position = self.stream.start + token
        number = uniforms(self.stream.seed, self.stream.problem, self.stream.path, position, position + 1)
        return choose(logits[None, :BASE], torch.from_numpy(number), Sampling(*self.stream[4:]))[0]


def check(requests: list[Request], processor: Any) -> None:
    """Tokens, and of those that are recorded the statistics."""
    from harness.engines.vllm.records import Records

    records = Records([processor.follows.recorder.take()], HIDDEN)
    assert any(len(r.drawn) > 3 for r in requests)
    for request in requests:
        assert request.drawn == [int(request.expected(i)) for i in range(len(request.drawn))], request.number
        if request.drawn and request.wish:
            logits = torch.stack([request.of(i) for i in range(len(request.drawn))])
            expected = statistics(logits[:, :BASE], torch.tensor(request.drawn))
            assert np.array_equal(records.statistics(request.wish[1], len(request.drawn)), expected.numpy())


# By slots


def slot_states() -> Any:
    from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcRequestState

    lengths, given = (SimpleNamespace(np=np.zeros(SLOTS, dtype=np.int32)) for _ in range(2))
    nothing: Any = None
    return LogitsProcRequestState(torch.device("cpu"), SLOTS, BASE, nothing, lengths, given, nothing)  # type: ignore[arg-type]


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
    """One scheduler step over some slots; ``read``: how much is read of what a request came with, where that is not all of it."""
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
    processor.follows.recorder.begin()
    requests = [Request.random(i, rng) for i in range(14)]
    waiting, running = list(requests), {}
    for _ in range(400):
        free = [s for s in range(SLOTS) if s not in running]
        if waiting and free and rng.random() < 0.5:
            slot, request = int(rng.choice(free)), waiting.pop(0)
            running[slot], states.prompt_len.np[slot] = request, request.prompt
            states.prefill_len.np[slot] = request.prompt + len(request.drawn)
            wanted = processor.add_request(slot, params(request.stream, request.wish))
            assert wanted is (request.stream is not None or request.wish is not None)
        if not running:
            continue
        slot = int(rng.choice(list(running)))
        if rng.random() < 0.15:  # it ends, or is thrown out and comes back with what it has drawn
            request = running.pop(slot)
            waiting += [request] if len(request.drawn) < 20 else []
        order = [int(s) for s in rng.permutation(list(running)) if rng.random() < 0.9]
        partial = {s: int(rng.integers(1, states.prefill_len.np[s])) for s in order if rng.random() < 0.1}
        if order:
            step(processor, states, running, order, partial)
    check(requests, processor)


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
    processor.follows.recorder.begin()
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
            added = [(len(rows) - 1, params(rows[-1].stream, rows[-1].wish), [0] * rows[-1].prompt, rows[-1].drawn)]
        if len(rows) > 1 and rng.random() < 0.3:
            a, b = (int(i) for i in rng.choice(len(rows), 2, replace=False))
            rows[a], rows[b] = rows[b], rows[a]
            moved = [*moved, (a, b, MoveDirectionality.SWAP)]
        change = BatchUpdate(len(rows), removed, added, moved) if removed or added or moved else None
        processor.update_state(change)
        if rows:
            logits = processor.apply(torch.stack([r.logits() for r in rows]))
            for request, token in zip(rows, logits.argmax(-1).tolist(), strict=True):
                if rng.random() < 0.9:  # otherwise it is dropped, and drawn again
                    request.drawn.append(token)
    check(requests, processor)


# Both


def carrying(state: float, broken: bool = False) -> torch.Tensor:
    """A row of the model that carries a state."""
    row = torch.full((BASE + 9,), -torch.inf)
    row[:HIDDEN], row[HIDDEN] = -torch.inf if broken else state, 0.0
    return row


@pytest.mark.parametrize("interface", ["slots", "rows"])
def test_states_are_kept_where_requests_read_them(interface: str) -> None:
    """Beside a row that is drawn, one whose state was not computed, and a prompt that is still being read."""
    from vllm.v1.sample.logits_processor.interface import BatchUpdate

    from harness.engines.vllm import asked
    from harness.engines.vllm.ids import IdLayout
    from harness.engines.vllm.records import Records

    stream, prompt = StreamKey(0, "p", 1, 0, 1.0, 1.0, 0), 4
    wanted = [params(None, ("state", 1)), params(stream, ("statistics", 2)), params(None, ("state", 3)), params(None)]
    passes = [
        torch.stack([torch.randn(BASE + 9), torch.randn(BASE + 9), carrying(0, broken=True), torch.randn(BASE + 9)]),
        torch.stack([carrying(2.5), torch.randn(BASE + 9), carrying(0, broken=True), torch.randn(BASE + 9)]),
    ]
    if interface == "slots":
        states = slot_states()
        processor: Any = by_slots(states)
        states.prompt_len.np[:4] = states.prefill_len.np[:4] = prompt
        assert [processor.add_request(i, p) for i, p in enumerate(wanted)] == [True, True, True, False]
        contexts = [(context([0, 1, 2, 3], [n, prompt, prompt, prompt]),) for n in (prompt - 1, prompt)]
    else:
        processor, contexts = by_rows(), [(), ()]
        processor.update_state(BatchUpdate(4, [], [(i, p, [0] * prompt, []) for i, p in enumerate(wanted)], []))
    assert asked.states() and not asked.statistics(), "no columns are computed for what is recorded"
    processor.follows.recorder.begin()
    for rows, more in zip(passes, contexts, strict=True):
        after = processor.apply(rows.clone(), *more)
        assert torch.equal(after[[0, 2, 3]], rows[[0, 2, 3]])
    records, layout = Records([{}, processor.follows.recorder.take()], HIDDEN), IdLayout(BASE, HIDDEN)
    first, third = (layout.state(range(HIDDEN + 1), records.state(serial)) for serial in (1, 3))
    assert first is not None and first.tolist() == [2.5] * HIDDEN and third is None
    expected = statistics(passes[1][1:2, :BASE], after[1:2].argmax(-1))  # the second draw of one position counts
    assert np.array_equal(records.statistics(2, 1), expected.numpy())


@pytest.mark.parametrize("at_once", [0, 1000, 1 << 30])
def test_of_a_position_the_last_draw_counts_and_of_a_request_its_own_tokens(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was thrown out draws positions again; one that ended may have drawn one token too many."""
    from harness.engines import pending
    from harness.engines.vllm.records import Places, Recorder, Records

    monkeypatch.setitem(pending.AT_ONCE, "cpu", at_once)
    recorder = Recorder(BASE, HIDDEN, torch.device("cpu"))
    passes = [([4, 9], [0, 0]), ([9, 4], [1, 1]), ([4], [1]), ([4, 9], [2, 2]), ([9, 4], [2, 3])]
    kept: dict[tuple[int, int], np.ndarray] = {}
    for turn in range(2):  # what a run that was stopped has left is gone
        recorder.begin()
        for serials, positions in passes[: None if turn else 3]:
            logits, tokens = torch.randn(3, BASE + 9), torch.randint(BASE, (3,))
            rows = np.array([2, 0][: len(serials)])
            places = Places(rows, np.array(serials), np.array(positions))
            distributions = recorder.before(places, logits)
            assert distributions is not None
            recorder.drawn(places, distributions, tokens)
            columns = statistics(logits[rows, :BASE], tokens[rows]).numpy()
            kept |= {(s, p): c for s, p, c in zip(serials, positions, columns, strict=True)}
            logits.zero_()  # vLLM may do with it what it likes
    records = Records([recorder.take()], HIDDEN)
    for serial, count in ((4, 4), (4, 3), (9, 2), (9, 0)):
        expected = [kept[serial, position] for position in range(count)]
        assert np.array_equal(records.statistics(serial, count), np.array(expected, dtype=np.float16).reshape(-1, 6))
    for serial, count in ((4, 5), (9, 4), (5, 1)):
        with pytest.raises(RuntimeError, match="not all were recorded"):
            records.statistics(serial, count)
    assert recorder.take() == {} and recorder.before(places, logits) is None, "closed until the next run"


def test_nothing_is_recorded_for_a_server_s_clients() -> None:
    from vllm.v1.sample.logits_processor.interface import BatchUpdate

    processor = by_rows()
    stream = StreamKey(0, "p", 1, 0, 1.0, 1.0, 0)
    processor.update_state(BatchUpdate(1, [], [(0, params(stream, ("statistics", 0)), [0], [])], []))
    processor.apply(torch.randn(1, BASE))
    assert processor.follows.recorder.take() == {}


@pytest.mark.parametrize(
    "wish", ["statistics", ["all", 1], ["state", -1], ["state", "1"], ["state"], 5, ["state", 1.0]]
)
def test_a_record_that_is_none_is_refused_at_the_door(wish: Any) -> None:
    from vllm import SamplingParams

    from harness.engines.vllm.draw import Draw

    with pytest.raises(ValueError, match="not a kind of record and a number"):
        Draw.validate_params(SamplingParams(extra_args={"pathprune_record": wish}))


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
