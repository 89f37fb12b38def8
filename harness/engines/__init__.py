"""Engines, which sample the paths. Opening an engine is cheap: the weights are loaded when something is computed."""

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
from harness.engines.options import AT_ONCE, CHAT, HF, REMOTE, VLLM, Option, hold, hold_weights

if TYPE_CHECKING:
    import numpy as np


# Members that configuration and tokenizer answer.
TEXT = frozenset(
    {"decode", "encode", "spell", "prompt_length", "thinking", "closing", "chat", "tools", "tokenizer", "flops", "rows"}
)


class LazyEngine:
    """An engine whose spec is known without the weights, so a run whose paths are all stored never loads a model.

    The members of ``harness.api.Engine`` and ``Probing`` are declared here; any other attribute, such as ``store``, is
    forwarded to the engine. The first use of either loads the weights, except for members that ``text`` answers.

    Args:
        spec: everything that determines the engine's tokens.
        provides: the signals that the engine will provide.
        load: opens the engine itself.
        device: the requested device, as torch names it; "" if the engine chooses.
        spared: signals that are worth leaving out if they are not needed.
        text: opens what answers for the engine until its weights are loaded; None if nothing does.
        told: the members that it answers. Those that it lacks are the engine's.
    """

    flops: FlopModel  # forwarded by ``__getattr__``, as is ``rows``
    rows: int

    def __init__(
        self, spec: Mapping[str, Any], provides: frozenset[Signal], load: Callable[[], Any], device: str = "",
        spared: frozenset[Signal] = frozenset(), text: Callable[[], Any] | None = None, told: frozenset[str] = TEXT,
    ) -> None:  # fmt: skip
        self.spec, self.provides, self._load, self._device, self.spared = spec, provides, load, device, spared
        self._open_text, self._told = text, told
        self.fingerprint = str(spec["fingerprint"])
        self._engine: Any = None
        self._text: Any = None
        self._loading = RLock()  # several threads may use it first

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
            self.spec, self.provides - signals, lambda: self._loaded().without(signals), self._device, self.spared - signals,
            self._text_of_it, self._told,
        )  # fmt: skip

    def decode(self, tokens: Sequence[int]) -> str:
        """See ``harness.api.Engine``."""
        return self._answering("decode").decode(tokens)

    def encode(self, text: str) -> tuple[int, ...]:
        """See ``harness.api.Engine``."""
        return self._answering("encode").encode(text)

    def prompt_length(self, problem: Problem) -> int:
        """See ``harness.api.Engine``."""
        return self._answering("prompt_length").prompt_length(problem)

    def thinking(self, problem: Problem) -> int:
        """See ``harness.api.Engine``."""
        return self._answering("thinking").thinking(problem)

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
        """The device; loads the weights unless a device was requested."""
        return self._device if self._engine is None else str(getattr(self._engine, "device", self._device))

    def describe(self) -> dict[str, str]:
        """Device and versions, for a record."""
        return self._answering("describe").describe()

    def load_now(self) -> None:
        """Load the weights now instead of at first use."""
        self._loaded()

    def drawing(self, sampling: Sampling, key: str = "") -> LazyEngine:
        """The same engine with another sampling; it shares the weights and caches.

        Args:
            sampling: the new sampling.
            key: an API key for a served model, replacing the engine's own.
        """
        spec = {**self.spec, "sampling": asdict(sampling)}

        def load() -> Any:
            other = copy(self._loaded())
            other.sampling, other.spec = sampling, spec
            if key:
                other.client = other.client.with_key(key)
            return other

        return LazyEngine(spec, self.provides, load, self._device, text=self._text_of_it, told=self._told)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copying and pickling ask for such names; they must not load a model
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        return getattr(self._answering(name), name)

    def _answering(self, name: str) -> Any:
        """The object that has a member: the engine once it is loaded or if nothing else has it."""
        if self._engine is None and name in self._told and hasattr(text := self._text_of_it(), name):
            return text
        return self._loaded()

    def _text_of_it(self) -> Any:
        if self._text is None and self._open_text is not None:
            with self._loading:
                self._text = self._text or self._opened(self._open_text)
        return self._text

    def _loaded(self) -> Any:
        if self._engine is None:
            with self._loading:
                self._engine = self._engine or self._opened(self._load)
        return self._engine

    def _opened(self, opening: Callable[[], Any]) -> Any:
        try:
            return opening()
        except AttributeError as error:
            # If an AttributeError were passed on, ``hasattr`` would conclude that the engine lacks the attribute.
            raise RuntimeError(f"engine {self.spec['engine']} could not be opened: {error}") from error


def load_now(engine: Any) -> None:
    """Load an engine's weights, for example before something is timed. Engines without any are ready."""
    load = getattr(engine, "load_now", None)
    if load is not None:
        load()


EVERYTHING: frozenset[Signal] = frozenset({"text", "token_stats", "hidden", "trace", "forced"})


