"""The HTTP layer: authentication, request bodies, streams and disconnected clients."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from harness.api import PathpruneError
from harness.serve.errors import APIError, api_error
from harness.serve.gate import Gate
from harness.serve.hosts import LOCAL, HostCheck
from harness.serve.jobs import Answered, Event, Job
from harness.serve.metrics import Metrics
from harness.serve.reply import Reply, data
from harness.serve.schema import parse
from harness.serve.terms import Terms

logger = logging.getLogger("pathprune.serve")
LEFT = 499  # nginx's status for a client that disconnected
ALIVE = 15.0  # seconds of silence after which a stream sends a keep-alive
BODY = 30.0  # seconds within which the body must arrive


class Worker(Protocol):
    """Computes jobs, on the server's own engine or on upstreams."""

    @property
    def is_up(self) -> bool:
        """Whether jobs can be computed."""

    def submit(self, job: Job) -> None:
        """Start computing a job; the result is set on its future."""

    def health(self) -> dict[str, Any]:
        """The state of the worker, for ``/health``."""

    def close(self) -> None:
        """Accept no further jobs."""


@dataclass(eq=False)
class Service:
    """The components of a server.

    Args:
        terms: defaults and limits of requests.
        worker: computes jobs.
        gate: limits concurrent requests.
        timeout: seconds that a request may take, waiting included.
        api_key: the key that clients must send; "" for none. Without one, a client's key is passed on to the upstream.
        passes_keys: whether there are upstreams to which keys are passed on.
        hosts: names that requests may call the server by; None for any.
    """

    terms: Terms
    worker: Worker
    gate: Gate
    timeout: float = 600.0
    api_key: str = field(default="", repr=False)
    passes_keys: bool = False
    hosts: frozenset[str] | None = LOCAL
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.metrics.watch("running", "Requests being computed", lambda: self.gate.running)
        self.metrics.watch("waiting", "Requests waiting", lambda: self.gate.waiting)
        self.metrics.watch("up", "1 if requests can be computed, else 0", lambda: self.worker.is_up)


def app_of(service: Service) -> FastAPI:
    """The FastAPI application of a service."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.worker.close()

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(APIError, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _refused)
    if service.hosts is not None:
        app.add_middleware(HostCheck, hosts=service.hosts)

    @app.get("/health")
    async def health() -> Response:
        state = {"status": "ok" if service.worker.is_up else "unavailable", **service.worker.health()}
        return JSONResponse(state, 200 if service.worker.is_up else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        _key_of(request, service)
        return JSONResponse({"object": "list", "data": [_card(service.terms)]})

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Response:
        _key_of(request, service)
        if name != service.terms.model:
            raise APIError(404, f"there is no model {name[:200]!r} here", "model_not_found", "model")
        return JSONResponse(_card(service.terms))

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        began, status = time.monotonic(), LEFT
        try:
            response = await _chat(request, service)
            status = response.status_code
            return response
        except Exception as error:
            status = error.status if isinstance(error, APIError) else 500
            raise
        finally:
            service.metrics.requests.labels(str(status)).inc()
            service.metrics.seconds.observe(time.monotonic() - began)

    return app


async def _chat(request: Request, service: Service) -> Response:
    key = _key_of(request, service)
    asked = parse(await _body(request, service.terms.limits.body))
    job = service.terms.job(asked)
    job.key = key if service.passes_keys and not service.api_key else ""
    reply = Reply(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), service.terms.model)
    progress: asyncio.Queue[Event] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    if asked.stream:
        job.tell = partial(_tell, loop, progress)
    client = hashlib.sha256(key.encode()).hexdigest() if key else request.client.host if request.client else ""
    work = asyncio.ensure_future(_within(_work(service, job, client), service.timeout))
    if not asked.stream:
        answered = await _unless_left(request, service, job, work)
        return Response(status_code=LEFT) if answered is None else JSONResponse(reply.whole(job, answered))
    first = asyncio.ensure_future(progress.get())
    try:
        await _unless_left(request, service, job, work, first)
    except APIError:  # before any computation
        first.cancel()
        raise
    if job.is_cancelled:
        first.cancel()
        return Response(status_code=LEFT)
    with_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    events = _events(service, job, reply, work, progress, first, with_usage)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _tell(loop: asyncio.AbstractEventLoop, progress: asyncio.Queue[Event], event: Event) -> None:
    """Pass progress from a thread to the reader of the stream; ignored if the event loop is closed."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(progress.put_nowait, event)


