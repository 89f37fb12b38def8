"""Paths as decision rules count them, without what tools gave them, over an engine that reads it all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.api import Path, PathpruneError


def drawn_alone(path: Path) -> Path:
    """A path as a rule counts it: what a tool gave it is no token that is spent. Its text has it still."""
    if not path.given:
        return path
    return replace(path, tokens=_without_outputs(path), given=())


def _without_outputs(path: Path) -> tuple[int, ...]:
    if not isinstance(path.tokens, tuple):  # imported ones, which know their text
        imported: Any = path.tokens
        chosen: tuple[int, ...] = imported.chosen(_is_drawn(path))
        return chosen
    return tuple(t for t, drawn in zip(path.tokens, _is_drawn(path), strict=True) if drawn)


def _is_drawn(path: Path) -> np.ndarray:
    """Which of its tokens the model wrote, bool ``[T]``."""
    drawn = np.ones(len(path.tokens), dtype=bool)
    for start, stop in path.given:
        drawn[start:stop] = False
    return drawn


class Restoring:
    """What a rule may ask of an engine, where it sees drawn tokens alone: the model reads them with what tools gave between them.

    States are those at drawn tokens. All else is the engine's.

    Args:
        engine: reads, and charges, whole paths.
        paths: those that the rule decides on.
        decode: from token ids to a text.
    """

    def __init__(self, engine: Any, paths: Sequence[Path], decode: Callable[[Sequence[int]], str]) -> None:
        self._engine, self._decode = engine, decode
        self._whole = {p.index: p for p in paths}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def probe(self, paths: Sequence[Path], adapter: Any = None) -> np.ndarray:
        """See ``harness.api.Probing``."""
        states: np.ndarray = self._engine.probe([self._restored(p) for p in paths], adapter)
        return states

    def trace(
        self, paths: Sequence[Path], reduce: Callable[[np.ndarray, Path], np.ndarray], before: int = 0
    ) -> list[np.ndarray]:
        """See ``harness.api.Probing``."""
        seen = {p.index: p for p in paths}

        def at_drawn(states: np.ndarray, whole: Path) -> np.ndarray:
            chosen = np.concatenate([np.ones(before, dtype=bool), _is_drawn(whole)])
            return reduce(states[:, chosen], seen[whole.index])

        traced: list[np.ndarray] = self._engine.trace([self._restored(p) for p in paths], at_drawn, before)
        return traced

    def force(self, paths: Sequence[Path], suffix: str, max_tokens: int) -> list[str]:
        """The whole texts, what tools gave included."""
        texts: list[str] = self._engine.force([self._restored(p) for p in paths], suffix, max_tokens)
        return texts

    def _restored(self, path: Path) -> Path:
        """The beginning of the whole path that holds these drawn tokens."""
        known = self._whole.get(path.index)
        whole = None if known is None else known.cut(len(path.tokens), self._decode)
        if path.given or whole is None or _without_outputs(whole) != path.tokens:
            raise PathpruneError(
                f"the engine was asked about tokens that are no beginning of path {path.index} of {path.problem.id}, "
                "which has outputs of tools"
            )
        return replace(whole, finish=path.finish)
