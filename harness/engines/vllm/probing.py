"""Engines with the vLLM plug-in: hidden states, [STOP] adapters and full token statistics in addition to ``served``."""

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

ATTEMPTS = 3  # of reading a state


class ProbingEngine(ServedEngine):
    """See ``harness.api.Probing``; all requests use the ids of ``layout``. A subclass implements ``ask`` and ``held``.

    For arguments see ``ServedEngine``.
    """

    provides: frozenset[Signal] = EVERYTHING - {"trace"}

    def __init__(
        self, where: str, spec: Mapping[str, Any], sampling: Sampling, revision: str | None, context: int | None, rows: int
    ) -> None:  # fmt: skip
        super().__init__(where, spec, sampling, revision, context, rows)
        self.layout = IdLayout(self.config.vocab_size, self.config.hidden_size)
        self.turns = count()  # rounds of Checks

    def held(self, folder: FilePath) -> SlotAdapter:
        """The adapter of a folder, in its slot of the served model.

        Raises:
            PathpruneError: if no slot holds it.
        """
        raise NotImplementedError

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> SlotAdapter:
        """A trained adapter. ``options`` are those of an untrained one, which only other engines support.

        Raises:
            PathpruneError: without a folder, or if the served model neither holds the adapter nor can load it.
        """
        if folder is None:
            raise PathpruneError(
                f"vLLM cannot train an adapter; train with {advice.option(engine='hf')}, then score with this engine"
            )
        return self.held(folder)

    def draw(self, path: Path, max_tokens: int) -> Request:
        """See ``ServedEngine``; also requests the statistics of every distribution, unless they are not needed."""
        request = super().draw(path, max_tokens)
        return request if request.bare else replace(request, logprob_ids=tuple(self.layout.statistic_ids))

    def statistics(self, reply: Reply) -> TokenStats | None:
        """Statistics over the full vocabulary, as computed by the model."""
        if "token_stats" not in self.provides:
            return None
        columns = reply.logprobs.copy()
        columns[:, 1:] -= OFFSET
        return as_stats(columns)

    def probe(self, paths: Sequence[Path], adapter: SlotAdapter | None = None) -> np.ndarray:
        """The state at each prefix's last token, or at the adapter's last [STOP] token, ``[n, 1, d]``.

        A state that vLLM did not compute correctly is requested again, finally without its cache. The cause is that a
        captured graph of a decode step does not support [STOP] ids, and vLLM treats a Check with one token left to
        compute as such a step.
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
        """The token ids that are read per path: its tokens with the last one as a reading id, or its tokens and a round
        of the adapter's."""
        prompts = [self.sequence(p) for p in paths]
        if adapter is None:
            return [(*ids[:-1], self.layout.state_id(ids[-1])) for ids in prompts]
        turns = self.turns
        return [ids + tuple(self.layout.stop_ids(adapter.slot, adapter.tokens, next(turns))) for ids in prompts]

    def _all_of(self, states: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """The states, checked to be complete."""
        known = [state for state in states if state is not None]
        if len(known) < len(states):
            raise PathpruneError(
                f"vLLM computed {len(states) - len(known)} of {len(states)} states without their adapter or as NaN, so they have "
                f"no score; run it without CUDA graphs: {advice.option(engine='vllm:eager=true')} (a server: --enforce-eager)"
            )
        return known
