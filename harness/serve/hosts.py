"""By which names requests may call the server: a page whose name was bound to this machine (DNS rebinding) calls it by its own."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from harness.api import PathpruneError
from harness.serve.errors import APIError
from harness.text import shown

OPTION = "--allow-host"
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
HOST = re.compile(r"([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(?::[0-9]*)?", re.ASCII | re.IGNORECASE)


def is_loopback(address: str) -> bool:
    """Does only this machine reach an IP address?"""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def allowed_hosts(host: str, address: str, more: Sequence[str] = ()) -> frozenset[str] | None:
    """The names that requests may call the server by; None where any will do.

    Args:
        host: where it was told to listen.
        address: the IP address that it listens on.
        more: names that its owner allows.

    Raises:
        PathpruneError: one of them is no name of a host.
    """
    named = frozenset(map(_named, more))
    if not named and not is_loopback(address):
        return None
    return LOCAL | {host.lower(), address} | named


def _named(name: str) -> str:
    """A name as ``called`` returns it; an IPv6 address needs no brackets."""
    stated = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
    host = called(stated)
    if host is None or re.search(r":[0-9]*$", stated):
        raise PathpruneError(
            f"{OPTION} {shown(name)} is not a host's name as requests send it, such as example.org or ::1; leave out scheme, port and path"
        )
    return host


def called(header: str) -> str | None:
    """The host of a Host header, without its port, in lower case, an IPv6 address in its shortest form; None where it has none."""
    found = HOST.fullmatch(header.strip())
    if found is None:
        return None
    host = found[1].lower().removesuffix(".")
    if not host.startswith("["):
        return host
    try:
        return str(ipaddress.IPv6Address(host[1:-1]))
    except ValueError:
        return None


class HostCheck:
    """Middleware that refuses requests that call the server by a name it does not have.

    Starlette's ``TrustedHostMiddleware`` is not used: its refusal is no JSON and names no way out.

    Args:
        app: what answers the others.
        hosts: the names, as ``allowed_hosts`` returns them.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "http" and (error := self._refusal(scope)) is not None:
            await JSONResponse(error.body, error.status)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> APIError | None:
        headers = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(headers) == 1 and called(headers[0]) in self.hosts:
            return None
        name = shown(headers[0]) if len(headers) == 1 else "several Host headers" if headers else "no Host header"
        return APIError(
            403, f"this server does not answer to {name}; if it should, start it with {OPTION} NAME", "host_not_allowed"
        )
