"""The paths of one decode: what each has drawn, and which row of the batch computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from harness.api import Path, Sampling
from harness.engines.sampling import STATS, as_stats, choose, statistics
from harness.rng import uniforms

PENDING = 8 << 20  # bytes of logits whose statistics are computed together
COMPACT = 1 / 16  # finished rows are dropped from a batch once they are this share of it


class Decoding:
    """``places`` ``[p]`` are the running paths (indices into ``given``), ``rows`` ``[p]`` their batch rows."""

    def __init__(
        self, paths: list[Path], rows: torch.Tensor, max_tokens: int, sampling: Sampling, ends: torch.Tensor
    ) -> None:
        self.given, self.rows, self.step = paths, rows, 0
        self.sampling, self.ends = sampling, ends
        device, starts = rows.device, [len(p.tokens) for p in paths]
        self.room = torch.tensor([max_tokens - s for s in starts], device=device)
        longest = int(self.room.max())
        streams = [
            uniforms(p.seed, p.problem.id, p.index, s, s + longest) if sampling.temperature else np.zeros(longest)
            for p, s in zip(paths, starts, strict=True)
        ]
        self.uniform = torch.tensor(np.stack(streams), device=device)
        self.tokens = torch.zeros(len(paths), longest, dtype=torch.long, device=device)
        self.stats = torch.zeros(len(paths), longest, len(STATS), dtype=torch.float16, device=device)
        self.counts = torch.zeros(len(paths), dtype=torch.long, device=device)
        self.stopped = torch.zeros(len(paths), dtype=torch.bool, device=device)
        self.places = torch.arange(len(paths), device=device)
        self.pending: list[tuple[torch.Tensor, ...]] = []
        self.thinned = False  # has a path ended since the batch was last compacted?

    def draw(self, logits: torch.Tensor) -> torch.Tensor:
        """Draw a token for every running path from its row's logits; which of the running paths ended with it."""
        own = logits[self.rows]
        self.drawn = choose(own, self.uniform[self.places, self.step], self.sampling)
        self.tokens[self.places, self.step] = self.drawn
        self.pending.append((self.places, torch.full_like(self.places, self.step), own, self.drawn))
        if len(self.pending) * own.nbytes > PENDING:
            self.flush()
        self.step += 1
        self.counts[self.places] = self.step
        stop = torch.isin(self.drawn, self.ends)
        self.stopped[self.places[stop]] = True
        return (stop | (self.room[self.places] == self.step)).nonzero().squeeze(-1)

    def flush(self) -> None:
        """Statistics of the steps drawn since the last flush, in one go: their many small operations are shared."""
        if not self.pending:
            return
        places, steps, logits, drawn = (torch.cat(column) for column in zip(*self.pending, strict=True))
        self.stats[places, steps] = statistics(logits, drawn)
        self.pending.clear()

    def contents(self, ended: torch.Tensor) -> list[object]:
        """Store keys of paths that have just ended."""
        given = [(place, self.given[place]) for place in self.places[ended].tolist()]
        return [
            (path.problem.prompt, path.tokens + tuple(self.tokens[place, : self.step].tolist()))
            for place, path in given
        ]

    def retire(self, ended: torch.Tensor) -> None:
        if len(ended):
            running = torch.ones_like(self.places, dtype=torch.bool)
            running[ended] = False
            self.thinned = True
            self.places, self.rows, self.drawn = self.places[running], self.rows[running], self.drawn[running]

    def compact(self, batch: int) -> torch.Tensor | None:
        """Batch rows to keep once COMPACT of them compute nothing that is wanted; None to leave the batch alone."""
        if not self.thinned:
            return None
        alive = self.rows.unique()
        if batch - len(alive) < max(1, COMPACT * batch):
            return None
        self.rows, self.thinned = torch.searchsorted(alive, self.rows), False
        return alive

    def diverge(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows to append a clone of, next token of every row ``[batch + clones]``).

        The first of a row's distinct tokens stays in the row, every other one moves to a clone.
        """
        vocabulary = int(self.drawn.max()) + 1
        pairs, member = torch.unique(self.rows * vocabulary + self.drawn, return_inverse=True)
        parents, tokens = pairs // vocabulary, pairs % vocabulary
        again = torch.zeros_like(parents, dtype=torch.bool)
        again[1:] = parents[1:] == parents[:-1]
        clones = int(again.sum())
        target = parents.clone()
        target[again] = torch.arange(batch, batch + clones, device=target.device)
        self.rows = target[member]
        fed = tokens.new_zeros(batch + clones)
        fed[target] = tokens
        return parents[again], fed

    def paths(self, decode: Callable[[Sequence[int]], str]) -> list[Path]:
        """Every given path with what it has drawn."""
        self.flush()
        tokens, counts = self.tokens.cpu().numpy(), self.counts.tolist()
        stats, stopped = self.stats.cpu().numpy(), self.stopped.tolist()
        out = []
        for i, path in enumerate(self.given):
            new = tuple(tokens[i, : counts[i]].tolist())
            drawn = as_stats(stats[i, : counts[i]])
            whole = path.tokens + new
            out.append(
                replace(
                    path,
                    tokens=whole,
                    text=decode(whole),
                    stats=path.stats.join(drawn) if path.stats else drawn,
                    finish="stop" if stopped[i] else "length",
                )
            )
        return out
