"""A seeded engine without weights that mimics a language model in microseconds.

A path is a random walk over 20 words. Its length and answer are functions of its own tokens, so prefixes carry information
about success. The contract of a real engine (launch + resume = one sample) holds for the same reason: token t depends on
the problem, the earlier tokens and one uniform number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from harness import advice
from harness.api import Engine, FlopModel, Path, PathpruneError, Problem, Sampling, Signal, TokenStats
from harness.engines import EVERYTHING
from harness.engines.options import TOY, hold
from harness.rng import derive, uniforms

WORDS = 20
ANSWER, END = 20, 31  # tokens 21..30 are the answers 0..9
HIDDEN = 8
BLOCK = 64  # positions whose numbers are drawn at once


def truth(prompt: str) -> int:
    """The answer 0..9 of a toy problem, computed from the prompt."""
    return derive("toy", prompt) % 10


class ToyEngine(Engine):
    """See ``harness.api.Probing``.

    Args:
        model: a name, for the spec only.
        sampling: for the spec only.
        skill: in [0, 1], shifts the share of right paths.
        spread: range of path lengths, in tokens.

    Raises:
        PathpruneError: an unknown option, or a value out of range.
    """

    provides: frozenset[Signal] = EVERYTHING
    rows = 1024
    flops = FlopModel(100.0, 1.0)

    def __init__(
        self, model: str = "toy", sampling: Sampling | None = None, skill: float = 0.5, spread: int = 24, **options: Any
    ) -> None:
        hold("toy", {"skill": skill, "spread": spread, **options}, TOY)
        self.skill, self.spread = float(skill), spread
        self.spec: Mapping[str, Any] = {
            "engine": "toy",
            "model": model,
            "fingerprint": f"toy-{self.skill}-{self.spread}",
            "dtype": "float64",
            "sampling": asdict(sampling or Sampling()),
        }
        self.generated = 0

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        """See ``harness.api.Engine``."""
        return [self.resume([Path(p, i, seed) for i in range(n)], max_tokens) for p in problems]

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        """See ``harness.api.Engine``."""
        return [self._continue(p, max_tokens) for p in paths]

    def probe(self, paths: Sequence[Path], adapter: Any = None) -> np.ndarray:
        """Frequencies of token classes so far, float32 ``[n, 1, HIDDEN]``."""
        if adapter is not None:
            raise PathpruneError(
                f"engine toy has no weights, so it cannot use an adapter; use {advice.option(engine='hf')}"
            )
        return np.stack([self._state(p.tokens) for p in paths])[:, None, :]

    def new_adapter(self, folder: Any = None, **options: Any) -> Any:
        """Refuse: there are no weights to adapt."""
        raise PathpruneError(
            f"engine toy has no weights, so no adapter can be trained on it; use {advice.option(engine='hf')}"
        )

    def decode(self, tokens: Sequence[int]) -> str:
        """Words w0, w1, ..., "answer" and digits, with spaces between them."""
        words = {ANSWER: "answer", END: "", **{ANSWER + 1 + d: str(d) for d in range(10)}}
        return " ".join(words.get(t, f"w{t}") for t in tokens).strip()

    def trace(
        self, paths: Sequence[Path], reduce: Callable[[np.ndarray, Path], np.ndarray], before: int = 0
    ) -> list[np.ndarray]:
        """See ``harness.api.Probing``. Two layers: the state after each token, and its square."""
        states = [
            np.stack([self._state(p.tokens[: max(0, t)]) for t in range(1 - before, len(p.tokens) + 1)]) for p in paths
        ]
        return [reduce(np.stack([s, s**2]), p) for s, p in zip(states, paths, strict=True)]

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text in the vocabulary of ``decode``."""
        numbers = {"answer": ANSWER, **{str(d): ANSWER + 1 + d for d in range(10)}}
        return tuple(numbers[w] if w in numbers else int(w.lstrip("w")) for w in text.split())

    def prompt_length(self, problem: Problem) -> int:
        """Number of words of the prompt."""
        return len(problem.prompt.split())

    def describe(self) -> dict[str, str]:
        """Device and versions, for a record."""
        return {"device": "none"}

    def _continue(self, path: Path, max_tokens: int) -> Path:
        start = len(path.tokens)
        if path.finish == "stop" or start >= max_tokens:
            return path
        tokens, draws = list(path.tokens), []
        for u in _drawn(path, max_tokens):
            draws.append(u)
            tokens.append(self._next(path.problem, tokens, u))
            if tokens[-1] == END:
                break
        self.generated += len(draws)
        drawn = _stats(np.array(draws))
        return replace(
            path,
            tokens=tuple(tokens),
            text=self.decode(tokens),
            stats=path.stats.join(drawn) if path.stats else drawn,
            finish="stop" if tokens[-1] == END else "length",
        )

    def _next(self, problem: Problem, tokens: list[int], u: float) -> int:
        if tokens and tokens[-1] == ANSWER:
            low_words = np.mean([t < WORDS / 2 for t in tokens[:-1]])
            right = low_words + 0.3 * (u - 0.5) > 1 - self.skill
            return ANSWER + 1 + (truth(problem.prompt) if right else int(u * 1000) % 10)
        if tokens and tokens[-1] > ANSWER:
            return END
        length = 6 + derive(problem.id, *tokens[:2]) % self.spread if len(tokens) >= 2 else 99
        return ANSWER if len(tokens) >= length else int(u * WORDS)

    def _state(self, tokens: Sequence[int]) -> np.ndarray:
        counts = np.bincount([t % HIDDEN for t in tokens], minlength=HIDDEN).astype(np.float32)
        return counts / max(1, len(tokens))


def _drawn(path: Path, max_tokens: int) -> Iterator[float]:
    """The uniform numbers of a path's next positions, generated in blocks."""
    for start in range(len(path.tokens), max_tokens, BLOCK):
        yield from uniforms(path.seed, path.problem.id, path.index, start, min(max_tokens, start + BLOCK)).tolist()


def _stats(draws: np.ndarray) -> TokenStats:
    u = np.clip(draws, 1e-3, 1 - 1e-3)
    half = [np.log(u), -np.log(1 - u), u * (1 - u), u**2, np.abs(1 - 2 * u), u * (1 - u) / 2]
    return TokenStats(*(column.astype(np.float16) for column in half))
