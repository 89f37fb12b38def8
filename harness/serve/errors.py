"""Errors for clients, in OpenAI's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.api import PathpruneError
from harness.engines.served.client import NoReplyError, RefusedError
from harness.loop import ScoringError
from harness.text import reason

PASSED_ON = (401, 403, 429)  # refusals of an upstream that the client can fix
AGAIN = {"Retry-After": "1"}


class APIError(Exception):
    """A response with a 4xx or 5xx status.

    Args:
        status: HTTP status code.
        message: one line for people.
        code: a machine-readable word.
        param: the field that is wrong, if any.
        headers: additional response headers.
    """

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class CancelledError(Exception):
    """The client no longer waits for the job."""


class UnfitError(PathpruneError):
    """A request that the model cannot accept, which is known only once the engine is open."""


def api_error(error: BaseException) -> APIError:
    """The error for a client; it reveals no details of an internal error."""
    if isinstance(error, APIError):
        return error
    if isinstance(error, UnfitError):
        return APIError(400, str(error), "invalid_value")
    if isinstance(error, NoReplyError):
        return APIError(503, f"no upstream replies: {reason(error)}", "upstream_unavailable", headers=AGAIN)
    if isinstance(error, RefusedError):
        status = error.status if error.status in PASSED_ON else 502
        return APIError(status, reason(error), "upstream_refused")
    if isinstance(error, ScoringError) and isinstance(error.__cause__, PathpruneError):
        return api_error(error.__cause__) if _is_upstream(error.__cause__) else _unmet(error)
    if isinstance(error, PathpruneError):
        return APIError(500, reason(error), "failed")
    if isinstance(error, MemoryError):
        return APIError(503, "out of memory; ask for fewer or shorter paths", "out_of_memory", headers=AGAIN)
    return APIError(500, "an error inside the server; its log has the traceback", "internal_error")


def _is_upstream(error: BaseException) -> bool:
    return isinstance(error, NoReplyError | RefusedError)


def _unmet(error: BaseException) -> APIError:
    return APIError(400, reason(error), "invalid_value")
