"""Engines with our vLLM plug-in: hidden states, [STOP] adapters and full token statistics in addition to ``served``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
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

ATTEMPTS = 3  # at a reading


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
        self.turns = count()  # of Checks

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
        """See ``ServedEngine``: the statistics of every distribution are asked for, too, unless nobody wants any."""
        request = super().draw(path, max_tokens)
        return request if request.bare else replace(request, logprob_ids=tuple(self.layout.statistic_ids))

    def statistics(self, reply: Reply) -> TokenStats | None:
        """Statistics over the full vocabulary, as the model computed them."""
        if "token_stats" not in self.provides:
            return None
        columns = reply.logprobs.copy()
        columns[:, 1:] -= OFFSET
        return as_stats(columns)

    def probe(self, paths: Sequence[Path], adapter: SlotAdapter | None = None) -> np.ndarray:
        """``[n, 1, d]``: the state at each prefix's last token, or at the adapter's last [STOP] token.

        One that vLLM did not compute as it should is asked for again, in the end without its cache: a captured graph of a decode
        step does not know [STOP] ids, and a Check of which one token is left to compute is such a step for vLLM.
        """
        prompts = self._readings(paths, adapter)
        for path, ids in zip(paths, prompts, strict=True):
            self.fits(path, len(ids) + 1 - self.prompt_length(path.problem))
        states: list[np.ndarray | None] = [None] * len(paths)
        for attempt in range(ATTEMPTS):
            missing = [i for i, state in enumerate(states) if state is None]
            prompts = self._readings([paths[i] for i in missing], adapter) if attempt else prompts
            requests = [Request(ids, top=self.layout.hidden + 1, fresh=attempt == ATTEMPTS - 1) for ids in prompts]
            for i, reply in zip(missing, self.ask_counted(requests), strict=True):
                states[i] = self.layout.state(*reply.top[0])
        return np.stack([state[None] for state in self._all_of(states)])

    def _readings(self, paths: Sequence[Path], adapter: SlotAdapter | None) -> list[tuple[int, ...]]:
        """What is read of each path: its tokens, the last as a reading id, or behind them a round of the adapter's."""
        prompts = [self.sequence(p) for p in paths]
        if adapter is None:
            return [(*ids[:-1], self.layout.state_id(ids[-1])) for ids in prompts]
        turns = self.turns
        return [ids + tuple(self.layout.stop_ids(adapter.slot, adapter.tokens, next(turns))) for ids in prompts]

    def _all_of(self, states: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """States of which none is missing."""
        known = [state for state in states if state is not None]
        if len(known) < len(states):
            raise PathpruneError(
                f"vLLM computed {len(states) - len(known)} of {len(states)} states without their adapter or as NaN, so they have "
                f"no score; run it without CUDA graphs: {advice.option(engine='vllm:eager=true')} (a server: --enforce-eager)"
            )
        return known
