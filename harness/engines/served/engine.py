"""The Engine contract over a single method, ``ask``: any server that continues token ids can sample, resume and judge paths."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.api import Engine, Heads, Path, Problem, Sampling, Signal, TokenStats
from harness.engines import loading
from harness.engines.heads import heads_of
from harness.engines.prompts import Prompts, end_tokens
from harness.engines.served.asking import PromptCounters, Reply, Request, StreamKey
from harness.engines.served.statistics import from_logprobs

QUEUED = 4  # paths handed over for each one that the server runs at once, so that it never waits for the next


class ServedEngine(Prompts, Engine):
    """See ``harness.api.Engine``. A subclass has ``ask``, for a server that continues token ids.

    Launch and resume give one uninterrupted sample if the server samples position t of a path with the uniform number that
    ``Request.stream`` determines. Token statistics are computed from the ``top`` log-probabilities of every token. For a
    server that reports more, override ``draw`` and ``statistics``; for one without log-probabilities, leave "token_stats"
    out of ``provides``.

    Args:
        where: folder or hub id of the served model, for its tokenizer and configuration; no weights are loaded.
        spec: everything that decides the engine's tokens.
        sampling: how tokens are drawn.
        revision: commit of a hub id.
        context: longest sequence that the server takes, in tokens; None for the model's own limit.
        rows: paths that the server runs at once.

    Raises:
        UnavailableError: if tokenizer or configuration cannot be read.
    """

    provides: frozenset[Signal] = frozenset({"text", "token_stats", "forced"})
    top = 0  # how many of the most likely tokens the server reports at each position: see ``served.statistics``

    def __init__(
        self, where: str, spec: Mapping[str, Any], sampling: Sampling, revision: str | None, context: int | None, rows: int
    ) -> None:  # fmt: skip
        self.where, self.spec, self.sampling = where, spec, sampling
        self.rows = QUEUED * rows
        model, tokenizer = loading.skeleton(where, revision)
        self.config = model.config.get_text_config()
        longest = loading.context(self.config)
        super().__init__(tokenizer, min(context or longest, longest), spec)
        self.architecture: str = (model.config.architectures or [type(model).__name__])[0]
        self.flops = loading.flop_model(model)
        self.ends = end_tokens(model.generation_config, tokenizer, self.config.vocab_size, self.name)
        self.counters = PromptCounters()

    def ask(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply for each request, in their order. An error of any request is raised."""
        raise NotImplementedError

    def without(self, signals: frozenset[Signal]) -> ServedEngine:
        """See ``harness.api.Engine``: without token statistics, no log-probabilities are asked for."""
        if "token_stats" not in signals & self.provides:
            return self
        lean = copy.copy(self)  # of the same server, counters and adapters
        lean.provides = self.provides - {"token_stats"}
        return lean

    def draw(self, path: Path, max_tokens: int) -> Request:
        """The request that continues a path to at most ``max_tokens`` generated tokens in all."""
        told = "token_stats" in self.provides
        return Request(
            self.sequence(path),
            max_tokens - len(path.tokens),
            StreamKey.of(path, self.sampling) if self.sampling.temperature else None,
            stop_at_end=True,
            top=self.top if told else 0,
            bare=not told,
        )

    def statistics(self, reply: Reply) -> TokenStats | None:
        """Statistics ``[T]`` of the tokens in a reply to ``draw``; those that its log-probabilities do not give are missing.

        None if the server reports no log-probabilities.
        """
        return from_logprobs(reply, self.config.vocab_size) if "token_stats" in self.provides else None

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        """See ``harness.api.Engine``: a launch resumes paths without tokens."""
        paths = self.resume([Path(problem, i, seed) for problem in problems for i in range(n)], max_tokens)
        return [paths[i : i + n] for i in range(0, len(paths), n)]

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        """See ``harness.api.Engine``. Paths that have ended, or are long enough, are returned without a request."""
        resumed = list(paths)
        unfinished = [i for i, p in enumerate(paths) if p.finish == "length" and len(p.tokens) < max_tokens]
        for i in unfinished:
            self.fits(paths[i], max_tokens)
        replies = self.ask_counted([self.draw(paths[i], max_tokens) for i in unfinished])
        for i, reply in zip(unfinished, replies, strict=True):
            resumed[i] = self._extended(paths[i], reply)
        return resumed

    def next_logprobs(self, paths: Sequence[Path], tokens: Sequence[int]) -> np.ndarray:
        """Log-probability of each of these tokens as the next one, in nats, float32 ``[n, len(tokens)]``."""
        for path in paths:
            self.fits(path, len(path.tokens) + 1)
        replies = self.ask_counted([Request(self.sequence(p), logprob_ids=tuple(tokens)) for p in paths])
        return np.stack([reply.logprobs[0, 1:] for reply in replies]).astype(np.float32)

    def share(self, problems: Sequence[Problem], known: Sequence[tuple[int, ...]] = ()) -> Heads:
        """See ``harness.api.Engine``: a server's prefix cache shares by itself what prompts begin with, up to a block of tokens."""
        return heads_of([self.ids(p.prompt) for p in problems], known)

    def ask_counted(self, requests: Sequence[Request]) -> list[Reply]:
        """``ask``, with the prompts added to ``counters``; without requests the server is not asked."""
        replies = self.ask(requests) if requests else []
        self.counters.prompted += sum(len(r.prompt) for r in requests)
        self.counters.cached += sum(r.cached for r in replies)
        return replies

    def _extended(self, path: Path, reply: Reply) -> Path:
        tokens = path.tokens + reply.tokens
        stats = self.statistics(reply)
        if path.tokens:  # unknown for some of the tokens is unknown for the path
            stats = path.stats.join(stats) if stats and path.stats else None
        return replace(path, tokens=tokens, text=self.decode(tokens), stats=stats, finish=reply.finish)