def open_hf(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """Open the transformers engine in this process; see ``harness.engines.hf.engine``.

    Args:
        model: an embedded model's name, a local folder or a hub id.
        sampling: how tokens are sampled.
        revision: branch, tag or commit of a hub id.
        dtype: float32, float16 or bfloat16.
        options: those of ``options.HF`` and ``options.CHAT``.

    Raises:
        PathpruneError: a missing model, or an unknown option or dtype.
    """
    where, spec, options = _resolved("hf", model, sampling, revision, dtype, HF, options)

    def load() -> Any:
        from harness.engines.hf.engine import HFEngine

        return HFEngine(where, spec, sampling, revision=spec.get("revision"), **options)

    def text() -> Any:
        from harness.engines.hf.text import HFText

        asked = {name: options[name] for name in ("device", "device_map", "rows") if name in options}
        return HFText(where, spec, spec.get("revision"), **asked)

    device = str(options.get("device") or "")
    return LazyEngine(spec, EVERYTHING, load, device, text=text, told=TEXT | {"describe"})


def open_vllm(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """Open the released vLLM package in this process; see ``harness.engines.vllm.local`` and, for the arguments, ``open_hf``."""
    where, spec, options = _resolved("vllm", model, sampling, revision, dtype, VLLM, options)

    def load() -> Any:
        from harness.engines.vllm.local import VLLMEngine

        return VLLMEngine(where, spec, sampling, revision=spec.get("revision"), **options)

    def text() -> Any:
        from harness.engines.vllm.local import VLLMText

        return VLLMText(where, spec, sampling, spec.get("revision"), None, options.get("rows", AT_ONCE["vllm"]))

    return _with_statistics(spec, options, load, text, TEXT | {"describe"})


def open_remote(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """Connect to a running ``vllm serve`` at ``url``, which serves ``model`` in ``dtype``. For the arguments see ``open_hf``."""
    where, spec, options = _resolved("vllm-http", model, sampling, revision, dtype, REMOTE, options)
    if "url" not in options:
        address = advice.option(engine="vllm-http:url=http://host:8000")
        raise PathpruneError(f"engine vllm-http needs the server's address: {address}")

    def load() -> Any:
        from harness.engines.vllm.remote import RemoteEngine

        return RemoteEngine(where, spec, sampling, revision=spec.get("revision"), **options)

    return _with_statistics(spec, options, load, _served_text("vllm-http", where, spec, sampling, options), TEXT)


def _served_text(
    engine: str, where: str, spec: Mapping[str, Any], sampling: Sampling, options: Mapping[str, Any]
) -> Callable[[], Any]:
    """Opens what a served engine answers without its server."""

    def text() -> Any:
        from harness.engines.served.engine import ServedEngine

        return ServedEngine(where, spec, sampling, spec.get("revision"), None, options.get("rows", AT_ONCE[engine]))

    return text


def _with_statistics(
    spec: dict[str, Any],
    options: dict[str, Any],
    load: Callable[[], Any],
    text: Callable[[], Any],
    told: frozenset[str],
) -> LazyEngine:
    """A vLLM engine; with ``statistics=false`` its paths have no token statistics and are stored in a separate bank."""
    statistics = options.pop("statistics", True)
    full = spec | ({} if statistics else {"statistics": False})
    provides, spared = EVERYTHING - {"trace"}, frozenset[Signal]({"token_stats"})
    engine = LazyEngine(full, provides, load, spared=spared, text=text, told=told)
    return engine if statistics else engine.without(frozenset({"token_stats"}))


def open_completions(
    model: str, sampling: Sampling, revision: str | None = None, dtype: str = "float32", **options: Any
) -> LazyEngine:
    """Connect to a ``vllm serve`` at ``url`` without our plug-in: texts and log-probabilities only.

    Its paths depend on where they are cut, so it is suitable for serving but not for a bench. For the arguments see
    ``open_remote``.
    """
    where, spec, options = _resolved("completions", model, sampling, revision, dtype, REMOTE, options)

    def load() -> Any:
        from harness.engines.served.completions import CompletionsEngine

        return CompletionsEngine(where, spec, sampling, revision=spec.get("revision"), **options)

    text = _served_text("completions", where, spec, sampling, options)
    return LazyEngine(spec, frozenset({"text", "token_stats", "forced"}), load, text=text)


def open_toy(model: str, sampling: Sampling, **options: Any) -> Any:
    """Open the seeded toy engine without weights, for tests and for trying out a pruner; see ``harness.engines.toy``."""
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
    """(location of the weights, the spec, which determines the tokens, and the options that do not)."""
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
    # Only if given, so that records from before these options keep their keys.
    spec |= ({"revision": commit} if commit else {}) | ({"chat": chat} if chat else {})
    return where, spec, {name: value for name, value in options.items() if name not in CHAT}
