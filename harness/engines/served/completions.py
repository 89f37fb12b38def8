"""The completions API as vLLM speaks it, token ids in and out; and any such server as an engine, without a plug-in of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.api import Sampling, UnavailableError
from harness.engines.options import AT_ONCE
from harness.engines.sampling import TOP_CONFIDENCE
from harness.engines.served.asking import Reply, Request, finish_of
from harness.engines.served.client import KEY, HTTPClient
from harness.engines.served.engine import ServedEngine
from harness.rng import derive

HINT = "use vllm serve 0.10 or later, which returns token ids"


class CompletionsEngine(ServedEngine):
    """See ``ServedEngine``. The server draws from random numbers of its own, seeded by path and place.

    A path that was interrupted goes on with another seed than one that was not, so paths depend on where they are cut. What is
    asked twice is drawn twice alike, as far as the server keeps its seeds.

    Args:
        where: folder or hub id of the model that is served.
        spec: everything that decides the engine's tokens.
        sampling: how tokens are drawn.
        url: the server's address, without /v1.
        revision: commit of a hub id.
        context: longest sequence in tokens; None for the model's and the server's own limit.
        rows: requests in flight at once.
        timeout: seconds for each of them.
        key: bearer token; by default the environment's ``PATHPRUNE_API_KEY``.

    Raises:
        UnavailableError: if there is no server, or it serves nothing.
    """

    top = TOP_CONFIDENCE

    def __init__(
        self, where: str, spec: Mapping[str, Any], sampling: Sampling, url: str, revision: str | None = None,
        context: int | None = None, rows: int = AT_ONCE["completions"], timeout: float = 600.0, key: str = "",
    ) -> None:  # fmt: skip
        super().__init__(where, spec, sampling, revision, context, rows)
        self.client = HTTPClient(url, key or os.environ.get(KEY, ""), timeout, connections=rows, hint=HINT)
        served = self.client.models()
        if not served:
            raise UnavailableError(f"the server at {self.client.url} serves nothing; {HINT}")
        self.model_name, limit = next(iter(served.items()))
        self.context = min(self.context, limit or self.context)

    def ask(self, requests: Sequence[Request]) -> list[Reply]:
        """See ``ServedEngine``; ``rows`` requests are in flight at once, and the server batches them."""
        return self.client.each(self._complete, requests)

    def describe(self) -> dict[str, str]:
        """Address of the server, for a record."""
        return {"device": f"server {self.client.url}"}

    def _complete(self, request: Request) -> Reply:
        body = body_of(request, self.model_name, self.ends) | _drawn(request)
        completion = self.client.post("/v1/completions", body)
        with self.client.reading("/v1/completions"):
            reply = reply_of(request, completion)
            if any(not 0 <= token < self.config.vocab_size for token in reply.tokens):
                raise ValueError("a token that the model does not have")
        return reply


def _drawn(request: Request) -> dict[str, Any]:
    """How a request's tokens are drawn, in the server's own words."""
    stream = request.stream
    if stream is None:
        return {}
    seed = derive(stream.seed, stream.problem, stream.path, stream.start) >> 1  # of 63 bits
    return {"temperature": stream.temperature, "top_p": stream.top_p, "top_k": stream.top_k or -1, "seed": seed}


def body_of(request: Request, model: str, ends: Sequence[int]) -> dict[str, Any]:
    """A greedy request, as JSON."""
    body: dict[str, Any] = {
        "model": model, "prompt": list(request.prompt), "max_tokens": request.max_tokens, "temperature": 0.0,
        "ignore_eos": True, "stop_token_ids": list(ends) if request.stop_at_end else [], "return_token_ids": True,
        "return_tokens_as_token_ids": True, "logprobs": None if request.bare else request.top or 1,
    }  # fmt: skip
    # What the server has cached has no salt.
    body |= {"cache_salt": os.urandom(16).hex()} if request.fresh else {}
    return body | ({"logprob_token_ids": list(request.logprob_ids)} if request.logprob_ids else {})


def reply_of(request: Request, completion: Mapping[str, Any]) -> Reply:
    """The reply in a completion; raises what is no such JSON raises."""
    choice, usage = completion["choices"][0], completion.get("usage") or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    tokens, finish = tuple(choice["token_ids"]), finish_of(choice["finish_reason"])
    if request.bare:
        return Reply(tokens, finish, np.empty((len(tokens), 0)), cached=cached)
    # With return_tokens_as_token_ids, a token's name is "token_id:<id>".
    by_id = [{int(k.rpartition(":")[2]): v for k, v in top.items()} for top in choice["logprobs"]["top_logprobs"]]
    drawn = choice["logprobs"]["token_logprobs"]
    rows = [[logprob, *(top[i] for i in request.logprob_ids)] for logprob, top in zip(drawn, by_id, strict=True)]
    top = [(list(entries), list(entries.values())) for entries in by_id] if request.top else []
    return Reply(tokens, finish, np.array(rows, dtype=float), top, cached)
