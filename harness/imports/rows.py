"""The common form of every file format: problems with their paths, each with the data in its file and nothing more.

A field that a file lacks is None. No reader fills in a number, since zeros would make plausible but false rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np


@dataclass(frozen=True)
class Probe:
    """A forced answer: the path's answer when forced to conclude after ``position`` generated tokens."""

    position: int
    answer: str | None
    correct: bool | None = None
    confidence: float | None = None
    text: str | None = None


@dataclass(frozen=True, eq=False)
class ImportedPath:
    """One path as recorded in its file.

    Args:
        text: generated text, without the prompt.
        tokens: generated token ids, ``[T]``.
        length: number of generated tokens T, if known without the ids.
        given: start and end of each tool output among ``tokens``, which then hold it besides the T generated ones; so do ``ends``.
        answer: the answer recorded in the file; "" if none was found in the text.
        correct: the grade recorded in the file.
        finish: "stop" if the model ended the path, "length" if a limit cut it.
        statistics: arrays ``[T]`` by name in ``harness.api.STATISTICS``, in nats.
        pieces: the text of each token, ``[T]``, if the file has it.
        probes: forced answers, by ascending position.
        rewards: scores by reward model: one number for the path, or one per step.
        ends: end offset in ``text`` of each token, in characters, ``[T]``, if the file has it.
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
        id: the problem's id in the file, or None.
        prompt: the text of the prompt; for a chat, the user's turns.
        golds: answers that count as right; empty if the file has none.
        where: file and row for messages, such as ``samples.jsonl, line 7``.
        prompt_tokens: number of prompt tokens as the model read it, if the file has it.
    """

    id: str | None
    prompt: str | None
    golds: tuple[str, ...]
    paths: Sequence[ImportedPath]
    where: str
    prompt_tokens: int | None = None


class Readable(Protocol):
    """The problems of some files, and facts on the files that are known after iterating."""

    @property
    def about(self) -> Mapping[str, Any]:
        """Metadata of our own export; {} for any other file."""

    @property
    def shape(self) -> str:
        """The name of the row format."""

    @property
    def mapping(self) -> Mapping[str, str]:
        """The field that each target was read from."""

    @property
    def sources(self) -> Sequence[Mapping[str, Any]]:
        """Each file with its SHA-256 and its number of rows."""

    @property
    def skipped(self) -> Sequence[str]:
        """One line per skipped row."""

    def __iter__(self) -> Iterator[ImportedProblem]: ...
