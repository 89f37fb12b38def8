"""Sampling inside vLLM with the harness's random streams: one uniform number per (seed, problem, path, position).

vLLM restarts its seeded streams at every request, so a resumed path would differ from an uninterrupted one. Here
``harness.engines.sampling.choose`` selects the token, its logit is raised above all others, and vLLM takes the maximum.
The paths therefore equal those of the Hugging Face engine, as far as both compute the same logits.

vLLM has two interfaces for this: one by rows of the batch, and one by slots of requests, which its second model runner
uses. ``Draw`` implements both, and follows the one through which it is created.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.api import PathpruneError, Sampling, UnavailableError
from harness.engines.sampling import choose
from harness.engines.served.asking import StreamKey
from harness.engines.vllm import asked, records
from harness.engines.vllm.ids import IdLayout
from harness.engines.vllm.records import Places, Recorder, Wish
from harness.rng import uniforms

ARGUMENT = "pathprune"  # key in SamplingParams.extra_args; its value is a StreamKey as a list
BLOCK = 512  # uniform numbers computed at a time
ABOVE = torch.finfo(torch.float32).max  # the logit of the sampled token
NOWHERE = Places(*np.empty((3, 0), dtype=np.int64))
ROWS, SLOTS = "vllm.v1.sample.logits_processor.interface", "vllm.v1.worker.gpu.sample.logits_processor.interface"


def interfaces() -> tuple[type, ...]:
    """The base classes of logits processors in the installed vLLM.

    Raises:
        UnavailableError: if it has none that is supported.
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
    """What a request asks for, as read from its sampling parameters."""

    stream: StreamKey | None  # random stream that samples its tokens; None if vLLM samples them
    statistics: bool = False  # returned among the log-probabilities
    state: bool = False
    wish: Wish | None = None  # recorded in addition

    @classmethod
    def of(cls, params: Any, layout: IdLayout | None) -> Asked:
        """Read vLLM's ``SamplingParams``.

        Raises:
            ValueError: if the stream or the record is invalid.
        """
        extra = params.extra_args or {}
        stream, wish = _stream(extra.get(ARGUMENT)), Wish.of(extra.get(records.ARGUMENT))
        if layout is None:
            return cls(stream, wish=wish)
        statistics = set(params.logprob_token_ids or ()).intersection(layout.statistic_ids)
        state = params.logprobs == layout.hidden + 1 or (wish is not None and wish.kind == "state")
        return cls(stream, bool(statistics), state, wish)

    def serial(self, kind: str) -> int:
        """The number under which this kind of record is kept; -1 if it is not recorded."""
        return self.wish.serial if self.wish and self.wish.kind == kind else -1

    @property
    def sampling(self) -> Sampling | None:
        """The filters applied before sampling."""
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
    """The next uniform numbers of the running requests, a block of positions per slot, on the device of the logits.

    ``harness.rng`` computes them on the host, bit for bit as for every other engine. They are copied to the device once
    per ``BLOCK`` tokens.
    """

    def __init__(self, slots: int, device: torch.device) -> None:
        self.device = device
        self.numbers = torch.zeros(slots, BLOCK, dtype=torch.float64, device=device)
        self.keys: list[StreamKey | None] = [None] * slots
        self.blocks = np.full(slots, -1)  # the block of positions in each slot

    def hold(self, slot: int, key: StreamKey | None) -> None:
        """Assign a slot to a stream."""
        if self.keys[slot] is not key:
            self.keys[slot], self.blocks[slot] = key, -1

    def take(self, slots: np.ndarray, positions: np.ndarray) -> torch.Tensor:
        """The numbers of the slots' streams at these positions of their paths, float64 ``[n]``."""
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
) -> torch.Tensor:
    """Sample a token for each of ``rows`` and raise its logit above all others, in place.

    Args:
        logits: ``[n, V]``.
        rows: int64 ``[m]``; None for all rows.
        uniform: float64 ``[m]``, in [0, 1).
        sampling: filters applied before sampling.
        base: number of ordinary token ids.

    Returns:
        The tokens, int64 ``[m]``.
    """
    of_rows = logits[:, :base] if rows is None else logits[rows, :base]
    tokens = choose(of_rows, uniform, sampling)
    if rows is None:
        logits.scatter_(1, tokens.unsqueeze(-1), ABOVE)
    else:
        logits[rows, tokens] = ABOVE
    return tokens


@dataclass
class Group:
    """Rows of a forward pass that are sampled in the same way."""

    sampling: Sampling
    rows: np.ndarray
    slots: np.ndarray  # slots of their streams in ``Uniforms``
    positions: np.ndarray  # positions of the new tokens within their paths
    indices: torch.Tensor | None = None  # ``rows`` on the device of the logits, if already copied


