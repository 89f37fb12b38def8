"""Third-party tasks and engines, held to ``harness.api``: members are checked on opening, a task's judgements on use. Paths from
engines are checked in ``harness.plugins.sampled``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Set
from functools import wraps
from typing import Any, get_args

import numpy as np

from harness.api import Engine, FlopModel, Path, PathpruneError, Problem, Sampling, Signal, Task, TaskDefaults
from harness.engines import LazyEngine
from harness.plugins.declared import as_json, member
from harness.plugins.guard import attribute, blamed, is_ours
from harness.text import is_utf8, shown, unknown

# Members that a plug-in has to define; harness.api has defaults for the others.
ENGINE = ("spec", "provides", "flops", "launch", "resume", "decode", "prompt_length")
SPEC = ("engine", "model", "fingerprint")
ABSENT = object()
MOST_FLOPS_EACH = 1e50  # per token, to keep costs below harness.api.MOST_FLOPS
LONGEST_PROMPT = 2**31 - 1  # tokens; records store 32 bits
TASK = ("name", "version", "defaults", "problems", "answer", "correct")


def complete(opened: Any, name: str) -> Any:
    """Check an engine against ``harness.api.Engine``, and supply defaults for missing optional members.

    Args:
        opened: the engine.
        name: its name, for messages.

    Raises:
        PathpruneError: a required member or key of ``spec`` is missing or invalid.
    """
    if isinstance(opened, LazyEngine):  # it has no members before its weights are loaded
        return opened
    _require(opened, name, "engine", ENGINE)
    spec = member(opened, "spec", None, name)
    if not isinstance(spec, Mapping):
        raise PathpruneError(f"engine {name!r}: spec must be a dictionary, not {shown(spec)}")
    if missing := [f"spec[{key!r}]" for key in SPEC if key not in spec]:
        raise PathpruneError(f"{name!r} is not an engine: it has no {', '.join(missing)} (see harness.api.Engine)")
    try:
        as_json("spec", dict(spec), allow_nan=False)
    except PathpruneError as error:
        raise PathpruneError(f"engine {name!r}: spec contains a value that JSON cannot store ({error})") from error
    guarded = opened if is_ours(opened) else GuardedEngine(opened, f"engine {name!r}", Engine)
    _check_engine(guarded, name)
    return guarded


def _check_engine(engine: Any, name: str) -> None:
    provides, flops, rows = engine.provides, engine.flops, engine.rows
    if not isinstance(provides, Set):
        raise PathpruneError(f"engine {name!r}: provides must be a frozenset of signals, not {shown(provides)}")
    for signal in provides:
        if signal not in get_args(Signal):
            raise PathpruneError(f"engine {name!r} provides {unknown('signal', str(signal), list(get_args(Signal)))}")
    if not isinstance(flops, FlopModel):
        raise PathpruneError(f"engine {name!r}: flops must be a FlopModel, not {shown(flops)}")
    if not all(isinstance(v, int | float) and 0 <= v <= MOST_FLOPS_EACH for v in vars(flops).values()):
        raise PathpruneError(
            f"engine {name!r}: flops must have two finite numbers from 0 to {MOST_FLOPS_EACH:g}, not {shown(flops)}"
        )
    if not isinstance(rows, int) or rows < 1:
        raise PathpruneError(f"engine {name!r}: rows must be an integer of 1 or more, not {shown(rows)}")
    if not isinstance(engine.fingerprint, str):
        raise PathpruneError(f"engine {name!r}: fingerprint must be a string, not {shown(engine.fingerprint)}")


def complete_task(opened: Any, name: str) -> Any:
    """Check a task against ``harness.api.Task``, and supply defaults for missing optional members; see ``complete``."""
    _require(opened, name, "task", TASK)
    for label in ("name", "version"):
        value = member(opened, label, None, name)
        if not isinstance(value, str) or not value:
            raise PathpruneError(f"task {name!r}: {label} must be a string, not {shown(value)}")
    defaults = member(opened, "defaults", None, name)
    if not isinstance(defaults, TaskDefaults):
        raise PathpruneError(f"task {name!r}: defaults must be a TaskDefaults, not {shown(defaults)}")
    _check_defaults(defaults, name)
    return opened if is_ours(opened) else GuardedTask(opened, f"task {name!r}", Task)


def _check_defaults(defaults: TaskDefaults, name: str) -> None:
    for label in ("model", "closing", "step"):
        if not isinstance(value := getattr(defaults, label), str):
            raise PathpruneError(f"task {name!r}: defaults.{label} must be a string, not {shown(value)}")
    if not isinstance(defaults.sampling, Sampling):
        raise PathpruneError(f"task {name!r}: defaults.sampling must be a Sampling, not {shown(defaults.sampling)}")
    if not isinstance(defaults.engine, Mapping) or not all(isinstance(option, str) for option in defaults.engine):
        raise PathpruneError(
            f"task {name!r}: defaults.engine must be options of an engine, not {shown(defaults.engine)}"
        )
    prefixes = defaults.prefixes
    counts = (defaults.max_tokens, defaults.problems, *(prefixes if isinstance(prefixes, tuple | list) else (None,)))
    if not prefixes or not all(isinstance(count, int) and count > 0 for count in counts):
        raise PathpruneError(
            f"task {name!r}: defaults has max_tokens, problems and one or more prefixes, all integers above 0, not "
            f"{shown(counts)}"
        )


def _require(opened: Any, name: str, noun: str, members: tuple[str, ...]) -> None:
    article = "an" if noun == "engine" else "a"
    if inspect.isclass(opened):
        raise PathpruneError(f"{opened.__name__} is a class; pass {article} {noun}: {opened.__name__}(...)")
    missing = [m for m in members if member(opened, m, ABSENT, name) is ABSENT]
    if missing:
        contract = f"harness.api.{noun.capitalize()}"
        raise PathpruneError(f"{name!r} is not {article} {noun}: it has no {', '.join(missing)} (see {contract})")


class Guarded:
    """Wraps a third-party object: its exceptions become one line that names it, and missing members get the contract's default."""

    def __init__(self, inner: Any, name: str, contract: type) -> None:
        self._inner, self._name, self._contract = inner, name, contract

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copying and pickling ask for such names
            raise AttributeError(name)
        with blamed(f"{self._name}: {name}"):
            value = attribute(self._inner, name, ABSENT)
        if value is ABSENT:
            default = inspect.getattr_static(self._contract, name)
            value = default.__get__(self) if hasattr(default, "__get__") else default
        is_method = inspect.isroutine(value) or (
            callable(value) and inspect.isroutine(getattr(self._contract, name, None))
        )
        return self._called(name, value) if is_method else value

    def _called(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def called(*given: Any, **options: Any) -> Any:
            with blamed(f"{self._name}: {name}()"):
                return method(*given, **options)

        return called

    def _broken(self, name: str, given: Any, wanted: str) -> PathpruneError:
        return PathpruneError(
            f"{self._name}: {name}() returned {shown(given)}, not {wanted} (see harness.api.{self._contract.__name__})"
        )


class GuardedEngine(Guarded):
    """Wraps a third-party engine and checks the values that go into records."""

    def prompt_length(self, problem: Problem) -> int:
        given = self.__getattr__("prompt_length")(problem)
        if not isinstance(given, int | np.integer) or not 0 <= given <= LONGEST_PROMPT:
            raise self._broken("prompt_length", given, "an integer of tokens, 0 or more")
        return int(given)

    def describe(self) -> dict[str, str]:
        given = self.__getattr__("describe")()
        if not isinstance(given, Mapping) or not all(isinstance(v, str) for part in given.items() for v in part):
            raise self._broken("describe", given, "a dictionary of strings")
        return dict(given)


class GuardedTask(Guarded):
    """Wraps a third-party task and checks its problems and judgements."""

    def __init__(self, inner: Any, name: str, contract: type) -> None:
        super().__init__(inner, name, contract)
        self._seen: dict[tuple[str, int | None, int], list[Problem]] = {}

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        """The task's problems, which have to be the same at every call, since records name them by id."""
        asked = (split, n, start)
        first = self._seen.get(asked) or self._problems(*asked)
        again = self._problems(*asked)
        if first != again:
            raise PathpruneError(
                f"{self._name}: problems() returned different problems at each call, not the same ones (see harness.api.Task)"
            )
        self._seen[asked] = first
        return again

    def _problems(self, split: str, n: int | None, start: int) -> list[Problem]:
        given = self.__getattr__("problems")(split, n, start)
        if not isinstance(given, list | tuple):
            raise self._broken("problems", given, "a list of Problem")
        for problem in given:
            if not isinstance(problem, Problem):
                raise self._broken("problems", problem, "a list of Problem")
            for name, value in vars(problem).items():
                if not isinstance(value, str):
                    raise self._broken("problems", problem, f"a {name} that is a string")
                if name != "id" and not is_utf8(value):
                    raise self._broken("problems", problem, f"a {name} without lone surrogates")
        return list(given)

    def answer(self, text: str) -> str | None:
        given = self.__getattr__("answer")(text)
        if given is not None and not isinstance(given, str):
            raise self._broken("answer", given, "a string or None")
        if given is not None and not is_utf8(given):
            raise self._broken("answer", given, "a string without lone surrogates")
        return given if given is None else str.__str__(given)  # bypasses the __str__ of a subclass

    def correct(self, answer: str | None, problem: Problem) -> bool:
        return self._judged("correct", answer, problem)

    def ended(self, text: str) -> bool:
        return self._judged("ended", text)

    def recorded(self, path: Path) -> tuple[str | None, bool] | None:
        given = self.__getattr__("recorded")(path)
        if given is None:
            return None
        is_pair = isinstance(given, tuple) and len(given) == 2
        if not (is_pair and isinstance(given[0], str | None) and isinstance(given[1], bool)):
            raise self._broken("recorded", given, "an answer and True or False, or None")
        return given

    def _judged(self, name: str, *about: Any) -> bool:
        given = self.__getattr__(name)(*about)
        if not isinstance(given, bool | np.bool_):
            raise self._broken(name, given, "True or False")
        return bool(given)
