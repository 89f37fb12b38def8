"""Training inputs of a learned pruner: an adapter's states over prefixes whose KV is computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from harness.api import Path


class PrefixReader:
    """For training: calling it with indices ``[b]`` returns the adapter's states on those prefixes, float32 ``[b, T_s, d]``.

    Gradients flow into the adapter but not into the KV of the prefixes. A prefix of another prefix shares its KV, so several
    lengths L cost as much as the longest. The KV is computed once and kept if it ``fits``, else per batch in every epoch.
    ``seconds`` is the time spent on computing it.

    Args:
        encode: computes the KV of paths, one row each, in the engine's format; kept for the next training.
        encode_batch: the same for a batch that is not kept.
        paths: the prefixes.
        lengths: ``[len(paths)]`` tokens of each prefix, its prompt included.
        states: the adapter's states over the first ``lengths`` ``[b]`` tokens of rows ``[b]`` of such KV.
        fits: whether the KV of a number of rows of a number of tokens can be kept.
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
        """States of the tokens appended to the prefixes at ``indices`` ``[b]``, float32 ``[b, T_s, d]``."""
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
    """The paths that are not a prefix of another one, and for every path the index of the one whose prefix it is, ``[n]``."""
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