class Follower:
    """The common part of both interfaces: a pass over rows of logits.

    Args:
        base: number of ordinary token ids.
        layout: ids of an extended model; None for any other model.
        slots: maximum concurrent requests in vLLM.
        device: device of the logits.
    """

    def __init__(self, base: int, layout: IdLayout | None, slots: int, device: torch.device) -> None:
        self.base, self.layout, self.device = base, layout, device
        self.numbers = Uniforms(slots, device)
        self.recorder = Recorder(base, layout.hidden if layout else 0, device)

    def draw(self, logits: torch.Tensor, groups: Sequence[Group], told: Places, read: Places) -> torch.Tensor:
        """Sample for all groups, in place.

        Args:
            logits: ``[n, V]``.
            groups: rows to sample.
            told: rows whose statistics are recorded.
            read: rows whose hidden states are recorded.
        """
        self.recorder.read(read, logits)
        distributions = self.recorder.before(told, logits)
        every: torch.Tensor | None = None if distributions is None else self._maxima(logits, told, groups)
        for group in groups:
            uniform = self.numbers.take(group.slots, group.positions)
            if len(group.rows) == len(logits):
                every = decide(logits, None, uniform, group.sampling, self.base)
                continue
            indices = self._moved(group.rows) if group.indices is None else group.indices
            tokens = decide(logits, indices, uniform, group.sampling, self.base)
            if every is not None:
                every[indices] = tokens
        if distributions is not None and every is not None:
            self.recorder.drawn(told, distributions, every)
        return logits

    def _maxima(self, logits: torch.Tensor, told: Places, groups: Sequence[Group]) -> torch.Tensor:
        """The token that vLLM takes in each row that is not sampled here, ``[n]``."""
        ours = np.zeros(len(logits), dtype=bool)
        for group in groups:
            ours[group.rows] = True
        if ours[told.rows].all():
            return torch.zeros(len(logits), dtype=torch.long, device=self.device)
        return logits[:, : self.base].argmax(-1)

    def _moved(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(rows).to(self.device, non_blocking=True)


class ByRow(Follower):
    """The interface by rows; see vLLM's ``v1.sample.logits_processor.interface``."""

    def __init__(self, base: int, layout: IdLayout | None, slots: int, device: torch.device) -> None:
        super().__init__(base, layout, slots, device)
        self.requests: dict[int, tuple[Asked, list[int]]] = {}  # by row, with vLLM's growing list of output tokens
        self.statistics = self.states = False
        self._arrange()

    def update_state(self, batch_update: Any) -> None:
        """Follow vLLM's requests as they start, move between rows, and end."""
        from vllm.v1.sample.logits_processor.builtin import process_dict_updates

        if process_dict_updates(self.requests, batch_update, self._request):
            self._arrange()

    def _request(self, params: Any, prompt: Any, drawn: list[int]) -> tuple[Asked, list[int]] | None:
        asks = Asked.of(params, self.layout)
        return (asks, drawn) if asks != Asked(None) else None

    def _arrange(self) -> None:
        self.rows = np.array(sorted(self.requests), dtype=np.int64)
        every = [self.requests[row][0] for row in self.rows.tolist()]
        self.outputs = [self.requests[row][1] for row in self.rows.tolist()]
        self.statistics, self.states = any(a.statistics for a in every), any(a.state for a in every)
        self.starts = np.array([asks.stream.start if asks.stream else 0 for asks in every], dtype=np.int64)
        self.told, self.read = (np.array([a.serial(k) for a in every], dtype=np.int64) for k in ("statistics", "state"))
        by_sampling: dict[Sampling, list[int]] = {}
        for i, asks in enumerate(every):
            if asks.sampling:
                self.numbers.hold(int(self.rows[i]), asks.stream)
                by_sampling.setdefault(asks.sampling, []).append(i)
        self.alike = [
            (sampling, np.array(members), torch.tensor(self.rows[members], device=self.device))
            for sampling, members in by_sampling.items()
        ]

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Sample in ``[n, V]``, in place."""
        if not self.requests:
            return logits
        drawn = np.array([len(tokens) for tokens in self.outputs], dtype=np.int64)
        groups = [
            Group(sampling, self.rows[i], self.rows[i], self.starts[i] + drawn[i], rows)
            for sampling, i, rows in self.alike
        ]
        told, read = np.flatnonzero(self.told >= 0), np.flatnonzero((self.read >= 0) & (drawn == 0))
        places = (Places(self.rows[i], of[i], drawn[i]) for i, of in ((told, self.told), (read, self.read)))
        return self.draw(logits, groups, *places)


class BySlot(Follower):
    """The interface by slots; see vLLM's ``v1.worker.gpu.sample.logits_processor.interface``."""

    def __init__(self, base: int, layout: IdLayout | None, states: Any) -> None:
        super().__init__(base, layout, states.max_num_reqs, states.device)
        # By slot. vLLM replaces their arrays at every step.
        self.prompt_length, self.given_length = states.prompt_len, states.prefill_len
        self.starts = np.zeros(states.max_num_reqs, dtype=np.int64)
        self.samplings: list[Sampling] = []
        self.kinds = np.full(states.max_num_reqs, -1)  # index into ``samplings`` by slot; -1: vLLM samples
        self.told, self.read = np.full((2, states.max_num_reqs), -1, dtype=np.int64)  # record numbers by slot
        # vLLM does not report the end of a request. Its slot counts until another request takes it, or until ``forget``.
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
        """Forget all requests, because none is running."""
        self.with_statistics.clear()
        self.with_states.clear()

    def add_request(self, slot: int, params: Any) -> bool:
        """Assign a slot to a new request. Returns whether its tokens are sampled or recorded here."""
        asks = Asked.of(params, self.layout)
        for slots, wanted in ((self.with_statistics, asks.statistics), (self.with_states, asks.state)):
            slots.add(slot) if wanted else slots.discard(slot)
        self.numbers.hold(slot, asks.stream)
        self.told[slot], self.read[slot] = asks.serial("statistics"), asks.serial("state")
        self.kinds[slot] = -1
        if asks.stream is None or asks.sampling is None:
            return asks.wish is not None
        if asks.sampling not in self.samplings:
            self.samplings.append(asks.sampling)
        self.kinds[slot], self.starts[slot] = self.samplings.index(asks.sampling), asks.stream.start
        return True

    def apply(self, logits: torch.Tensor, context: Any) -> torch.Tensor:
        """Sample in ``[n, V]``, in place."""
        slots, lengths = context.idx_mapping_np, context.seq_lens_upper_bound_np[: len(logits)]
        if len(slots) != len(logits):
            raise ValueError("pathprune draws one token of a request at a time: serve without speculative decoding")
        # vLLM also samples a token, and drops it, for a prompt that is not read completely.
        drawn = np.maximum(lengths - self.prompt_length.np[slots], 0)
        kinds, groups = self.kinds[slots], []
        for kind in np.unique(kinds[kinds >= 0]):
            rows = np.flatnonzero(kinds == kind)
            groups.append(Group(self.samplings[kind], rows, slots[rows], self.starts[slots[rows]] + drawn[rows]))
        told, read = self.told[slots], self.read[slots]
        if (told < 0).all() and (read < 0).all():
            return self.draw(logits, groups, NOWHERE, NOWHERE)
        whole = lengths >= self.given_length.np[slots]  # a preempted request reads its output again, in parts
        where = np.flatnonzero((told >= 0) & whole), np.flatnonzero((read >= 0) & whole & (drawn == 0))
        places = (Places(rows, of[rows], drawn[rows]) for rows, of in zip(where, (told, read), strict=True))
        return self.draw(logits, groups, *places)


class Draw(*interfaces()):  # type: ignore[misc]
    """Samples tokens for requests that name a stream, and leaves all others to vLLM."""

    def __init__(self, vllm_config: Any, given: Any, pinned: bool | None = None) -> None:
        config = vllm_config.model_config.hf_config
        layout = IdLayout.of(config) if hasattr(config, "pathprune") else None
        base = layout.base if layout else config.get_text_config().vocab_size
        if vllm_config.speculative_config is not None:
            raise ValueError("pathprune draws one token of a request at a time: serve without speculative decoding")
        slots = vllm_config.scheduler_config.max_num_seqs
        # The interface by slots passes the requests' buffers, the one by rows a device.
        self.follows = BySlot(base, layout, given) if pinned is None else ByRow(base, layout, slots, given)
        asked.FOLLOWED.add(self.follows)

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse a request with an invalid stream before it runs."""
        Asked.of(sampling_params, None)

    def is_argmax_invariant(self) -> bool:
        """False, because sampling changes the maximum."""
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
        """No operation: numbers are copied when they are first used."""

    def apply(self, logits: torch.Tensor, *context: Any) -> torch.Tensor:
        """See ``ByRow`` and ``BySlot``."""
        return self.follows.apply(logits, *context)


def forget() -> None:
    """Forget all requests in this process, because none is running."""
    for requests in asked.FOLLOWED:
        if isinstance(requests, BySlot):
            requests.forget()


def recorders() -> list[Recorder]:
    """The recorders of this process."""
    return [requests.recorder for requests in asked.FOLLOWED if isinstance(requests, Follower)]
