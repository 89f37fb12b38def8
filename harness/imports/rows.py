"""What every shape of file is read into: problems with their paths, each with what its file says of it and nothing more.

A field that a file does not have is None. No reader puts a number in its place: zeros once made plausible rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np


@dataclass(frozen=True)
class Probe:
    """A forced answer: what the path would have answered after ``position`` generated tokens."""

    position: int
    answer: str | None
    correct: bool | None = None
    confidence: float | None = None
    text: str | None = None


@dataclass(frozen=True, eq=False)
class ImportedPath:
    """One path as its file tells it.

    Args:
        text: generated text, without the prompt.
        tokens: generated token ids, ``[T]``.
        length: generated tokens T, where it is known without their ids.
        given: start and end of each output of a tool among ``tokens``, which beside them hold T generated ones; so do ``ends``.
        answer: the answer that the file's owner read from it; "" where she read none.
        correct: her grade.
        finish: "stop" where the model ended the path itself, "length" where a limit cut it.
        statistics: arrays ``[T]`` by a name of ``harness.api.STATISTICS``, in nats.
        pieces: the text of each token, ``[T]``, where the file has them.
        probes: forced answers, by ascending position.
        rewards: scores of reward models by name: one number for the path, or one for each step.
        ends: characters of ``text`` after each token, ``[T]``, where the file has them.
    """

    text: str | None = None
    tokens: Sequence[int] | np.ndarray | None = None
    length: int | None = None
    answer: str | None = None
    correct: bool | None = None
    finish: Literal["stop", "length"] | None = None
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    pieces: Sequence[str] | None = None
    probes: Sequence[Probe] = ()
    rewards: Mapping[str, float | Sequence[float]] = field(default_factory=dict)
    ends: Sequence[int] | np.ndarray | None = None
    given: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class ImportedProblem:
    """A problem and all of its paths, in the order of the file.

    Args:
        id: the file's own name of it, or None where it has none.
        prompt: what the model was asked, as text; of a chat, the user's turns.
        golds: answers that count as right; none where the file states none.
        where: file and row for messages, such as ``samples.jsonl, line 7``.
        prompt_tokens: tokens of the prompt as the model read it, where the file counts them.
    """

    id: str | None
    prompt: str | None
    golds: tuple[str, ...]
    paths: Sequence[ImportedPath]
    where: str
    prompt_tokens: int | None = None


class Readable(Protocol):
    """The problems of some files, and what is known of the files when they were gone through."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What our own export says of its paths; {} of any other file."""

    @property
    def shape(self) -> str:
        """The name of the rows' shape."""

    @property
    def mapping(self) -> Mapping[str, str]:
        """What was read from which field."""

    @property
    def sources(self) -> Sequence[Mapping[str, Any]]:
        """Each file with its SHA-256 and its rows."""

    @property
    def skipped(self) -> Sequence[str]:
        """What was left out, a line for each row."""

    def __iter__(self) -> Iterator[ImportedProblem]: ...
