"""An engine that replays imported paths. It samples nothing; where a method needs a model, a local one reads the token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pyarrow as pa

from harness import advice
from harness.api import Cost, Engine, FlopModel, Path, PathpruneError, Problem, Reward, Signal, UnavailableError
from harness.imports.placed import placed
from harness.imports.pool import CLIPPED, FEW_NAMES, View
from harness.imports.tokens import Tokens

JOB = 4_000_000  # tokens of paths held in memory at once, unless a single problem has more
RECORDED = ("probes", "rewards")
NO_FLOPS = FlopModel(0.0, 0.0)


class ImportedEngine(Engine):
    """See ``harness.api.Probing``.

    Args:
        view: a pool in a unit of length.
        inner: an engine with the model that sampled the paths, for methods that read its states; None without a model.
        seed: the seed that runs give the stored paths. A path with another seed is a fresh sample, which no stored path replaces.

    Raises:
        PathpruneError: a model was given for paths without token ids.
    """

    flops: FlopModel

    def __init__(self, view: View, inner: Any = None, seed: int = 0) -> None:
        pool = view.pool
        if inner is not None and not (pool.has("tokens") and view.recorded):
            why = (
                "has no token ids for every path"
                if view.recorded
                else f"is counted in {view.unit}, not in its token ids"
            )
            raise PathpruneError(
                f"pool {pool.name} {why}, so no model can read its paths; leave out {advice.option(model='...')}"
            )
        self.view, self.inner, self.seed = view, inner, seed
        self.spec: Mapping[str, Any] = self._spec()
        self.provides = self._provided()
        self.rows = max(1, int(JOB // max(1.0, view.mean)))
        self._problem: tuple[str, int, list[Path]] = ("", 0, [])
        self._recorded: tuple[str, dict[str, list[Any]]] = ("", {})

    @property
    def closing(self) -> str:  # type: ignore[override]  # known when the model is loaded
        """See ``harness.api.Engine``; that of the local model."""
        return str(getattr(self.inner, "closing", ""))

    @property
    def origin(self) -> dict[str, Any]:
        """The origin of the paths, for records."""
        about = self.view.pool.about
        kept = (
            "name",
            "digest",
            "sources",
            "mapping",
            "shape",
            "grades",
            "disagreements",
            "tokenizer",
            "text_by",
            "unknown_finish",
            CLIPPED,
        )
        told = {key: about[key] for key in kept if about.get(key) is not None}
        return told | {"unit": self.view.unit, "ragged": self.view.pool.ragged()}

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        return [self.resume([Path(p, i, seed) for i in range(n)], max_tokens) for p in problems]

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        stored = [self._stored(path) for path in paths]
        if self.inner is None:
            for path, known in zip(paths, stored, strict=True):
                if known is None:
                    raise UnavailableError(
                        f"pool {self.view.pool.name} was imported: it has no other continuation of path {path.index} of {path.problem.id}, "
                        f"and sampling one needs the model: {advice.option(model='...')}"
                    )
        unknown = [i for i, known in enumerate(stored) if known is None]
        if unknown and self.view.pool.has_outputs and "tools" not in self.inner.spec:
            raise UnavailableError(
                f"paths of pool {self.view.pool.name} were sampled with tools, and the model at hand has none to go on with"
            )
        drawn = iter(self.inner.resume([_with_ids(paths[i]) for i in unknown], max_tokens) if unknown else ())
        return [next(drawn) if known is None else known.cut(max_tokens, self.decode) for known in stored]

    def decode(self, tokens: Sequence[int]) -> str:
        if isinstance(tokens, Tokens):
            return tokens.text
        if self.inner is not None:
            return str(self.inner.decode(tokens))
        raise UnavailableError(
            f"pool {self.view.pool.name} has no decoder of token ids; give the model: {advice.option(model='...')}"
        )

    def prompt_length(self, problem: Problem) -> int:
        entry = self.view.pool.entries.get(problem.id)
        if self.inner is not None:
            return int(self.inner.prompt_length(problem))
        return entry.prompt_tokens or 0 if entry is not None else 0

    def thinking(self, problem: Problem) -> int:
        return int(getattr(self.inner, "thinking", lambda _: 0)(problem))

    def probe(self, paths: Sequence[Path], adapter: Any = None) -> np.ndarray:
        return self._model().probe([_with_ids(p) for p in paths], adapter)

    def trace(
        self, paths: Sequence[Path], reduce: Callable[[np.ndarray, Path], np.ndarray], before: int = 0
    ) -> list[np.ndarray]:
        more = {"before": before} if before else {}
        return list(self._model().trace([_with_ids(p) for p in paths], reduce, **more))

    def reader(self, paths: Sequence[Path], adapter: Any) -> Callable[[Any], Any]:
        return self._model().reader([_with_ids(p) for p in paths], adapter)

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> Any:
        return self._model().new_adapter(folder, **options)

    def next_logprobs(self, paths: Sequence[Path], tokens: Sequence[int]) -> np.ndarray:
        return self._model().next_logprobs([_with_ids(p) for p in paths], tokens)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._model().encode(text))

    def describe(self) -> dict[str, str]:
        return self.inner.describe() if self.inner is not None else {"device": "none, imported paths"}

    def forced(self, paths: Sequence[Path], suffix: str, max_tokens: int) -> tuple[list[str], list[Cost]] | None:
        """The recorded forced answer of each path as text, with its cost; None if a model has to draw it.

        Suffix and answer are charged as if a model drew them. The file does not record their numbers of tokens: the suffix is
        assumed to have its path's characters per token, and the answer the maximum length.

        Raises:
            UnavailableError: no model is at hand, and the file has no probe at this very length.
        """
        if self.inner is not None:
            return None
        texts, costs = [], []
        for path in paths:
            if path.finish == "stop":
                texts.append(self.decode(path.tokens))
                costs.append(Cost())
                continue
            answer = self._answer_at(path)
            closed = "" if answer is None else suffix + answer + ("}" if suffix.endswith("{") else "")
            texts.append(self.decode(path.tokens) + closed)
            costs.append(self._forced_cost(path, suffix, max_tokens))
        return texts, costs

    def rewards(self, path: Path) -> dict[str, list[Reward]]:
        """See ``harness.api.Engine``: scores of steps, of a grid or of tokens; those of whole paths for whole paths alone."""
        name, tokens = f"path {path.index} of {path.problem.id}", path.tokens
        recorded = self._columns(path.problem.id)
        told = recorded["rewards"][path.index]
        if not told:
            raise UnavailableError(f"{name} has no recorded reward")
        if not isinstance(tokens, Tokens):
            raise UnavailableError(f"{name} was drawn by a model, and only the pool's own paths have recorded rewards")
        grid = [p["position"] for p in recorded["probes"][path.index] or ()]
        known, whys = {}, []
        for reward in told:
            try:
                known[reward["name"]] = placed(reward["name"], reward["scores"], tokens.document, grid, tokens.stop)
            except UnavailableError as error:
                whys.append(str(error))
        if not known:
            raise UnavailableError(f"{name}: {'; '.join(whys)}")
        return known

    def __getattr__(self, name: str) -> Any:
        if name == "flops":  # known once the model's weights are loaded
            return self._flops()
        if name.startswith("_") or self.__dict__.get("inner") is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        return getattr(self.inner, name)

    def _flops(self) -> FlopModel:
        """The local model's, or from the pool's stated number of parameters; zero if that is unknown."""
        if self.inner is not None:
            model: FlopModel = self.inner.flops
            return model
        stated = self.view.pool.about.get("flops")
        return FlopModel(**{k: float(v) for k, v in stated.items()}) if stated else NO_FLOPS

    def _spec(self) -> dict[str, Any]:
        pool = self.view.pool
        spec = {
            "engine": "imported",
            "model": pool.name,
            "fingerprint": pool.digest[:16],
            "pool": pool.digest[:16],
            "unit": self.view.unit,
        }
        if self.inner is None:
            return spec
        known = {k: v for k, v in self.inner.spec.items() if k != "engine"}
        return spec | known | {"reader": self.inner.spec["engine"]}

    def _provided(self) -> frozenset[Signal]:
        pool = self.view.pool
        signals: set[Signal] = set()
        if pool.has("text"):
            signals.add("text")
        if pool.statistics and self.view.recorded:
            signals.add("token_stats")
        if pool.signals.get("probes") and self.view.recorded:
            signals.add("forced")
        if pool.signals.get("rewards") and self.view.recorded:
            signals.add("rewards")
        return frozenset(signals | (self.inner.provides - {"text", "token_stats"} if self.inner is not None else set()))

    def _model(self) -> Any:
        if self.inner is None:
            raise UnavailableError(
                f"pool {self.view.pool.name} was imported without its model, which this method needs; give it: {advice.option(model='...')}"
            )
        return self.inner

    def _stored(self, path: Path) -> Path | None:
        """The stored path of which this one is a prefix, or None."""
        if path.seed != self.seed:
            return None
        key = (path.problem.id, path.seed)
        if self._problem[:2] != key:
            self._problem = (*key, self.view.get(path.problem, path.seed))
        known = next((p for p in self._problem[2] if p.index == path.index), None)
        return known if known is not None and known.tokens[: len(path.tokens)] == path.tokens else None

    def _answer_at(self, path: Path) -> str | None:
        probes = self._columns(path.problem.id)["probes"][path.index] or []
        at = len(path.tokens)
        known = next((p for p in probes if p["position"] == at), None)
        if known is None:
            grid = sorted({p["position"] for p in probes})
            told = ", ".join(map(str, grid[:FEW_NAMES])) + ", ..." * (len(grid) > FEW_NAMES)
            raise UnavailableError(
                f"pool {self.view.pool.name} has no forced answer at {at} {self.view.unit}; its grid is {told or 'empty'}: use a prefix "
                f"on the grid, or give the model: {advice.option(model='...')}"
            )
        answer: str | None = known["answer"]
        return answer

    def _forced_cost(self, path: Path, suffix: str, max_tokens: int) -> Cost:
        """The model is fed the prefix's last token, the suffix, and the answer without its last token."""
        length = len(path.tokens)
        rate = max(1.0, len(self.decode(path.tokens)) / max(1, length))
        probed = ceil(len(suffix) / rate) + max_tokens
        start = self.prompt_length(path.problem) + max(0, length - 1)
        return Cost(probed=probed, flops=float(self.flops(start, start + probed)))

    def _columns(self, problem: str) -> dict[str, list[Any]]:
        """Probes and rewards of a problem's paths; only the latest problem is cached."""
        if self._recorded[0] != problem:
            rows: pa.Table = self.view.pool.rows(problem, RECORDED)
            self._recorded = problem, {name: rows[name].to_pylist() for name in RECORDED}
        return self._recorded[1]


def _with_ids(path: Path) -> Path:
    """The path with plain token ids, which model engines need."""
    return path if isinstance(path.tokens, tuple) else replace(path, tokens=tuple(path.tokens))
