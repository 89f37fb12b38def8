"""Statistics and states of requests to an engine in this process, recorded outside vLLM's log-probabilities.

vLLM handles log-probabilities in Python, one token and one entry at a time. A server has no alternative. Within this
process, a request carries a number, ``Recorder`` keeps its data under that number when a token is sampled, and
``Records`` finds them after the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from harness.api import STATISTICS
from harness.engines.pending import Pending

ARGUMENT = "pathprune_record"  # key in SamplingParams.extra_args; its value is a Wish as a list


class Wish(NamedTuple):
    """What is recorded for a request, and the number of its record."""

    kind: Literal["statistics", "state"]
    serial: int

    @classmethod
    def of(cls, entry: Any) -> Wish | None:
        """Read a request's extra arguments.

        Raises:
            ValueError: if the entry is invalid.
        """
        if entry is None:
            return None
        match entry:
            case [("statistics" | "state") as kind, int(serial)] if 0 <= serial < 1 << 62:
                return cls(kind, serial)
        raise ValueError(f"{ARGUMENT} is not a kind of record and a number: {entry!r}"[:200])


@dataclass(frozen=True)
class Places:
    """The recorded rows of a pass: their positions, their requests, and the number of tokens each request had sampled
    before."""

    rows: np.ndarray
    serials: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


class Recorder:
    """Keeps rows on the device of the logits. It is closed until ``begin``, so the clients of a server cannot fill its
    memory.

    Args:
        base: number of ordinary token ids.
        hidden: width of the model; 0 if its rows carry no states.
        device: device of the logits.
    """

    def __init__(self, base: int, hidden: int, device: torch.device) -> None:
        self.base, self.hidden, self.device = base, hidden, device
        self.open = False
        self.pending: Pending[Places] = Pending(device)
        self.statistics: list[tuple[Places, torch.Tensor]] = []
        self.states: list[tuple[Places, torch.Tensor]] = []

    def begin(self) -> None:
        """Start recording, and drop the data of earlier requests."""
        self.clear()
        self.open = True

    def clear(self) -> None:
        """Drop all data."""
        self.pending.clear()
        self.statistics, self.states = [], []

    def read(self, places: Places, logits: torch.Tensor) -> None:
        """Keep the states in these rows of ``logits`` ``[n, V]`` (see ``ids``)."""
        if self.open and self.hidden and len(places) and logits.shape[1] > self.hidden:
            self.states.append((places, self._copy(logits[:, : self.hidden + 1], places)))

    def before(self, places: Places, logits: torch.Tensor) -> torch.Tensor | None:
        """A copy of these rows' distributions before sampling; None if there is nothing to record."""
        return self._copy(logits[:, : self.base], places) if self.open and len(places) else None

    def drawn(self, places: Places, distributions: torch.Tensor, tokens: torch.Tensor) -> None:
        """Keep the statistics of the sampled ``tokens`` ``[n]`` of a pass, at the rows in ``places``."""
        self.pending.add(places, distributions, self._copy(tokens, places))
        if self.pending.full:
            self._flush()

    def take(self) -> dict[str, bytes]:
        """All data since ``begin``, for ``Records``, in types that every channel of vLLM can carry. This closes the
        recorder."""
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
        """The recorded rows of ``values``. If all rows are recorded, no indices are copied."""
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
    """The records of a run, by request.

    Args:
        taken: results of ``Recorder.take``, one per recorder of a process.
        hidden: width of the model.
    """

    def __init__(self, taken: Sequence[dict[str, bytes]], hidden: int) -> None:
        self._statistics = Rows.of(taken, "statistics", np.dtype(np.float16), len(STATISTICS))
        self._states = Rows.of(taken, "states", np.dtype(np.float32), hidden + 1)

    def statistics(self, serial: int, tokens: int) -> np.ndarray:
        """Statistics of the first ``tokens`` tokens of a request, float16 ``[tokens, len(STATISTICS)]``."""
        return self._statistics.first(serial, tokens)

    def state(self, serial: int) -> np.ndarray:
        """The row that carries a request's state, float32 ``[hidden + 1]`` (``ids.IdLayout.state``)."""
        row: np.ndarray = self._states.first(serial, 1)[0]
        if row[-1] != 0:
            raise RuntimeError("vLLM drew a token where a state was to be read")
        return row


@dataclass(frozen=True)
class Rows:
    """Recorded rows sorted by request and position, without duplicates."""

    serials: np.ndarray
    positions: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, taken: Sequence[dict[str, bytes]], name: str, dtype: np.dtype[Any], width: int) -> Rows:
        """Sort the rows. If a position was sampled twice, because vLLM preempted the request, the last row counts."""
        owners = b"".join(t.get(f"{name} of", b"") for t in taken)
        serials, positions = np.frombuffer(owners, dtype=np.int64).reshape(-1, 2).T
        values = np.frombuffer(b"".join(t.get(name, b"") for t in taken), dtype=dtype).reshape(-1, width)
        order = np.lexsort((positions, serials))  # stable: equal positions stay in the order of their passes
        ordered = np.stack([serials[order], positions[order]])
        last = np.append((ordered[:, 1:] != ordered[:, :-1]).any(0), True)[: len(order)]
        return cls(ordered[0, last], ordered[1, last], values[order[last]])

    def first(self, serial: int, count: int) -> np.ndarray:
        """The rows of a request's first ``count`` positions.

        Raises:
            RuntimeError: if a row is missing.
        """
        start = int(np.searchsorted(self.serials, serial))
        of_request = slice(start, min(start + count, int(np.searchsorted(self.serials, serial, "right"))))
        if not np.array_equal(self.positions[of_request], np.arange(count)):
            raise RuntimeError(f"vLLM drew {count} tokens of a request, of which not all were recorded")
        return self.values[of_request]
