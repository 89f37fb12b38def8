"""What a served model is asked, and what it replies: continue these token ids, and tell me these log-probabilities.

Tokens travel as ids in both directions; text is never tokenised again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from harness.api import Path, Sampling

Finish = Literal["stop", "length"]


class StreamKey(NamedTuple):
    """The random numbers that decide a request's tokens (``harness.rng.uniforms``), and the filters before them."""

    seed: int
    problem: str
    path: int  # index of the path
    start: int  # position within the path of the first token to draw
    temperature: float
    top_p: float
    top_k: int

    @classmethod
    def of(cls, path: Path, sampling: Sampling) -> StreamKey:
        """The stream that a path goes on with."""
        drawn = len(path.tokens)
        return cls(path.seed, path.problem.id, path.index, drawn, sampling.temperature, sampling.top_p, sampling.top_k)


@dataclass(frozen=True)
class Request:
    """Continue ``prompt`` by at most ``max_tokens`` tokens, and report log-probabilities at each of them.

    Besides that of the drawn token, either those of ``logprob_ids`` or those of the ``top`` most likely tokens.
    """

    prompt: tuple[int, ...]  # token ids, a path's own included
    max_tokens: int = 1
    stream: StreamKey | None = None  # None: greedy
    stop_at_end: bool = False  # does an end-of-sequence token end the reply?
    logprob_ids: tuple[int, ...] = ()
    top: int = 0
    bare: bool = False  # no log-probability at all, not that of the drawn token either
    fresh: bool = False  # compute all of the prompt, whatever is cached


@dataclass(frozen=True, eq=False)
class Reply:
    """The T tokens that continue a request's prompt. Log-probabilities are natural and at temperature 1."""

    tokens: tuple[int, ...]
    finish: Finish
    logprobs: (
        np.ndarray
    )  # [T, 1 + len(logprob_ids)]: of the drawn token, then of those asked for; [T, 0] of a bare request
    top: Sequence[tuple[Sequence[int], Sequence[float]]] = ()  # (ids, log-probabilities) for each of the T tokens
    cached: int = 0  # tokens of the prompt whose KV was in the server's cache


@dataclass
class PromptCounters:
    """Tokens of all prompts so far, and those of them whose KV was in the server's cache, by its own count."""

    prompted: int = 0
    cached: int = 0

    @property
    def computed(self) -> int:
        """Prompt tokens that the server had to compute."""
        return self.prompted - self.cached


def finish_of(reason: str | None) -> Finish:
    """``Path.finish`` from a server's ``finish_reason``: whatever is not the model's own end can be resumed."""
    return "stop" if reason == "stop" else "length"
