"""The paths of one decode: what each has drawn, and which row of the batch computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from harness.api import STATISTICS, Path, Sampling
from harness.engines.pending import Pending
from harness.engines.sampling import as_stats, choose
from harness.rng import uniforms

COMPACT = 1 / 16  # finished rows are dropped from a batch once they are this share of it


class Decoding:
    """Paths that are continued side by side; ``running`` ``[p]`` are those not ended yet, ``rows`` ``[p]`` their batch rows.

    Args:
        paths: what to continue; ``running`` holds indices into them.
        rows: ``[n]`` which row of the batch computes each path. Paths of equal content share one.
        max_tokens: generated tokens of a path in all, those that it comes with included.
        sampling: how tokens are drawn.
        ends: ids of the tokens that end a path.
        rests: ids of the tokens behind which a path draws no more for now.
    """

    def __init__(
        self,
        paths: list[Path],
        rows: torch.Tensor,
        max_tokens: int,
        sampling: Sampling,
        ends: torch.Tensor,
        rests: Sequence[int] = (),
    ) -> None:
        self.prefixes, self.rows, self.step = paths, rows, 0
        self.sampling, self.ends = sampling, ends
        self.rests = torch.tensor(rests, dtype=torch.long, device=rows.device)
        self.apart = False  # has every running path a row to itself?
        device, starts = rows.device, [len(p.tokens) for p in paths]
        self.room = torch.tensor([max_tokens - s for s in starts], device=device)  # tokens that each may still draw
        longest = int(self.room.max())
        streams = [
            uniforms(p.seed, p.problem.id, p.index, s, s + longest) if sampling.temperature else np.zeros(longest)
            for p, s in zip(paths, starts, strict=True)
        ]
        self.uniform = torch.tensor(np.stack(streams), device=device)
        self.tokens = torch.zeros(len(paths), longest, dtype=torch.long, device=device)
        self.stats = torch.zeros(len(paths), longest, len(STATISTICS), dtype=torch.float16, device=device)
        self.counts = torch.zeros(len(paths), dtype=torch.long, device=device)
        self.stopped = torch.zeros(len(paths), dtype=torch.bool, device=device)
        self.running = torch.arange(len(paths), device=device)
        self.pending: Pending[tuple[torch.Tensor, torch.Tensor]] = Pending(device)
        self.thinned = False  # has a path ended since the batch was last compacted?

    def draw(self, logits: torch.Tensor) -> torch.Tensor:
        """Draw a token for every running path.

        Args:
            logits: ``[batch rows, V]``.

        Returns:
            ``[e]``, positions in ``running`` of the paths that ended with it.
        """
        of_paths = logits[self.rows]
        self.drawn = choose(of_paths, self.uniform[self.running, self.step], self.sampling)
        self.tokens[self.running, self.step] = self.drawn
        self.pending.add((self.running, torch.full_like(self.running, self.step)), of_paths, self.drawn)
        if self.pending.full:
            self.flush()
        self.step += 1
        self.counts[self.running] = self.step
        stop = torch.isin(self.drawn, self.ends)
        self.stopped[self.running[stop]] = True
        ended = stop | (self.room[self.running] == self.step)
        if len(self.rests):
            ended |= torch.isin(self.drawn, self.rests)
        return ended.nonzero().squeeze(-1)

    def flush(self) -> None:
        """Compute the statistics of the steps drawn since the last flush."""
        keys, columns = self.pending.compute()
        if columns is not None:
            paths, steps = (torch.cat(column) for column in zip(*keys, strict=True))
            self.stats[paths, steps] = columns

    def contents(self, ended: torch.Tensor) -> list[tuple[str, tuple[int, ...]]]:
        """Keys in the prefix store of the paths at these positions in ``running``: prompt and all generated tokens."""
        keys: list[tuple[str, tuple[int, ...]]] = []
        for i in self.running[ended].tolist():
            drawn = tuple(self.tokens[i, : self.step].tolist())
            keys.append((self.prefixes[i].problem.prompt, self.prefixes[i].tokens + drawn))
        return keys

    def retire(self, ended: torch.Tensor) -> None:
        """Take the paths at these positions out of ``running``."""
        if len(ended):
            stays = torch.ones_like(self.running, dtype=torch.bool)
            stays[ended] = False
            self.thinned = True
            self.running, self.rows, self.drawn = self.running[stays], self.rows[stays], self.drawn[stays]

    def compact(self, batch_rows: int) -> torch.Tensor | None:
        """Which rows of the batch to keep, once COMPACT of them belong to no running path; None to keep all."""
        if not self.thinned:
            return None
        alive = self.rows.unique()
        if batch_rows - len(alive) < max(1, COMPACT * batch_rows):
            return None
        self.rows, self.thinned = torch.searchsorted(alive, self.rows), False
        return alive

    def diverge(self, batch_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Give every path whose token differs from its row's a row of its own.

        The first of a row's distinct tokens stays in the row, every other one moves to a clone.

        Returns:
            Rows to append a clone of, ``[clones]``, and the next token of every row, ``[batch_rows + clones]``.
        """
        if self.apart:
            next_tokens = self.drawn.new_zeros(batch_rows)
            next_tokens[self.rows] = self.drawn
            return self.rows[:0], next_tokens
        vocabulary = int(self.drawn.max()) + 1
        pairs, member = torch.unique(self.rows * vocabulary + self.drawn, return_inverse=True)
        self.apart = len(pairs) == len(self.drawn)
        parents, tokens = pairs // vocabulary, pairs % vocabulary
        repeated = torch.zeros_like(parents, dtype=torch.bool)
        repeated[1:] = parents[1:] == parents[:-1]
        clones = int(repeated.sum())
        target = parents.clone()
        target[repeated] = torch.arange(batch_rows, batch_rows + clones, device=target.device)
        self.rows = target[member]
        next_tokens = tokens.new_zeros(batch_rows + clones)
        next_tokens[target] = tokens
        return parents[repeated], next_tokens

    def paths(self, decode: Callable[[Sequence[int]], str]) -> list[Path]:
        """Every path with what it has drawn; ``decode`` is the tokenizer's, from tokens to text."""
        self.flush()
        tokens, counts = self.tokens.cpu().numpy(), self.counts.tolist()
        stats, stopped = self.stats.cpu().numpy(), self.stopped.tolist()
        continued = []
        for i, path in enumerate(self.prefixes):
            all_tokens = path.tokens + tuple(tokens[i, : counts[i]].tolist())
            drawn = as_stats(stats[i, : counts[i]])
            continued.append(
                replace(
                    path,
                    tokens=all_tokens,
                    text=decode(all_tokens),
                    stats=path.stats.join(drawn) if path.stats else drawn,
                    finish="stop" if stopped[i] else "length",
                )
            )
        return continued
