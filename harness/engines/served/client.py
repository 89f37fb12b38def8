"""A JSON-over-HTTP client: pooled connections, retries, an API key, and one-line errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from copy import copy
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.utils import get_auth_from_url
from urllib3.util import Retry

from harness.api import PathpruneError, UnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")
RETRIES = Retry(total=6, backoff_factor=0.5, status_forcelist=(429, 502, 503, 504), allowed_methods=None)
KEY = "PATHPRUNE_API_KEY"  # an environment variable, because an option would appear in the shell's history
CONNECT = 10  # seconds
SHOWN = 300  # characters of a server's own words in an error


class RefusedError(PathpruneError):
    """A server's refusal, with its HTTP ``status``."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class NoReplyError(UnavailableError):
    """A server cannot be reached or does not reply."""


class HTTPClient:
    """Requests to one server. Methods may be called from several threads at once.

    Args:
        url: the server's address, without the path (and so without /v1). ``user:password@`` in it is sent, and never shown.
        key: sent as a bearer token; empty for a server that asks for none.
        timeout: seconds to wait for a reply.
        connections: how many requests are in flight at once.
        hint: ends the error of a refused request: what the user can do about it.
    """

    def __init__(
        self, url: str, key: str = "", timeout: float = 600.0, connections: int = 64, hint: str = "look into its log"
    ) -> None:
        self.url, self.timeout, self.connections, self.hint = _shown(url), timeout, connections, hint
        self.key, login = key, get_auth_from_url(url)
        self.session = requests.Session()
        self.session.auth = login if any(login) and not key else None
        self.retrying(RETRIES)
        self.pool: ThreadPoolExecutor | None = None

    def with_key(self, key: str) -> HTTPClient:
        """A client with another key, over the same connections."""
        other = copy(self)
        other.key = key
        return other

    def retrying(self, retries: Retry) -> None:
        """Ask again as ``retries`` says, in place of the usual half minute."""
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retries, pool_maxsize=self.connections))
        self.retries = retries

    def models(self) -> dict[str, int]:
        """Names of the served models, each with its context length in tokens (0: not stated)."""
        models = self.get("/v1/models")
        with self.reading("/v1/models"):
            return {str(model["id"]): int(model.get("max_model_len") or 0) for model in models["data"]}

    def each(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """``work`` of each item, in their order, ``connections`` of them at once: over all calls where there is a ``pool``.

        An error of any is raised; those that are not begun are then left."""
        with nullcontext(self.pool) if self.pool else ThreadPoolExecutor(self.connections) as pool:
            futures = [pool.submit(work, item) for item in items]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()

    def get(self, path: str) -> Any:
        """The JSON at a path. For errors see ``post``."""
        return self._json("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """The JSON that a server replies to a JSON body.

        Raises:
            NoReplyError: the server does not reply, retries included.
            RefusedError: the server refuses the request.
            PathpruneError: the reply is not JSON.
        """
        return self._json("POST", path, body)

    def _json(self, method: str, path: str, body: Any) -> Any:
        try:
            response = self.session.request(
                method,
                self.url + path,
                json=body,
                auth=_Bearer(self.key) if self.key else None,
                timeout=(CONNECT, self.timeout),
            )
        except requests.RequestException as error:
            raise NoReplyError(
                f"no reply from the server at {self.url} ({type(error).__name__} after {self.retries.total} retries); is it "
                "running, and is timeout= long enough?"
            ) from error
        if not response.ok:
            reason = f"{response.status_code}: {self._without_secrets(response.text)}"
            raise RefusedError(f"the server at {self.url} refused {path} ({reason}); {self.hint}", response.status_code)
        try:
            return response.json()
        except ValueError as error:
            raise PathpruneError(
                f"the server at {self.url} replied to {path} with something else than JSON; is this the address of an "
                "OpenAI-compatible server, without /v1?"
            ) from error

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Make one line of a reply whose JSON has another shape than the one that is read in this block."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PathpruneError(
                f"the server at {self.url} replied to {path} with JSON of another shape ({type(error).__name__}); {self.hint}"
            ) from error

    def _without_secrets(self, text: str) -> str:
        """A server's own words in one line; some repeat the key that they refuse."""
        for secret in (self.key, *(self.session.auth or ())):
            text = text.replace(str(secret), "...") if secret else text
        return " ".join(text.split())[:SHOWN]


class _Bearer(AuthBase):
    """A key of one request; as a header of the session it would give way to a password in the user's .netrc."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self.key}"
        return request


def _shown(url: str) -> str:
    """A server's address without user and password, and without the slash behind it.

    Raises:
        PathpruneError: it is no address.
    """
    try:
        parts = urlsplit(url.rstrip("/"))
        parts.port  # noqa: B018  (raises where it is no number)
    except ValueError as error:
        raise PathpruneError("url= is no address of a server such as http://host:8000") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PathpruneError("url= is no address of a server such as http://host:8000")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
