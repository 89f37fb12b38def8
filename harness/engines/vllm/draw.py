"""Sampling inside vLLM with the harness' own random streams: one uniform number per (seed, problem, path, position).

vLLM's seeded streams restart at every request, so a resumed path would not be the uninterrupted one. Here the token
is chosen by ``harness.engines.sampling.choose`` and put above all others; vLLM then takes the maximum. Paths are thereby
those of the Hugging Face engine, as far as the two compute the same logits.

vLLM has two interfaces for this: one by rows of the batch, and, where its second model runner works, one by slots of requests.
``Draw`` speaks both, and follows the one that it is opened by.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.api import PathpruneError, Sampling, UnavailableError
from harness.engines.sampling import choose
from harness.engines.served.asking import StreamKey
from harness.engines.vllm import asked
from harness.engines.vllm.ids import IdLayout
from harness.rng import uniforms

ARGUMENT = "pathprune"  # of SamplingParams.extra_args: a StreamKey as a list
BLOCK = 512  # uniform numbers computed at a time
ABOVE = torch.finfo(torch.float32).max  # the logit of the token that was drawn
ROWS, SLOTS = "vllm.v1.sample.logits_processor.interface", "vllm.v1.worker.gpu.sample.logits_processor.interface"


def interfaces() -> tuple[type, ...]:
    """Those base classes of logits processors that this environment's vLLM has.

    Raises:
        UnavailableError: it has none that we know.
    """
    found = []
    for name in (ROWS, SLOTS):
        try:
            found.append(importlib.import_module(name).LogitsProcessor)
        except (ImportError, AttributeError):
            continue
    if not found:
        raise UnavailableError(
            "this vLLM has no interface for logits processors that pathprune knows; install vllm 0.32 or 0.33"
        )
    return tuple(found)


@dataclass(frozen=True)
class Asked:
    """What a request asks of us."""

    stream: StreamKey | None  # the random numbers that draw its tokens; None where vLLM draws them
    statistics: bool = False
    state: bool = False

    @classmethod
    def of(cls, params: Any, layout: IdLayout | None) -> Asked:
        """What vLLM's ``SamplingParams`` say.

        Raises:
            ValueError: for a stream that is none.
        """
        entries = (params.extra_args or {}).get(ARGUMENT)
        if layout is None:
            return cls(_stream(entries))
        statistics = set(params.logprob_token_ids or ()).intersection(layout.statistic_ids)
        return cls(_stream(entries), bool(statistics), params.logprobs == layout.hidden + 1)

    @property
    def sampling(self) -> Sampling | None:
        """The filters before the draw."""
        return None if self.stream is None else Sampling(*self.stream[4:])


def _stream(entries: Any) -> StreamKey | None:
    if entries is None:
        return None
    try:
        seed, problem, path, start, *filters = entries
        key = StreamKey(int(seed), str(problem), int(path), int(start), *filters)
        Sampling(*filters)
        if not 0 <= key.path < 1 << 64 or not 0 <= key.start < 1 << 62:
            raise ValueError(f"path {key.path}, position {key.start}")
    except (TypeError, ValueError, OverflowError, PathpruneError) as error:
        raise ValueError(f"{ARGUMENT} is no random stream of pathprune: {error}") from error
    return key


class Uniforms:
    """The uniform numbers that some requests use next, a block of positions for each slot, where the logits are.

    They are computed on the host by ``harness.rng``, bit for bit those of every other engine, and copied once in ``BLOCK`` tokens.
    """

    def __init__(self, slots: int, device: torch.device) -> None:
        self.device = device
        self.numbers = torch.zeros(slots, BLOCK, dtype=torch.float64, device=device)
        self.keys: list[StreamKey | None] = [None] * slots
        self.blocks = np.full(slots, -1)  # which block of positions a slot holds

    def hold(self, slot: int, key: StreamKey | None) -> None:
        """From here on a slot is that of a stream."""
        if self.keys[slot] is not key:
            self.keys[slot], self.blocks[slot] = key, -1

    def take(self, slots: np.ndarray, positions: np.ndarray) -> torch.Tensor:
        """The numbers of these slots' streams at these positions of their paths, float64 ``[n]``."""
        blocks, columns = np.divmod(positions, BLOCK)
        stale = np.flatnonzero(self.blocks[slots] != blocks)
        if len(stale):
            new = np.stack([self._block(slots[i], blocks[i]) for i in stale])
            self.numbers[self._moved(slots[stale])] = torch.from_numpy(new).to(self.device, non_blocking=True)
            self.blocks[slots[stale]] = blocks[stale]
        places = self._moved(slots * BLOCK + columns)
        return self.numbers.view(-1)[places]

    def _block(self, slot: int, block: int) -> np.ndarray:
        key = self.keys[slot]
        assert key is not None, "numbers of a slot without a stream"
        return uniforms(key.seed, key.problem, key.path, int(block) * BLOCK, (int(block) + 1) * BLOCK)

    def _moved(self, indices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(indices.astype(np.int64)).to(self.device, non_blocking=True)


def decide(
    logits: torch.Tensor, rows: torch.Tensor | None, uniform: torch.Tensor, sampling: Sampling, base: int
) -> None:
    """Put the drawn tokens of ``rows`` (None: all) above all others, in place.

    Args:
        logits: ``[n, V]``.
        rows: int64 ``[m]``.
        uniform: float64 ``[m]``, in [0, 1).
        sampling: filters before the draw.
        base: how many of the ids are tokens.
    """
    of_rows = logits[:, :base] if rows is None else logits[rows, :base]
    tokens = choose(of_rows, uniform, sampling)
    if rows is None:
        logits.scatter_(1, tokens.unsqueeze(-1), ABOVE)
    else:
        logits[rows, tokens] = ABOVE


@dataclass
class Group:
    """Rows whose tokens are drawn alike, in the interface by rows."""

    sampling: Sampling
    rows: np.ndarray
    indices: torch.Tensor
    starts: np.ndarray  # positions within their paths of the first tokens to draw
    drawn: list[list[int]]  # vLLM's own, growing lists of output tokens


class ByRow:
    """The interface by rows: see vLLM's ``v1.sample.logits_processor.interface``."""

    def __init__(self, base: int, layout: IdLayout | None, slots: int, device: torch.device) -> None:
        self.base, self.layout, self.device = base, layout, device
        self.numbers = Uniforms(slots, device)
        self.requests: dict[int, tuple[Asked, list[int]]] = {}  # by row
        self.groups: list[Group] = []
        self.statistics = self.states = False

    def update_state(self, batch_update: Any) -> None:
        """Follow vLLM's requests as they come, move between rows and end."""
        from vllm.v1.sample.logits_processor.builtin import process_dict_updates

        if process_dict_updates(self.requests, batch_update, self._request):
            self._arrange()

    def _request(self, params: Any, prompt: Any, drawn: list[int]) -> tuple[Asked, list[int]] | None:
        asks = Asked.of(params, self.layout)
        return (asks, drawn) if asks != Asked(None) else None

    def _arrange(self) -> None:
        every = [asks for asks, _ in self.requests.values()]
        self.statistics, self.states = any(a.statistics for a in every), any(a.state for a in every)
        by_sampling: dict[Sampling, list[int]] = {}
        for row in sorted(self.requests):
            if sampling := self.requests[row][0].sampling:
                by_sampling.setdefault(sampling, []).append(row)
        self.groups = [self._group(sampling, rows) for sampling, rows in by_sampling.items()]

    def _group(self, sampling: Sampling, rows: list[int]) -> Group:
        streams = [self.requests[row][0].stream for row in rows]
        for row, stream in zip(rows, streams, strict=True):
            self.numbers.hold(row, stream)
        starts = np.array([stream.start for stream in streams if stream is not None])
        indices = torch.tensor(rows, device=self.device)
        return Group(sampling, np.array(rows), indices, starts, [self.requests[row][1] for row in rows])

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """``[n, V]``, changed in place."""
        for group in self.groups:
            uniform = self.numbers.take(group.rows, group.starts + [len(tokens) for tokens in group.drawn])
            every = len(group.rows) == len(logits)
            decide(logits, None if every else group.indices, uniform, group.sampling, self.base)
        return logits


class BySlot:
    """The interface by slots: see vLLM's ``v1.worker.gpu.sample.logits_processor.interface``."""

    def __init__(self, base: int, layout: IdLayout | None, states: Any) -> None:
        self.base, self.layout, self.device = base, layout, states.device
        self.prompt_length = states.prompt_len  # of each slot; its array is another one after every step
        self.numbers = Uniforms(states.max_num_reqs, states.device)
        self.starts = np.zeros(states.max_num_reqs, dtype=np.int64)
        self.samplings: list[Sampling] = []
        self.kinds = np.full(states.max_num_reqs, -1)  # of each slot, which of ``samplings``; -1: vLLM draws
        # vLLM does not say when a request ends: its slot counts until another request has it, or until ``forget``.
        self.with_statistics: set[int] = set()
        self.with_states: set[int] = set()

    @property
    def statistics(self) -> bool:
        """See ``asked.Requests``."""
        return bool(self.with_statistics)

    @property
    def states(self) -> bool:
        """See ``asked.Requests``."""
        return bool(self.with_states)

    def forget(self) -> None:
        """No request is running."""
        self.with_statistics.clear()
        self.with_states.clear()

    def add_request(self, slot: int, params: Any) -> bool:
        """A slot is that of a new request; returns whether we draw its tokens."""
        asks = Asked.of(params, self.layout)
        for slots, wanted in ((self.with_statistics, asks.statistics), (self.with_states, asks.state)):
            slots.add(slot) if wanted else slots.discard(slot)
        self.numbers.hold(slot, asks.stream)
        self.kinds[slot] = -1
        if asks.stream is None or asks.sampling is None:
            return False
        if asks.sampling not in self.samplings:
            self.samplings.append(asks.sampling)
        self.kinds[slot], self.starts[slot] = self.samplings.index(asks.sampling), asks.stream.start
        return True

    def apply(self, logits: torch.Tensor, context: Any) -> torch.Tensor:
        """``[n, V]``, changed in place."""
        slots = context.idx_mapping_np
        if len(slots) != len(logits):
            raise ValueError("pathprune draws one token of a request at a time: serve without speculative decoding")
        kinds = self.kinds[slots]
        for kind in np.unique(kinds[kinds >= 0]):
            rows = np.flatnonzero(kinds == kind)
            which = slots[rows]
            # Of a prompt that is not wholly read yet a token is drawn, too, and dropped.
            drawn = np.maximum(context.seq_lens_upper_bound_np[rows] - self.prompt_length.np[which], 0)
            uniform = self.numbers.take(which, self.starts[which] + drawn)
            every = len(rows) == len(logits)
            indices = None if every else torch.from_numpy(rows).to(self.device, non_blocking=True)
            decide(logits, indices, uniform, self.samplings[kind], self.base)
        return logits


class Draw(*interfaces()):  # type: ignore[misc]
    """Draws for requests that name their stream; all others are left to vLLM."""

    def __init__(self, vllm_config: Any, given: Any, pinned: bool | None = None) -> None:
        config = vllm_config.model_config.hf_config
        layout = IdLayout.of(config) if hasattr(config, "pathprune") else None
        base = layout.base if layout else config.get_text_config().vocab_size
        if vllm_config.speculative_config is not None:
            raise ValueError("pathprune draws one token of a request at a time: serve without speculative decoding")
        slots = vllm_config.scheduler_config.max_num_seqs
        # By slots vLLM hands over its requests' buffers, by rows a device.
        self.follows = BySlot(base, layout, given) if pinned is None else ByRow(base, layout, slots, given)
        asked.FOLLOWED.add(self.follows)

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse a request whose stream is none, before it runs."""
        Asked.of(sampling_params, None)

    def is_argmax_invariant(self) -> bool:
        """No: it decides the maximum."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """See ``ByRow``."""
        assert isinstance(self.follows, ByRow)
        self.follows.update_state(batch_update)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """See ``BySlot``."""
        assert isinstance(self.follows, BySlot)
        return self.follows.add_request(req_idx, sampling_params)

    def apply_staged_writes(self) -> None:
        """Nothing is staged: numbers are copied where they are first used."""

    def apply(self, logits: torch.Tensor, *context: Any) -> torch.Tensor:
        """See ``ByRow`` and ``BySlot``."""
        return self.follows.apply(logits, *context)


def forget() -> None:
    """No request is running in this process: nothing is wanted until one comes."""
    for requests in asked.FOLLOWED:
        if isinstance(requests, BySlot):
            requests.forget()
