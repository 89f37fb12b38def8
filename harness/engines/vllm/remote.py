"""A running ``vllm serve`` as an engine: launch, resume and score through its OpenAI-compatible completions API.

The server has to serve a folder that ``pathprune export`` wrote, with pathprune installed beside its vLLM: then paths,
statistics and states are those of the engine in process, to the last figure that JSON carries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import PathpruneError, Sampling, UnavailableError
from harness.engines.served.asking import Reply, Request, finish_of
from harness.engines.served.client import HTTPClient
from harness.engines.served.names import base_name, slots_of
from harness.engines.served.slots import SlotAdapter, digest
from harness.engines.vllm.ids import TOKENS
from harness.engines.vllm.probing import ProbingEngine

KEY = "PATHPRUNE_API_KEY"  # of the environment: an option would stand in the shell's history
SERVE = "serve a folder written by `pathprune export` with the command that it prints"


class RemoteEngine(ProbingEngine):
    """See ``ProbingEngine``, over the completions API of ``vllm serve``.

    Args:
        where: folder or hub id of the model that is served.
        spec: everything that decides the engine's tokens.
        sampling: how tokens are drawn.
        url: the server's address, without /v1.
        revision: commit of a hub id.
        context: longest sequence in tokens; None for the model's and the server's own limit.
        rows: requests in flight at once.
        timeout: seconds for each of them.
        key: bearer token, if the server asks for one; by default the environment's ``PATHPRUNE_API_KEY``.

    Raises:
        UnavailableError: if there is no server, or one of other weights or without the plug-in.
    """

    def __init__(
        self, where: str, spec: Mapping[str, Any], sampling: Sampling, url: str, revision: str | None = None,
        context: int | None = None, rows: int = 64, timeout: float = 600.0, key: str = "",
    ) -> None:  # fmt: skip
        super().__init__(where, spec, sampling, revision, context, rows)
        self.client = HTTPClient(url, key or os.environ.get(KEY, ""), timeout, connections=rows, hint=SERVE)
        models = self.client.get("/v1/models")
        with self.client.reading("/v1/models"):
            limits = [int(model["max_model_len"]) for model in models["data"] if model.get("max_model_len")]
            self.served_names = [str(model["id"]) for model in models["data"]]
        self.context = min([self.context, *limits])
        self.model_name = base_name(self.fingerprint)
        if self.model_name not in self.served_names:
            raise UnavailableError(
                f"the server at {self.client.url} serves {', '.join(self.served_names) or 'nothing'}, not "
                f"{self.model_name}: it has other weights, or it lacks pathprune's plugin; {SERVE}"
            )

    def held(self, folder: FilePath) -> SlotAdapter:
        """See ``ProbingEngine``; a server holds the adapters that were exported with its model."""
        slot = slots_of(self.served_names).get(digest(folder))
        if slot is None:
            raise PathpruneError(f"the server at {self.client.url} does not hold the adapter in {folder}; {SERVE}")
        return SlotAdapter.read(folder, slot, self.where, self.layout.hidden, TOKENS)

    def describe(self) -> dict[str, str]:
        """Address and version of the server, for a record."""
        version = self.client.get("/version")
        with self.client.reading("/version"):
            return {"device": f"server {self.client.url}", "vllm": str(version["version"])}

    def ask(self, requests: Sequence[Request]) -> list[Reply]:
        """See ``ServedEngine``; ``rows`` requests are in flight at once, and the server batches them."""
        with ThreadPoolExecutor(self.client.connections) as pool:
            return list(pool.map(self._complete, requests))

    def _complete(self, request: Request) -> Reply:
        completion = self.client.post("/v1/completions", self._body(request))
        with self.client.reading("/v1/completions"):
            reply = _reply(request, completion)
            # A reading may end in any of the ids that the served model claims to have; a drawn token may not.
            known = self.layout.base if request.stream else self.layout.vocabulary
            if any(not 0 <= token < known for token in reply.tokens):
                raise ValueError("a token that the model does not have")
        return reply

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model_name, "prompt": list(request.prompt), "max_tokens": request.max_tokens, "temperature": 0.0,
            "ignore_eos": True, "stop_token_ids": self.ends if request.stop_at_end else [], "return_token_ids": True,
            "return_tokens_as_token_ids": True, "logprobs": None if request.bare else request.top or 1,
        }  # fmt: skip
        # What the server has cached has no salt.
        body |= {"cache_salt": os.urandom(16).hex()} if request.fresh else {}
        body |= {"logprob_token_ids": list(request.logprob_ids)} if request.logprob_ids else {}
        return body | ({"vllm_xargs": {"pathprune": list(request.stream)}} if request.stream else {})


def _reply(request: Request, completion: Mapping[str, Any]) -> Reply:
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
