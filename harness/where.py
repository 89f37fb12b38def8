"""The subject of a command: task, engine, lengths and seed, opened at first use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

from harness import advice, registry
from harness.api import PathpruneError, Sampling
from harness.spec import RunSpec, Stage
from harness.text import shown, unknown

DEFAULT_ENGINE = "hf"
WHOLE = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True)
class Where:
    """Task, engine and lengths as given, with the task's defaults for the rest.

    Args:
        task_given: a task's spec, a file of problems, a ``harness.api.Task``, or an imported pool.
        model_given: an embedded model's name, a transformers folder or a hub id; None for the task's.
        engine_given: an engine's spec, or a ``harness.api.Engine``.
        sampling: options such as ``{"temperature": 0.6}``, or the string ``temperature=0.6,top_p=0.95``.
        prefix_given, limit_given: prefix length and maximum path length in tokens; None for the task's. For a pool's units
            see ``harness.imports.units``.
        seed: of the random streams.
    """

    task_given: Any
    model_given: str | None
    engine_given: Any
    sampling: str | Mapping[str, Any] | Sampling
    prefix_given: Any
    limit_given: int | None
    seed: int

    @cached_property
    def pool(self) -> Any:
        """The imported pool (``harness.imports.pool.Pool``) if one is given as task, else None."""
        if isinstance(self.task_given, str):
            return None
        from harness.imports.pool import Pool

        return self.task_given if isinstance(self.task_given, Pool) else None

    @cached_property
    def _cut(self) -> tuple[Any, int | None]:
        """For a pool: its view in the unit of the prefix length, and that length."""
        from harness.imports.units import view_of

        return view_of(self.pool, self.prefix_given)

    @cached_property
    def task(self) -> Any:
        """The task, opened."""
        if self.pool is not None:
            from harness.imports.task import ImportedTask

            return ImportedTask(self._cut[0])
        if isinstance(self.task_given, str):
            return registry.task(self.task_given)
        return registry.complete_task(self.task_given, type(self.task_given).__name__)

    @property
    def model(self) -> str:
        """The model's name, folder or hub id."""
        return str(self.model_given or self.task.defaults.model)

    @property
    def prefix(self) -> int:
        """Prefix length L in tokens; for a pool in the unit in which it was given."""
        if self.pool is not None:
            return given(self._cut[1], self.task.defaults.prefixes[0])
        if isinstance(self.prefix_given, str) and WHOLE.fullmatch(self.prefix_given):
            return int(self.prefix_given)
        if self.prefix_given is not None and not isinstance(self.prefix_given, int):
            raise PathpruneError(
                f"a prefix must be an integer number of tokens, not {shown(self.prefix_given)}; shares and words are for imported pools"
            )
        return given(self.prefix_given, self.task.defaults.prefixes[0])

    @property
    def limit(self) -> int:
        """Maximum path length in tokens."""
        if self.pool is not None and self.limit_given is not None:
            raise PathpruneError(
                f"paths of pool {self.pool.name} have fixed lengths; leave out {advice.option(max_tokens='...')}"
            )
        return given(self.limit_given, self.task.defaults.max_tokens)

    @cached_property
    def engine(self) -> Any:
        """The opened engine; weights are loaded at first use."""
        return self.open(self.task)

    @property
    def by_name(self) -> bool:
        """Whether another process can open the same task and engine by name."""
        return isinstance(self.task_given, str) and isinstance(self.engine_given, str)

    def open(self, task: Any) -> Any:
        """Open the engine, with the task's sampling as the default."""
        if self.pool is not None:
            from harness.imports.engine import ImportedEngine

            return ImportedEngine(self._cut[0], self._inner(task), self.seed)
        return self._named(task)

    def _inner(self, task: Any) -> Any:
        """The engine whose model reads a pool's paths; None if no model is given."""
        if self.model_given is None and isinstance(self.engine_given, str):
            if self.engine_given.partition(":")[0] != DEFAULT_ENGINE:
                raise PathpruneError(
                    f"reading pool {self.pool.name} with an engine needs a model: {advice.option(model='...')}; or leave out the engine"
                )
            return None
        return self._named(task)

    def _named(self, task: Any) -> Any:
        """The engine as given, by name or as an object."""
        if not isinstance(self.engine_given, str):
            if self.model_given or self.sampling:
                raise PathpruneError("an engine object already has a model and sampling; leave out model and sampling")
            return registry.complete(self.engine_given, type(self.engine_given).__name__)
        if self.model_given is not None and not isinstance(self.model_given, str | PurePath):
            raise PathpruneError(f"model must be a name or a folder, not {shown(self.model_given)}")
        name, options = registry.options_of(self.engine_given)
        options = {**task.defaults.engine, **options}
        drawn = self._drawn(task)
        try:
            return registry.engine(name, str(self.model_given or task.defaults.model), drawn, **options)
        except TypeError as error:
            raise PathpruneError(f"engine {name}: {error}") from error  # do not show options, which may include a key

    @property
    def drawn(self) -> Sampling:
        """The sampling: the task's, with the overrides that were given."""
        return self._drawn(self.task)

    def _drawn(self, task: Any) -> Sampling:
        return replace(task.defaults.sampling, **_sampling(self.sampling))

    def spec(self, n: int, stages: tuple[Stage, ...], **rest: Any) -> RunSpec:
        """The spec of a run here; ``rest`` is ``ended`` and ``vote``."""
        return RunSpec.of(self.task, self.engine, n, self.limit, stages, seed=self.seed, **rest)


def _sampling(wanted: str | Mapping[str, Any] | Sampling) -> Mapping[str, Any]:
    """The given options of ``harness.api.Sampling``."""
    if isinstance(wanted, Sampling):
        return asdict(wanted)
    options = registry.options_of(f"sampling:{wanted}")[1] if isinstance(wanted, str) else wanted
    if not isinstance(options, Mapping):
        raise PathpruneError(f"sampling must be options such as temperature=0.6, not {shown(options)}")
    known = [f.name for f in fields(Sampling)]
    for name in options:
        if name not in known:
            raise PathpruneError(unknown("sampling option", str(name), known))
    return options


def given(value: int | None, default: int) -> int:
    """The value, or the default if it is None."""
    return default if value is None else value
