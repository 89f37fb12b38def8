"""Open a service from names: the engine or the upstreams, the methods, and the terms."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness import registry
from harness.api import PathpruneError
from harness.engines import load_now, open_completions
from harness.engines.served.client import KEY, HTTPClient
from harness.learn import checkpoints
from harness.loop import prepare
from harness.plugins.declared import Method
from harness.registry import split_specs
from harness.runners.live import check_live
from harness.serve.app import Service, Worker
from harness.serve.gate import Gate
from harness.serve.hosts import LOCAL
from harness.serve.own import OwnEngine
from harness.serve.prompt import Reading
from harness.serve.reader import reader_of
from harness.serve.terms import Limits, Terms
from harness.serve.upstream import Upstream, Upstreams
from harness.spec import Ended, RunSpec, Stage, parse_stages
from harness.where import Where

logger = logging.getLogger("pathprune.serve")
OURS = "pathprune-"  # prefix of model names on a server with our plug-in
EMBEDDED = ("hands", "slips", "toy")  # models that belong to a task of the same name
CONNECTIONS = 256  # concurrent requests to each upstream


@dataclass(frozen=True)
class Asked:
    """The arguments of a server. ``pruners`` and ``rules`` are comma-separated specs; for the others see ``docs/serve.md``."""

    task: str | None = None
    model: str | None = None
    engine: str = "hf"
    upstreams: tuple[str, ...] = ()
    sampling: str = ""
    pruners: str = "stop"
    rules: str = ""
    n: int = 64
    keep: int = 8
    prefix: int | None = None
    stages: str | None = None
    max_tokens: int | None = None
    seed: int = 0
    vote: str = "majority"
    ended: Ended = "count"
    name: str | None = None
    limits: Limits | None = None
    running: int = 64
    waiting: int = 256
    rows: int = 512
    timeout: float = 600.0
    api_key: str = ""
    hosts: frozenset[str] | None = LOCAL


def open_service(asked: Asked) -> Service:
    """Open, load and check everything before a port is opened.

    Raises:
        PathpruneError: an error that the user can fix, in one line.
    """
    spec = _task_of(asked)
    task = None if spec is None else registry.task(spec)
    reading = Reading(task, asked.model or "", reader_of(task, spec))
    on = Where(task or reading, asked.model, asked.engine, asked.sampling, asked.prefix, asked.max_tokens, asked.seed)
    pruners, rules = split_specs(asked.pruners), split_specs(asked.rules)
    if not pruners:
        raise PathpruneError("no pruner given; see: pathprune list")
    worker: Worker
    if asked.upstreams:
        upstreams = _upstreams(asked, on, reading, pruners, rules)
        engine, methods = next(one for one in upstreams if one.is_up).open()
        worker = Upstreams(upstreams, asked.running)
    else:
        engine = on.open(on.task)
        load_now(engine)  # in one thread
        methods = _methods(pruners, rules, engine, reading)
        worker = OwnEngine(engine, methods, asked.rows)
    terms = _terms(asked, on, reading, engine, tuple(pruners), tuple(rules), frozenset(methods))
    gate = Gate(asked.running, asked.waiting)
    return Service(terms, worker, gate, asked.timeout, asked.api_key, bool(asked.upstreams), asked.hosts)


def _task_of(asked: Asked) -> str | None:
    """The task whose parser is used: the given one, or that of an embedded model."""
    if asked.task is not None:
        return asked.task
    if asked.engine.partition(":")[0] == "toy":
        return "toy"
    if asked.model is None:
        if asked.upstreams:
            raise PathpruneError("name the model that the upstream serves, for its tokenizer: --model FOLDER")
        return "hands"
    return asked.model if asked.model in EMBEDDED else None


def _terms(
    asked: Asked,
    on: Where,
    reading: Reading,
    engine: Any,
    pruners: tuple[str, ...],
    rules: tuple[str, ...],
    methods: frozenset[str],
) -> Terms:
    stages: tuple[Stage, ...] | None = parse_stages(asked.stages) if asked.stages else None
    if stages and asked.prefix is not None:
        raise PathpruneError("--stages already defines where paths are cut; leave out --prefix")
    limits = asked.limits or Limits()
    terms = Terms(
        asked.name or str(engine.spec["model"]), engine.spec, bool(getattr(engine, "chat", False)), reading, pruners, rules, methods,
        on.drawn, asked.n, asked.keep, on.limit, asked.seed, asked.vote, asked.ended, asked.prefix, stages,
        replace(limits, n=max(limits.n, asked.n), tokens=max(limits.tokens, on.limit)),
    )  # fmt: skip
    own = stages or (Stage(terms.default_prefix(on.limit), asked.keep),)
    RunSpec(reading.name, reading.version, engine.spec, asked.n, on.limit, own, asked.seed, asked.ended, asked.vote)
    return terms


def _methods(pruners: Sequence[str], rules: Sequence[str], engine: Any, reading: Reading) -> dict[str, Method]:
    """Methods with loaded weights, by the name in requests: each pruner, alone and with each stopping rule."""
    methods = {name: registry.method(name) for name in pruners}
    for rule in rules:
        if not registry.pruner(rule).traits.stops:
            raise PathpruneError(registry.no_rule(rule))
    scorers = [name for name, method in methods.items() if method.rule is None]
    methods |= {f"{name}+{rule}": registry.method(f"{name}+{rule}") for name in scorers for rule in rules}
    for method in methods.values():
        for plugin in method.plugins:
            check_live(plugin, engine)
            checkpoints.attach(plugin, engine)
        if method.scorer is not None:
            prepare(method.scorer.pruner, engine, reading)
    return methods


def _upstreams(
    asked: Asked, on: Where, reading: Reading, pruners: Sequence[str], rules: Sequence[str]
) -> list[Upstream]:
    """The upstreams; those that can be reached are opened.

    Raises:
        PathpruneError: none can be reached.
    """

    def opening(url: str) -> tuple[Any, Mapping[str, Method]]:
        engine = _engine_at(url, on)
        return engine, _methods(pruners, rules, engine, reading)

    upstreams = [Upstream(url.rstrip("/").removesuffix("/v1"), opening) for url in dict.fromkeys(asked.upstreams)]
    for one in upstreams:
        if not one.looked(strict=True):
            logger.warning("upstream %s does not reply; it will be used once it does", one.url)
    if not any(one.is_up for one in upstreams):
        raise PathpruneError(f"no server replies at {', '.join(one.url for one in upstreams)}; start vllm serve first")
    return upstreams


def _engine_at(url: str, on: Where) -> Any:
    """The engine for a running server, with or without our plug-in."""
    client = HTTPClient(url, os.environ.get(KEY, ""), timeout=10)
    ours = any(name.startswith(OURS) for name in client.models())
    drawn: dict[str, Any] = {"url": url, "rows": CONNECTIONS}
    if ours:
        return registry.engine("vllm-http", on.model, on.drawn, **drawn)
    return open_completions(on.model, on.drawn, **drawn)
