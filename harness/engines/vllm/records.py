"""Statistics and states of the requests of an engine in this process, kept beside vLLM's log-probabilities.

vLLM handles log-probabilities in Python, token by token and entry by entry; a server has no other way. Here a request carries a
number, ``Recorder`` keeps what it asks for under that number where its tokens are drawn, and ``Records`` finds it after the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from harness.api import STATISTICS
from harness.engines.pending import Pending

ARGUMENT = "pathprune_record"  # of SamplingParams.extra_args: a Wish as a list


class Wish(NamedTuple):
    """What a request wants to be recorded, and the number to keep it under."""

    kind: Literal["statistics", "state"]
    serial: int

    @classmethod
    def of(cls, entry: Any) -> Wish | None:
        """From a request's extra arguments.

        Raises:
            ValueError: for what is none.
        """
        if entry is None:
            return None
        match entry:
            case [("statistics" | "state") as kind, int(serial)] if 0 <= serial < 1 << 62:
                return cls(kind, serial)
        raise ValueError(f"{ARGUMENT} is not a kind of record and a number: {entry!r}"[:200])


@dataclass(frozen=True)
class Places:
    """Which rows of a pass are recorded: where they are, for which requests, and how many tokens each had drawn before."""

    rows: np.ndarray
    serials: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


class Recorder:
    """Keeps rows where the logits are. It is closed until ``begin``: a server's clients cannot fill its memory.

    Args:
        base: how many of the ids are tokens.
        hidden: width of the model; 0 if its rows carry no states.
        device: where the logits are.
    """

    def __init__(self, base: int, hidden: int, device: torch.device) -> None:
        self.base, self.hidden, self.device = base, hidden, device
        self.open = False
        self.pending: Pending[Places] = Pending(device)
        self.statistics: list[tuple[Places, torch.Tensor]] = []
        self.states: list[tuple[Places, torch.Tensor]] = []

    def begin(self) -> None:
        """From here on requests are recorded; what earlier ones left is dropped."""
        self.clear()
        self.open = True

    def clear(self) -> None:
        """Drop everything."""
        self.pending.clear()
        self.statistics, self.states = [], []

    def read(self, places: Places, logits: torch.Tensor) -> None:
        """Keep the states that these rows of ``logits`` ``[n, V]`` carry (``ids``)."""
        if self.open and self.hidden and len(places) and logits.shape[1] > self.hidden:
            self.states.append((places, self._copy(logits[:, : self.hidden + 1], places)))

    def before(self, places: Places, logits: torch.Tensor) -> torch.Tensor | None:
        """A copy of these rows' distributions, before anything is drawn; None if there is nothing to record."""
        return self._copy(logits[:, : self.base], places) if self.open and len(places) else None

    def drawn(self, places: Places, distributions: torch.Tensor, tokens: torch.Tensor) -> None:
        """Keep the statistics of ``tokens`` ``[n]``, those of all rows of the pass, where ``places`` says so."""
        self.pending.add(places, distributions, self._copy(tokens, places))
        if self.pending.full:
            self._flush()

    def take(self) -> dict[str, bytes]:
        """Everything since ``begin``, for ``Records``: in types that any channel of vLLM carries. The recorder is closed then."""
        self._flush()
        taken = _packed("statistics", self.statistics) | _packed("states", self.states)
        self.clear()
        self.open = False
        return taken

    def _flush(self) -> None:
        steps, columns = self.pending.compute()
        if columns is not None:
            self.statistics.append((_joined(steps), columns))

    def _copy(self, values: torch.Tensor, places: Places) -> torch.Tensor:
        """The rows of ``values`` that are recorded; all of them need no copy of their indices."""
        if np.array_equal(places.rows, np.arange(len(values))):
            return values.clone()
        return values[torch.from_numpy(places.rows.astype(np.int64)).to(self.device, non_blocking=True)]


def _joined(places: Iterable[Places]) -> Places:
    columns = zip(*((p.rows, p.serials, p.positions) for p in places), strict=True)
    return Places(*(np.concatenate(column) for column in columns))


def _packed(name: str, kept: list[tuple[Places, torch.Tensor]]) -> dict[str, bytes]:
    if not kept:
        return {}
    places, values = _joined(p for p, _ in kept), torch.cat([v for _, v in kept]).cpu().numpy()
    owners = np.stack([places.serials, places.positions], axis=1).astype(np.int64)
    return {f"{name} of": owners.tobytes(), name: values.tobytes()}


class Records:
    """What was recorded of a run, by request.

    Args:
        taken: what ``Recorder.take`` returned, of each recorder of a process.
        hidden: width of the model.
    """

    def __init__(self, taken: Sequence[dict[str, bytes]], hidden: int) -> None:
        self._statistics = Rows.of(taken, "statistics", np.dtype(np.float16), len(STATISTICS))
        self._states = Rows.of(taken, "states", np.dtype(np.float32), hidden + 1)

    def statistics(self, serial: int, tokens: int) -> np.ndarray:
        """float16 ``[tokens, len(STATISTICS)]`` of a request's tokens; of one drawn beyond them nothing is left."""
        return self._statistics.first(serial, tokens)

    def state(self, serial: int) -> np.ndarray:
        """float32 ``[hidden + 1]``, the row that carries a request's state (``ids.IdLayout.state``)."""
        row: np.ndarray = self._states.first(serial, 1)[0]
        if row[-1] != 0:
            raise RuntimeError("vLLM drew a token where a state was to be read")
        return row


@dataclass(frozen=True)
class Rows:
    """Recorded rows in the order of their requests and positions, one of each."""

    serials: np.ndarray
    positions: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, taken: Sequence[dict[str, bytes]], name: str, dtype: np.dtype[Any], width: int) -> Rows:
        """Of a position that was drawn twice, as a request's is that vLLM threw out and ran again, the last row counts."""
        owners = b"".join(t.get(f"{name} of", b"") for t in taken)
        serials, positions = np.frombuffer(owners, dtype=np.int64).reshape(-1, 2).T
        values = np.frombuffer(b"".join(t.get(name, b"") for t in taken), dtype=dtype).reshape(-1, width)
        order = np.lexsort((positions, serials))  # a stable sort: equal places stay in the order of their passes
        ordered = np.stack([serials[order], positions[order]])
        last = np.append((ordered[:, 1:] != ordered[:, :-1]).any(0), True)[: len(order)]
        return cls(ordered[0, last], ordered[1, last], values[order[last]])

    def first(self, serial: int, count: int) -> np.ndarray:
        """The rows of a request's first ``count`` positions.

        Raises:
            RuntimeError: if any of them is missing.
        """
        start = int(np.searchsorted(self.serials, serial))
        of_request = slice(start, min(start + count, int(np.searchsorted(self.serials, serial, "right"))))
        if not np.array_equal(self.positions[of_request], np.arange(count)):
            raise RuntimeError(f"vLLM drew {count} tokens of a request, of which not all were recorded")
        return self.values[of_request]
