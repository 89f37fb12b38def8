"""Engines: what samples the paths. Opening one costs nothing until it is used: weights are loaded at the first call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import advice
from harness.api import PathpruneError, Sampling, Signal


class LazyEngine:
    """Knows its spec without weights, so that a run that finds everything in the store never loads a model."""

    def __init__(self, spec: Mapping[str, Any], provides: frozenset[Signal], make: Callable[[], Any]) -> None:
        self.spec, self.provides, self._make = spec, provides, make
        self.fingerprint = str(spec["fingerprint"])
        self._engine: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._engine is None:
            self._engine = self._make()
        return getattr(self._engine, name)


CHAT = {"chat": bool, "thinking": bool, "effort": str}  # what the prompt looks like, so part of what a spec is
HF = {"device": str, "device_map": str, "attention": str, "memory": int, "rows": int}
VLLM = {"memory": float, "context": int, "block": int, "tensor_parallel": int, "rows": int}
REMOTE = {"url": str, "context": int, "rows": int, "timeout": float, "key": str}
EVERYTHING: frozenset[Signal] = frozenset({"text", "token_stats", "hidden", "trace", "forced"})


def open_hf(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """transformers: ``model`` is an embedded model's name, a local folder or a hub id."""
    where, spec, options = _described("hf", model, sampling, revision, dtype, HF, options)

    def make() -> Any:
        from harness.engines.hf.engine import HFEngine

        return HFEngine(where, spec, sampling, revision=spec.get("revision"), **options)

    return LazyEngine(spec, EVERYTHING, make)


def open_vllm(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """The released vLLM package in this environment; see ``harness.engines.vllm.local``."""
    where, spec, options = _described("vllm", model, sampling, revision, dtype, VLLM, options)

    def make() -> Any:
        from harness.engines.vllm.local import VLLMEngine

        return VLLMEngine(where, spec, sampling, revision=spec.get("revision"), **options)

    return LazyEngine(spec, EVERYTHING - {"trace"}, make)


def open_remote(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """A running ``vllm serve``, which ``url`` names; ``model`` and ``dtype`` say what it serves."""
    where, spec, options = _described("vllm-http", model, sampling, revision, dtype, REMOTE, options)
    if "url" not in options:
        address = advice.option(engine="vllm-http:url=http://host:8000")
        raise PathpruneError(f"engine vllm-http needs the server's address: {address}")

    def make() -> Any:
        from harness.engines.vllm.remote import RemoteEngine

        return RemoteEngine(where, spec, sampling, revision=spec.get("revision"), **options)

    return LazyEngine(spec, EVERYTHING - {"trace"}, make)


def _described(
    engine: str,
    model: str,
    sampling: Sampling,
    revision: Any,
    dtype: Any,
    known: dict[str, type],
    options: dict[str, Any],
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(where the weights are, the spec that decides an engine's tokens, the other options); unknown ones are refused."""
    from harness.engines import identity

    known = known | CHAT
    for name, value in options.items():
        fitting = (int, float) if known.get(name) is float else known.get(name, ())
        if not isinstance(value, fitting):
            expected = ", ".join(f"{k} ({v.__name__})" for k, v in {"dtype": str, "revision": str, **known}.items())
            raise PathpruneError(f"engine {engine} does not take {name}={value}; its options: {expected}")
    if dtype not in ("float32", "float16", "bfloat16"):
        raise PathpruneError(f"engine {engine}: dtype is float32, float16 or bfloat16, not {dtype!r}")
    where = identity.locate(model)
    commit = identity.commit(where, revision)
    chat = {name: value for name, value in options.items() if name in CHAT}
    spec = {
        "engine": engine,
        "model": Path(model).name,
        "fingerprint": identity.fingerprint(where, commit),
        "dtype": dtype,
        "sampling": asdict(sampling),
    }
    # Only where there are some: the keys of records that know of none stay what they were.
    spec |= ({"revision": commit} if commit else {}) | ({"chat": chat} if chat else {})
    return where, spec, {name: value for name, value in options.items() if name not in CHAT}


def open_toy(model: str, sampling: Sampling, **options: Any) -> Any:
    """Seeded, without weights: for tests and for trying a pruner out."""
    from harness.engines.toy import ToyEngine

    return ToyEngine(model, sampling, **options)
