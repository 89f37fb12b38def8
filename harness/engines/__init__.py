"""Engines: what samples the paths. Opening one costs nothing until it is used: weights are loaded at the first call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict
from pathlib import Path as FilePath
from threading import RLock
from typing import TYPE_CHECKING, Any

from harness import advice
from harness.api import FlopModel, Heads, Path, PathpruneError, Problem, Sampling, Signal
from harness.engines import memory
from harness.engines.options import CHAT, HF, REMOTE, VLLM, Option, hold, hold_weights

if TYPE_CHECKING:
    import numpy as np


class LazyEngine:
    """An engine that knows its spec without weights, so that a run whose paths are all stored never loads a model.

    The members of ``harness.api.Engine`` and ``Probing`` are declared here; everything else that an engine has (its
    tokenizer, its counters) is looked up on it. Either loads the weights, once.

    Args:
        spec: everything that decides the engine's tokens.
        provides: the signals that the engine will provide.
        load: opens the engine itself.
        device: where it is asked to compute, as torch names it; "" where that is its own choice.
        spared: those signals that it saves something by leaving out.
    """

    flops: FlopModel  # forwarded by ``__getattr__``, as is ``rows``
    rows: int

    def __init__(
        self, spec: Mapping[str, Any], provides: frozenset[Signal], load: Callable[[], Any], device: str = "",
        spared: frozenset[Signal] = frozenset(),
    ) -> None:  # fmt: skip
        self.spec, self.provides, self._load, self._device, self.spared = spec, provides, load, device, spared
        self.fingerprint = str(spec["fingerprint"])
        self._engine: Any = None
        self._loading = RLock()  # several threads may be the first to use it

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        """See ``harness.api.Engine``."""
        with memory.named():
            return self._loaded().launch(problems, n, max_tokens, seed)

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        """See ``harness.api.Engine``."""
        with memory.named():
            return self._loaded().resume(paths, max_tokens)

    def without(self, signals: frozenset[Signal]) -> LazyEngine:
        """See ``harness.api.Engine``; the weights are shared."""
        if not signals & self.spared:
            return self
        return LazyEngine(
            self.spec, self.provides - signals, lambda: self._loaded().without(signals), self._device, self.spared - signals
        )  # fmt: skip

    def decode(self, tokens: Sequence[int]) -> str:
        """See ``harness.api.Engine``."""
        return self._loaded().decode(tokens)

    def encode(self, text: str) -> tuple[int, ...]:
        """See ``harness.api.Engine``."""
        return self._loaded().encode(text)

    def prompt_length(self, problem: Problem) -> int:
        """See ``harness.api.Engine``."""
        return self._loaded().prompt_length(problem)

    def thinking(self, problem: Problem) -> int:
        """See ``harness.api.Engine``."""
        return self._loaded().thinking(problem)

    def probe(self, paths: Sequence[Path], adapter: Any = None) -> np.ndarray:
        """See ``harness.api.Probing``."""
        with memory.named():
            return self._loaded().probe(paths, adapter)

    def trace(
        self, paths: Sequence[Path], reduce: Callable[[np.ndarray, Path], np.ndarray], before: int = 0
    ) -> list[np.ndarray]:
        """See ``harness.api.Probing``."""
        with memory.named():
            return self._loaded().trace(paths, reduce, **({"before": before} if before else {}))

    def share(self, problems: Sequence[Problem], known: Sequence[tuple[int, ...]] = ()) -> Heads:
        """See ``harness.api.Engine``."""
        with memory.named():
            shared: Heads = self._loaded().share(problems, known)
            return shared

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> Any:
        """See ``harness.api.Probing``."""
        with memory.named():
            return self._loaded().new_adapter(folder, **options)

    @property
    def device(self) -> str:
        """Where it computes; known without weights where it was asked for."""
        return self._device if self._engine is None else str(getattr(self._engine, "device", self._device))

    def describe(self) -> dict[str, str]:
        """Device and versions that the engine runs on, for a record."""
        return self._loaded().describe()

    def drawing(self, sampling: Sampling, key: str = "") -> LazyEngine:
        """The same engine with tokens drawn so, sharing its weights and what it has computed.

        Args:
            sampling: how tokens are drawn.
            key: in place of the engine's own, to a served model.
        """
        spec = {**self.spec, "sampling": asdict(sampling)}

        def load() -> Any:
            other = copy(self._loaded())
            other.sampling, other.spec = sampling, spec
            if key:
                other.client = other.client.with_key(key)
            return other

        return LazyEngine(spec, self.provides, load, self._device)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copying and pickling ask for such names; they must not load a model
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        return getattr(self._loaded(), name)

    def _loaded(self) -> Any:
        if self._engine is None:
            with self._loading:
                self._engine = self._engine or self._opened()
        return self._engine

    def _opened(self) -> Any:
        try:
            return self._load()
        except AttributeError as error:
            # Passed on as it is, ``hasattr`` would take it for an engine that lacks the member asked for.
            raise RuntimeError(f"engine {self.spec['engine']} could not be opened: {error}") from error


EVERYTHING: frozenset[Signal] = frozenset({"text", "token_stats", "hidden", "trace", "forced"})


def open_hf(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """Transformers, in this process; see ``harness.engines.hf.engine``.

    Args:
        model: an embedded model's name, a local folder or a hub id.
        sampling: how tokens are drawn.
        revision: a hub id's branch, tag or commit.
        dtype: float32, float16 or bfloat16.
        options: those of ``options.HF`` and ``options.CHAT``.

    Raises:
        PathpruneError: for a model that is not there, an unknown option or a dtype.
    """
    where, spec, options = _resolved("hf", model, sampling, revision, dtype, HF, options)

    def load() -> Any:
        from harness.engines.hf.engine import HFEngine

        return HFEngine(where, spec, sampling, revision=spec.get("revision"), **options)

    return LazyEngine(spec, EVERYTHING, load, str(options.get("device") or ""))


def open_vllm(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """The released vLLM package in this environment; see ``harness.engines.vllm.local`` and, for arguments, ``open_hf``."""
    where, spec, options = _resolved("vllm", model, sampling, revision, dtype, VLLM, options)

    def load() -> Any:
        from harness.engines.vllm.local import VLLMEngine

        return VLLMEngine(where, spec, sampling, revision=spec.get("revision"), **options)

    return _with_statistics(spec, options, load)


def open_remote(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """A running ``vllm serve`` at ``url``; ``model`` and ``dtype`` say what it serves. For arguments, see ``open_hf``."""
    where, spec, options = _resolved("vllm-http", model, sampling, revision, dtype, REMOTE, options)
    if "url" not in options:
        address = advice.option(engine="vllm-http:url=http://host:8000")
        raise PathpruneError(f"engine vllm-http needs the server's address: {address}")

    def load() -> Any:
        from harness.engines.vllm.remote import RemoteEngine

        return RemoteEngine(where, spec, sampling, revision=spec.get("revision"), **options)

    return _with_statistics(spec, options, load)


def _with_statistics(spec: dict[str, Any], options: dict[str, Any], load: Callable[[], Any]) -> LazyEngine:
    """vLLM as an engine; with ``statistics=false`` its paths have none, and lie in a bank of their own."""
    statistics = options.pop("statistics", True)
    told = spec | ({} if statistics else {"statistics": False})
    engine = LazyEngine(told, EVERYTHING - {"trace"}, load, spared=frozenset({"token_stats"}))
    return engine if statistics else engine.without(frozenset({"token_stats"}))


def open_completions(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """A running ``vllm serve`` at ``url`` without our plug-in: texts and log-probabilities. For arguments, see ``open_remote``.

    Its paths depend on where they are cut, so it is for serving and no engine of a bench.
    """
    where, spec, options = _resolved("completions", model, sampling, revision, dtype, REMOTE, options)

    def load() -> Any:
        from harness.engines.served.completions import CompletionsEngine

        return CompletionsEngine(where, spec, sampling, revision=spec.get("revision"), **options)

    return LazyEngine(spec, frozenset({"text", "token_stats", "forced"}), load)


def open_toy(model: str, sampling: Sampling, **options: Any) -> Any:
    """A seeded engine without weights, for tests and for trying a pruner out; see ``harness.engines.toy``."""
    from harness.engines.toy import ToyEngine

    return ToyEngine(model, sampling, **options)


def _resolved(
    engine: str,
    model: str,
    sampling: Sampling,
    revision: Any,
    dtype: Any,
    known: Mapping[str, Option],
    options: Mapping[str, Any],
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Where the weights are, the spec that decides the engine's tokens, and the options that do not."""
    from harness.engines import identity
    from harness.engines.folders import has_weights

    hold(engine, options, dict(known) | CHAT)
    hold_weights(engine, dtype, revision)
    where = identity.locate(model)
    if engine not in ("vllm-http", "completions") and FilePath(where).is_dir():
        has_weights(FilePath(where))
    commit = identity.commit(where, revision)
    chat = {name: value for name, value in options.items() if name in CHAT}
    spec = {
        "engine": engine,
        "model": FilePath(model).name,
        "fingerprint": identity.fingerprint(where, commit),
        "dtype": dtype,
        "sampling": asdict(sampling),
    }
    # Only if given: records written before these options existed keep their keys.
    spec |= ({"revision": commit} if commit else {}) | ({"chat": chat} if chat else {})
    return where, spec, {name: value for name, value in options.items() if name not in CHAT}