async def _work(service: Service, job: Job, client: str) -> Answered:
    """Wait for a place, compute the job, and return its result."""
    entered = await service.gate.enter(client)
    loop = asyncio.get_running_loop()
    job.future.add_done_callback(partial(_leave, loop, service.gate, entered))
    job.future.set_running_or_notify_cancel()  # who has left is told by the job; its place is free when it is dropped
    service.worker.submit(job)
    try:
        answered = await asyncio.wrap_future(job.future)
    except asyncio.CancelledError:
        job.cancel()
        raise
    except Exception as error:
        told = api_error(error)
        if told.code == "internal_error":
            logger.error("a request failed", exc_info=error)
        raise told from error
    service.metrics.answered(answered.outcome, job.spec.n)
    return answered


def _leave(loop: asyncio.AbstractEventLoop, gate: Gate, entered: float, _: Any) -> None:
    """Free the place of a finished job, whether or not its client has read the answer."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(gate.leave, entered)


async def _within(work: Awaitable[Answered], seconds: float) -> Answered:
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        raise APIError(504, f"the request took longer than {seconds:g} s", "timeout") from None


async def _unless_left(
    request: Request,
    service: Service,
    job: Job,
    work: asyncio.Future[Answered],
    first: asyncio.Future[Any] | None = None,
) -> Answered | None:
    """The result of the work; None if the client disconnects first, or if ``first`` completes first."""
    leaving = asyncio.ensure_future(_left(request))
    try:
        awaited: list[asyncio.Future[Any]] = [work, leaving, *([first] if first else [])]
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if leaving.done():
            service.metrics.left.inc()
            _abandon(job, work)
        return None
    except asyncio.CancelledError:
        _abandon(job, work)
        raise
    finally:
        leaving.cancel()


def _abandon(job: Job, work: asyncio.Future[Answered]) -> None:
    job.cancel()
    work.cancel()


async def _left(request: Request) -> None:
    """Wait until the client has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(
    service: Service, job: Job, reply: Reply, work: asyncio.Future[Answered], progress: asyncio.Queue[Event],
    first: asyncio.Future[Event], with_usage: bool,
) -> AsyncIterator[str]:  # fmt: skip
    """The events of a stream: progress, the winner and the usage; an error ends the stream."""
    waiting: asyncio.Future[Event] = first
    try:
        yield reply.begin()
        while not (work.done() and progress.empty() and not waiting.done()):
            awaited: list[asyncio.Future[Any]] = [work, waiting]
            await asyncio.wait(awaited, timeout=ALIVE, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                yield reply.progress(waiting.result())
                waiting = asyncio.ensure_future(progress.get())
            elif not work.done():
                yield ": waiting\n\n"
        try:
            for event in reply.end(job, work.result(), with_usage):
                yield event
        except APIError as error:
            yield data(error.body)
    finally:
        waiting.cancel()
        if not work.done():
            service.metrics.left.inc()
            _abandon(job, work)


async def _body(request: Request, most: int) -> bytes:
    """The request's body.

    Raises:
        APIError: 415 if it is not declared as JSON, 413 if it is too large, 408 if it does not arrive in time.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise APIError(
            415, "the body must be JSON, with the header Content-Type: application/json", "unsupported_media_type"
        )
    if _too_long(request.headers.get("content-length", ""), most):
        raise _too_large(most)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise APIError(408, f"the body did not arrive within {BODY:g} s", "timeout") from None
    return bytes(body)


def _too_long(length: str, most: int) -> bool:
    return length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > most)


def _too_large(most: int) -> APIError:
    return APIError(413, f"the body has more than {most:,} bytes", "request_too_large", headers={"Connection": "close"})


def _key_of(request: Request, service: Service) -> str:
    """The client's key.

    Raises:
        APIError: 401 if the server requires a key and this one is missing or wrong.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip() if scheme.lower() == "bearer" else ""
    if service.api_key and not hmac.compare_digest(key.encode(), service.api_key.encode()):
        raise APIError(
            401, "the API key is missing or wrong; send it as Authorization: Bearer KEY", "invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    return key


def _card(terms: Terms) -> dict[str, Any]:
    return {"id": terms.model, "object": "model", "created": 0, "owned_by": "pathprune"}


async def _refused(request: Request, error: Exception) -> Response:
    """Any error in OpenAI's format."""
    if isinstance(error, HTTPException):
        known = {404: f"there is no {request.url.path[:200]}", 405: f"{request.method} is not allowed for this path"}
        message = known.get(error.status_code, str(error.detail))
        error = APIError(error.status_code, message, "not_found" if error.status_code == 404 else "invalid_request")
    told = api_error(error) if isinstance(error, APIError | PathpruneError) else api_error(RuntimeError())
    if told.code == "internal_error":
        logger.error("a request failed", exc_info=error)
    return JSONResponse(told.body, told.status, headers=told.headers)
