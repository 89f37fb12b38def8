"""Engines: what samples the paths. Opening one costs nothing until it is used: weights are loaded at the first call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.api import Sampling, Signal


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


def open_hf(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """transformers: ``model`` is an embedded model's name, a local folder or a hub id."""
    from harness.engines import identity

    where = identity.locate(model)
    spec = {
        "engine": "hf",
        "model": Path(model).name,
        "fingerprint": identity.fingerprint(where, revision),
        "dtype": dtype,
        "sampling": asdict(sampling),
    }

    def make() -> Any:
        from harness.engines.hf import HFEngine

        return HFEngine(where, spec, sampling, revision=revision, **options)

    return LazyEngine(spec, frozenset({"text", "token_stats", "hidden"}), make)


def open_toy(model: str, sampling: Sampling, **options: Any) -> Any:
    """Seeded, without weights: for tests and for trying a pruner out."""
    from harness.engines.toy import ToyEngine

    return ToyEngine(model, sampling, **options)
