"""What a server with our plug-in adds to any served engine: hidden states, [STOP] adapters, full token statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness import advice
from harness.api import Path, PathpruneError, Sampling, Signal, TokenStats
from harness.engines import EVERYTHING
from harness.engines.sampling import as_stats
from harness.engines.served.asking import Reply, Request
from harness.engines.served.engine import ServedEngine
from harness.engines.served.slots import SlotAdapter
from harness.engines.vllm.ids import OFFSET, IdLayout


class ProbingEngine(ServedEngine):
    """See ``harness.api.Probing``; everything is asked for by the ids of ``layout``. A subclass has ``ask`` and ``held``.

    For arguments see ``ServedEngine``.
    """

    provides: frozenset[Signal] = EVERYTHING - {"trace"}

    def __init__(
        self, where: str, spec: Mapping[str, Any], sampling: Sampling, revision: str | None, context: int | None, rows: int
    ) -> None:  # fmt: skip
        super().__init__(where, spec, sampling, revision, context, rows)
        self.layout = IdLayout(self.config.vocab_size, self.config.hidden_size)

    def held(self, folder: FilePath) -> SlotAdapter:
        """The adapter of a folder, in the slot of the served model that holds it; refused if none does."""
        raise NotImplementedError

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> SlotAdapter:
        """A trained adapter. ``options`` are those of a new one, which can only be trained elsewhere.

        Raises:
            PathpruneError: without a folder, or if the served model does not hold and cannot load it.
        """
        if folder is None:
            raise PathpruneError(
                f"vLLM cannot train an adapter; train with {advice.option(engine='hf')}, then score with this engine"
            )
        return self.held(folder)

    def draw(self, path: Path, max_tokens: int) -> Request:
        """See ``ServedEngine``: the statistics of every distribution are asked for, too."""
        return replace(super().draw(path, max_tokens), logprob_ids=tuple(self.layout.statistic_ids))

    def statistics(self, reply: Reply) -> TokenStats:
        """Statistics over the full vocabulary, as the model computed them."""
        columns = reply.logprobs.copy()
        columns[:, 1:] -= OFFSET
        return as_stats(columns)

    def probe(self, paths: Sequence[Path], adapter: SlotAdapter | None = None) -> np.ndarray:
        """``[n, 1, d]``: the state at each prefix's last token, or at the adapter's last [STOP] token."""
        prompts = [self.sequence(p) for p in paths]
        if adapter is None:
            prompts = [(*ids[:-1], self.layout.state_id(ids[-1])) for ids in prompts]
        else:
            stop_ids = tuple(self.layout.stop_ids(adapter.slot, adapter.tokens))
            prompts = [ids + stop_ids for ids in prompts]
        for path, ids in zip(paths, prompts, strict=True):
            self.fits(path, len(ids) + 1 - self.prompt_length(path.problem))
        replies = self.ask_counted([Request(ids, top=self.layout.hidden + 1) for ids in prompts])
        return np.stack([self.layout.state(*reply.top[0])[None] for reply in replies])
