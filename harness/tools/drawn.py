"""Paths without tool output, for decision rules, which count sampled tokens only; the engine still reads the output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.api import Path, PathpruneError


def drawn_alone(path: Path) -> Path:
    """A path with sampled tokens only, because tool output is not spent tokens. Its text is unchanged."""
    if not path.given:
        return path
    return replace(path, tokens=_without_outputs(path), given=())


def _without_outputs(path: Path) -> tuple[int, ...]:
    if not isinstance(path.tokens, tuple):  # imported paths, which have their text
        imported: Any = path.tokens
        chosen: tuple[int, ...] = imported.chosen(_is_drawn(path))
        return chosen
    return tuple(t for t, drawn in zip(path.tokens, _is_drawn(path), strict=True) if drawn)


def _is_drawn(path: Path) -> np.ndarray:
    """Which tokens the model sampled, bool ``[T]``."""
    drawn = np.ones(len(path.tokens), dtype=bool)
    for start, stop in path.given:
        drawn[start:stop] = False
    return drawn


class Restoring:
    """A rule's view of an engine: it takes paths of sampled tokens and restores the tool output before the engine reads them.

    Hidden states are those at sampled tokens. Everything else is forwarded to the engine.

    Args:
        engine: reads and charges whole paths.
        paths: the paths that the rule decides on.
        decode: decodes token ids.
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
        """The whole texts, tool output included."""
        texts: list[str] = self._engine.force([self._restored(p) for p in paths], suffix, max_tokens)
        return texts

    def _restored(self, path: Path) -> Path:
        """The prefix of the whole path that has these sampled tokens."""
        known = self._whole.get(path.index)
        whole = None if known is None else known.cut(len(path.tokens), self._decode)
        if path.given or whole is None or _without_outputs(whole) != path.tokens:
            raise PathpruneError(
                f"the engine was asked about tokens that are no beginning of path {path.index} of {path.problem.id}, "
                "which has outputs of tools"
            )
        return replace(whole, finish=path.finish)
