"""On what a verb works: task, engine, lengths and seed, as they were asked for, opened at first use."""

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
    """Names or objects, and the task's defaults for what is not given.

    Args:
        task_given: a task's spec, a file of problems, a ``harness.api.Task``, or an imported pool.
        model_given: an embedded model's name, a folder of transformers or a hub id; None for the task's.
        engine_given: an engine's spec, or a ``harness.api.Engine``.
        sampling: options such as ``{"temperature": 0.6}``, or ``temperature=0.6,top_p=0.95`` in one string.
        prefix_given, limit_given: prefix length and longest path in tokens; None for the task's. Of a pool, see
            ``harness.imports.units``.
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
        """The imported pool (``harness.imports.pool.Pool``) that is given as task, or None."""
        if isinstance(self.task_given, str):
            return None
        from harness.imports.pool import Pool

        return self.task_given if isinstance(self.task_given, Pool) else None

    @cached_property
    def _cut(self) -> tuple[Any, int | None]:
        """Of a pool: its view in the unit of the prefix length, and that length."""
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
        """Prefix length L in tokens, of a pool in the unit that it is given in."""
        if self.pool is not None:
            return given(self._cut[1], self.task.defaults.prefixes[0])
        if isinstance(self.prefix_given, str) and WHOLE.fullmatch(self.prefix_given):
            return int(self.prefix_given)
        if self.prefix_given is not None and not isinstance(self.prefix_given, int):
            raise PathpruneError(
                f"a prefix is a whole number of tokens, not {shown(self.prefix_given)}; shares and words are for imported pools"
            )
        return given(self.prefix_given, self.task.defaults.prefixes[0])

    @property
    def limit(self) -> int:
        """Longest path in tokens."""
        if self.pool is not None and self.limit_given is not None:
            raise PathpruneError(
                f"paths of pool {self.pool.name} are as long as they are; leave out {advice.option(max_tokens='...')}"
            )
        return given(self.limit_given, self.task.defaults.max_tokens)

    @cached_property
    def engine(self) -> Any:
        """The engine, opened; its weights are loaded when it is first used."""
        return self.open(self.task)

    @property
    def by_name(self) -> bool:
        """Can another process open the same?"""
        return isinstance(self.task_given, str) and isinstance(self.engine_given, str)

    def open(self, task: Any) -> Any:
        """The engine, with the task's own sampling where no other was asked for."""
        if self.pool is not None:
            from harness.imports.engine import ImportedEngine

            return ImportedEngine(self._cut[0], self._inner(task), self.seed)
        return self._named(task)

    def _inner(self, task: Any) -> Any:
        """The engine of the model that is to read a pool's paths; None where none is given."""
        if self.model_given is None and isinstance(self.engine_given, str):
            if self.engine_given.partition(":")[0] != DEFAULT_ENGINE:
                raise PathpruneError(
                    f"pool {self.pool.name} is read by an engine only with a model: {advice.option(model='...')}; or leave out the engine"
                )
            return None
        return self._named(task)

    def _named(self, task: Any) -> Any:
        """The engine that is given by name, or as an object."""
        if not isinstance(self.engine_given, str):
            if self.model_given or self.sampling:
                raise PathpruneError(
                    "an engine that is an object has its model and sampling; leave out model and sampling"
                )
            return registry.complete(self.engine_given, type(self.engine_given).__name__)
        if self.model_given is not None and not isinstance(self.model_given, str | PurePath):
            raise PathpruneError(f"model is a name or a folder, not {shown(self.model_given)}")
        name, options = registry.options_of(self.engine_given)
        options = {**task.defaults.engine, **options}
        drawn = self._drawn(task)
        try:
            return registry.engine(name, str(self.model_given or task.defaults.model), drawn, **options)
        except TypeError as error:
            raise PathpruneError(f"engine {name}: {error}") from error  # options may hold a key

    @property
    def drawn(self) -> Sampling:
        """How tokens are drawn: as the task says, but for what was asked for."""
        return self._drawn(self.task)

    def _drawn(self, task: Any) -> Sampling:
        return replace(task.defaults.sampling, **_sampling(self.sampling))

    def spec(self, n: int, stages: tuple[Stage, ...], **rest: Any) -> RunSpec:
        """The spec of a run here; ``rest`` is ``ended`` and ``vote``."""
        return RunSpec.of(self.task, self.engine, n, self.limit, stages, seed=self.seed, **rest)


def _sampling(wanted: str | Mapping[str, Any] | Sampling) -> Mapping[str, Any]:
    """Options of ``harness.api.Sampling`` as they were asked for."""
    if isinstance(wanted, Sampling):
        return asdict(wanted)
    options = registry.options_of(f"sampling:{wanted}")[1] if isinstance(wanted, str) else wanted
    if not isinstance(options, Mapping):
        raise PathpruneError(f"sampling is options such as temperature=0.6, not {shown(options)}")
    known = [f.name for f in fields(Sampling)]
    for name in options:
        if name not in known:
            raise PathpruneError(unknown("sampling option", str(name), known))
    return options


def given(value: int | None, default: int) -> int:
    """The value, or the default where there is none; 0 is a value."""
    return default if value is None else value
