"""What a learned pruner is trained on: an adapter's states over prefixes whose KV is computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from harness.api import Path


class PrefixReader:
    """For training: ``read(indices)`` gives the adapter's states over those prefixes, ``[b, T_s, d]`` float32.

    Gradients flow into the adapter and not into the prefixes' KV. A prefix of another one shares that one's KV, so that
    many L cost what the longest does. KV is computed once and held where it ``fits``, else by batch in every epoch.
    ``seconds`` is the time that KV took.

    Args:
        encode: the KV of paths, a row each, whatever the engine holds it as; kept for the next training.
        encode_batch: the same for a batch that is not kept.
        paths: the prefixes.
        lengths: ``[len(paths)]`` tokens of each, its prompt included.
        states: the adapter's states over the first ``lengths`` ``[b]`` tokens of rows ``[b]`` of such KV.
        fits: whether KV of so many rows of so many tokens can be held.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[Path]], Any],
        encode_batch: Callable[[Sequence[Path]], Any],
        paths: Sequence[Path],
        lengths: torch.Tensor,
        states: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor],
        fits: Callable[[int, int], bool],
    ) -> None:
        self.encode, self.paths, self.lengths, self.states = encode_batch, paths, lengths, states
        self.longest, self.rows = sharing(paths)
        self.seconds = 0.0
        self.held = self._timed(encode, self.longest) if fits(len(self.longest), int(lengths.max())) else None

    def __call__(self, indices: torch.Tensor) -> torch.Tensor:
        """States of the appended tokens behind the prefixes at ``indices`` ``[b]``, float32 ``[b, T_s, d]``."""
        held, rows = self.held, self.rows[indices]
        if held is None:
            needed = [self.paths[i] for i in indices.tolist()]
            held, rows = self._timed(self.encode, needed), torch.arange(len(indices))
        return self.states(held, rows, self.lengths[indices]).float().cpu()

    def _timed(self, encode: Callable[[Sequence[Path]], Any], paths: Sequence[Path]) -> Any:
        began = time.perf_counter()
        block = encode(paths)
        self.seconds += time.perf_counter() - began
        return block


def sharing(paths: Sequence[Path]) -> tuple[list[Path], torch.Tensor]:
    """The paths that are no prefix of another one, and for every path the index of the one it is a prefix of, ``[n]``."""
    order = sorted(range(len(paths)), key=lambda i: (paths[i].problem.prompt, paths[i].tokens), reverse=True)
    longest: list[Path] = []
    rows = torch.zeros(len(paths), dtype=torch.long)
    for i in order:
        path = paths[i]
        last = longest[-1] if longest else None
        if last is None or last.problem.prompt != path.problem.prompt or last.tokens[: len(path.tokens)] != path.tokens:
            longest.append(path)
        rows[i] = len(longest) - 1
    return longest, rows
