"""A running ``vllm serve`` as an engine: launch, resume and score through its OpenAI-compatible completions API.

The server must serve a folder written by ``pathprune export``, with pathprune installed in its environment. Paths,
statistics and states then equal those of the engine in process, up to the precision of JSON.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from harness.api import PathpruneError, Sampling, UnavailableError
from harness.engines.options import AT_ONCE
from harness.engines.served.asking import Reply, Request
from harness.engines.served.client import KEY, HTTPClient
from harness.engines.served.completions import body_of, reply_of
from harness.engines.served.names import base_name, slots_of
from harness.engines.served.slots import SlotAdapter, digest
from harness.engines.served.turns import Turns
from harness.engines.vllm.ids import TOKENS
from harness.engines.vllm.probing import ProbingEngine

SERVE = "serve a folder written by `pathprune export` with the command that it prints"


class RemoteEngine(ProbingEngine):
    """See ``ProbingEngine``; uses the completions API of ``vllm serve``.

    Args:
        where: folder or hub id of the served model.
        spec: all settings that determine the engine's tokens.
        sampling: how tokens are sampled.
        url: the server's address, without /v1.
        revision: commit of a hub id.
        context: longest sequence in tokens; None for the limit of the model and the server.
        rows: maximum concurrent requests.
        timeout: seconds per request.
        key: bearer token, if the server needs one; by default the variable ``PATHPRUNE_API_KEY``.

    Raises:
        UnavailableError: if there is no server, or it has other weights or no plug-in.
    """

    def __init__(
        self, where: str, spec: Mapping[str, Any], sampling: Sampling, url: str, revision: str | None = None,
        context: int | None = None, rows: int = AT_ONCE["vllm-http"], timeout: float = 600.0, key: str = "",
    ) -> None:  # fmt: skip
        super().__init__(where, spec, sampling, revision, context, rows)
        self.client = HTTPClient(url, key or os.environ.get(KEY, ""), timeout, connections=rows, hint=SERVE)
        self.one_kind = Turns()  # shared by copies of the engine
        served = self.client.models()
        self.served_names = list(served)
        self.context = min([self.context, *filter(None, served.values())])
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
        """See ``ServedEngine``; up to ``rows`` requests run concurrently, and the server batches them.

        Within one batch, vLLM returns either the log-probabilities of chosen tokens or those of the most likely ones.
        Requests of different kinds are therefore sent one kind at a time.
        """
        with self.one_kind.of("top" if any(r.top for r in requests) else "chosen"):
            return self.client.each(self._complete, requests)

    def _complete(self, request: Request) -> Reply:
        completion = self.client.post("/v1/completions", self._body(request))
        with self.client.reading("/v1/completions"):
            reply = reply_of(request, completion)
            # A reading may end in any id that the served model declares. A sampled token may not.
            known = self.layout.base if request.stream else self.layout.vocabulary
            if any(not 0 <= token < known for token in reply.tokens):
                raise ValueError("a token that the model does not have")
        return reply

    def _body(self, request: Request) -> dict[str, Any]:
        body = body_of(request, self.model_name, self.ends)
        return body | ({"vllm_xargs": {"pathprune": list(request.stream)}} if request.stream else {})
