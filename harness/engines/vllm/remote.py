"""A running ``vllm serve`` as an engine: launch, resume and score through its OpenAI-compatible completions API.

The server has to serve a folder that ``pathprune export`` wrote, with pathprune installed beside its vLLM: then paths,
statistics and states are those of the engine in process, to the last figure that JSON carries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from harness.api import PathpruneError, Sampling, Signal, UnavailableError
from harness.engines import EVERYTHING
from harness.engines.served.asking import Answer, Asking, Request, finish_of, trains_nothing
from harness.engines.served.names import base_name, slots_of
from harness.engines.served.slots import SlotAdapter, digest, inspect

RETRIES = Retry(total=6, backoff_factor=0.5, status_forcelist=(429, 502, 503, 504), allowed_methods=None)
SERVE = "serve a folder written by `pathprune export` with the command that it prints"


class RemoteEngine(Asking):
    """``url`` without /v1; ``timeout`` in seconds per request; ``rows`` requests are in flight at once."""

    provides: frozenset[Signal] = EVERYTHING - {"trace"}

    def __init__(
        self, where: str, spec: Mapping[str, Any], sampling: Sampling, url: str, revision: str | None = None,
        context: int | None = None, rows: int = 64, timeout: float = 600.0, key: str = "",
    ) -> None:  # fmt: skip
        super().__init__(where, spec, sampling, revision, context, rows)
        self.at_once = rows
        self.url, self.timeout = url.rstrip("/"), timeout
        self.session = requests.Session()
        self.session.headers.update({"Authorization": f"Bearer {key}"} if key else {})
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=RETRIES, pool_maxsize=rows))
        served = self._call("GET", "/v1/models", None)["data"]
        self.names = [entry["id"] for entry in served]
        self.context = min([self.context, *(e["max_model_len"] for e in served if e.get("max_model_len"))])
        self._same_base()

    def _same_base(self) -> None:
        """Refuse a server of other weights, or one that does not know our ids."""
        wanted = base_name(self.fingerprint)
        if wanted not in self.names:
            shown = ", ".join(self.names) or "nothing"
            raise UnavailableError(
                f"the server at {self.url} serves {shown}, not {wanted}: its weights are others, or it lacks pathprune's plugin; {SERVE}"
            )
        self.name = wanted

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> SlotAdapter:
        if folder is None:
            raise trains_nothing()
        slot = slots_of(self.names).get(digest(folder))
        if slot is None:
            raise PathpruneError(f"the server at {self.url} does not hold the adapter in {folder}; {SERVE}")
        return SlotAdapter(slot, *inspect(folder, self.reads.hidden, self.where))

    def describe(self) -> dict[str, str]:
        return {"device": f"server {self.url}", "vllm": str(self._call("GET", "/version", None)["version"])}

    def ask(self, asked: Sequence[Request]) -> list[Answer]:
        with ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(self._one, asked))

    def _one(self, request: Request) -> Answer:
        body: dict[str, Any] = {
            "model": self.name, "prompt": list(request.ids), "max_tokens": request.tokens, "temperature": 0.0,
            "ignore_eos": True, "stop_token_ids": self.ends if request.ends else [], "return_token_ids": True,
            "return_tokens_as_token_ids": True, "logprobs": request.top or 1,
        }  # fmt: skip
        body |= {"logprob_token_ids": list(request.these)} if request.these else {}
        body |= {"vllm_xargs": {"pathprune": list(request.stream)}} if request.stream else {}
        reply = self._call("POST", "/v1/completions", body)
        choice, usage = reply["choices"][0], reply.get("usage") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        tops = [{int(k.rpartition(":")[2]): v for k, v in top.items()} for top in choice["logprobs"]["top_logprobs"]]
        drawn = choice["logprobs"]["token_logprobs"]
        rows = [[own, *(top[i] for i in request.these)] for own, top in zip(drawn, tops, strict=True)]
        finish = finish_of(choice["finish_reason"])
        # A state's row gives -9999, JSON's minus infinity, to every id that it does not use.
        first = {i: v for i, v in tops[0].items() if i <= self.reads.hidden} if request.top else {}
        return Answer(
            tuple(choice["token_ids"]), finish, np.array(rows, dtype=float), (list(first), list(first.values())), cached
        )

    def _call(self, method: str, path: str, body: Any) -> Any:
        try:
            reply = self.session.request(method, self.url + path, json=body, timeout=(10, self.timeout))
        except requests.RequestException as error:
            raise UnavailableError(
                f"no answer from the server at {self.url} ({type(error).__name__} after {RETRIES.total} retries); is it "
                "running, and is timeout= long enough?"
            ) from error
        if not reply.ok:
            reason = " ".join(reply.text.split())[:300]
            raise PathpruneError(f"the server at {self.url} refused {path} ({reply.status_code}: {reason}); {SERVE}")
        return reply.json()
