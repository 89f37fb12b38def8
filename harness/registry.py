"""From names to objects: entry points, ``./file.py@Class``, and specs like ``deepconf:statistic=lowest,window=8``."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import math
import pickle
import sys
from collections.abc import Set
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

from harness.api import Engine, FlopModel, PathpruneError, Pruner, Sampling, Signal, Task, TaskDefaults
from harness.code import code_digest, live_digest, stable_text
from harness.engines import LazyEngine
from harness.plugins import Plugin as Plugin
from harness.plugins import identity_of, traits_of
from harness.public import named
from harness.text import unknown as unknown

Kind = Literal["pruners", "tasks", "engines"]
FILES = (".jsonl", ".json", ".parquet")  # what a task of one's own may lie in
# What a plug-in has of its own, as harness.api says; the rest has defaults there.
ENGINE = ("spec", "provides", "flops", "launch", "resume", "decode", "prompt_length")
SPEC = ("engine", "model", "fingerprint")
LARGEST = 2**63  # of an option: beyond it numbers have no type of 64 bits
TASK = ("name", "version", "defaults", "problems", "answer", "correct")


def names(kind: Kind) -> list[str]:
    """Registered names of a kind, sorted."""
    return sorted({e.name for e in _entries(kind)})


@cache
def _entries(kind: Kind) -> tuple[metadata.EntryPoint, ...]:
    """Read once: reading them opens a file of every distribution that is installed."""
    return tuple(metadata.entry_points(group=f"pathprune.{kind}"))


def load(kind: Kind, name: str) -> tuple[Any, str]:
    """(object, distribution) of a registered name."""
    entries = [e for e in _entries(kind) if e.name == name]
    if not entries:
        raise PathpruneError(unknown(kind[:-1], name, names(kind)))
    dist = entries[0].dist
    source = f"{dist.name} {dist.version}" if dist else "unknown distribution"
    try:
        return entries[0].load(), source
    except (ImportError, AttributeError) as error:
        raise PathpruneError(f"{kind[:-1]} {name!r} of {source} cannot be imported ({error}); reinstall it") from error


def task(spec: str) -> Task:
    """``name``, ``name:k=v,k=v``, ``name:what,k=v`` where a task takes one thing by position, or a file of problems."""
    head, _, tail = spec.partition(":")
    if spec.endswith(FILES) and head not in names("tasks"):
        from_file: Task = load("tasks", "file")[0](spec)
        return from_file
    first, _, rest = tail.partition(",")
    by_position = [first] if first and "=" not in first else []
    options = _options(spec, rest if by_position else tail)
    named: Task = complete_task(_build("task", head, load("tasks", head)[0], by_position, options), head)
    return named


def engine(name: str, model: str, sampling: Sampling, **options: Any) -> Any:
    """The engine of a registered name, opened and checked against ``harness.api.Engine``."""
    return complete(load("engines", name)[0](model, sampling, **options), name)


def complete(opened: Any, name: str) -> Any:
    """An engine with all that ``harness.api.Engine`` asks for: what is optional there has its default if it was left out.

    Raises:
        PathpruneError: members, or keys of ``spec``, that every engine has of its own and this one lacks.
    """
    if isinstance(opened, LazyEngine):  # whose members are there once its weights are
        return opened
    if inspect.isclass(opened):
        raise PathpruneError(f"{opened.__name__} is a class; give an engine: {opened.__name__}(...)")
    missing = [m for m in ENGINE if not hasattr(opened, m)]
    missing = missing or [f"spec[{key!r}]" for key in SPEC if key not in opened.spec]
    if missing:
        raise PathpruneError(f"{name!r} is not an engine: it has no {', '.join(missing)} (see harness.api.Engine)")
    if not isinstance(opened.provides, Set):
        raise PathpruneError(f"engine {name!r}: provides is a frozenset of signals, not {opened.provides!r}")
    if not isinstance(opened.flops, FlopModel):
        raise PathpruneError(f"engine {name!r}: flops is a FlopModel, not {opened.flops!r}")
    try:
        json.dumps(dict(opened.spec))
    except (TypeError, ValueError) as error:
        raise PathpruneError(f"engine {name!r}: spec holds what JSON cannot ({error})") from error
    for signal in opened.provides:
        if signal not in get_args(Signal):
            raise PathpruneError(f"engine {name!r} provides {unknown('signal', str(signal), list(get_args(Signal)))}")
    return opened if isinstance(opened, Engine) else WithDefaults(opened, Engine)


def complete_task(opened: Any, name: str) -> Any:
    """A task with all that ``harness.api.Task`` asks for, likewise."""
    if inspect.isclass(opened):
        raise PathpruneError(f"{opened.__name__} is a class; give a task: {opened.__name__}(...)")
    missing = [m for m in TASK if not hasattr(opened, m)]
    if missing:
        raise PathpruneError(f"{name!r} is not a task: it has no {', '.join(missing)} (see harness.api.Task)")
    if not isinstance(opened.defaults, TaskDefaults):
        raise PathpruneError(f"task {name!r}: defaults is a TaskDefaults, not {opened.defaults!r}")
    return opened if isinstance(opened, Task) else WithDefaults(opened, Task)


class WithDefaults:
    """An object whose class does not inherit from a contract, with the contract's defaults for what it leaves out."""

    def __init__(self, inner: Any, contract: type) -> None:
        self._inner, self._contract = inner, contract

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return getattr(self._inner, name)
        except AttributeError:
            if inspect.getattr_static(self._inner, name, None) is not None:  # it has it, and failed within
                raise
        default = inspect.getattr_static(self._contract, name)
        return default.__get__(self) if hasattr(default, "__get__") else default


def pruner(spec: str) -> Plugin:
    """``name``, ``name:k=v,k=v`` or ``./file.py@Class:k=v``; ``checkpoint=DIR`` is an option of every learned one."""
    head, options = options_of(spec)
    if head.endswith(".py"):
        raise PathpruneError(f"{head} names a file; name its class too: {head}@Class")
    checkpoint = options.pop("checkpoint", None)
    if "@" in head:
        plugin_class, digest = _from_file(head)
        source = f"file {digest[:12]}"
    else:
        plugin_class, source = load("pruners", head)
    name = Path(head.partition("@")[0]).stem + "@" + head.partition("@")[2] if "@" in head else head
    shown = ",".join(f"{k}={named(v)}" for k, v in sorted(options.items()))
    return Plugin(
        pruner=_build("pruner", head, plugin_class, [], options),
        name=f"{name}:{shown}" if shown else name,
        options=options,
        source=source,
        code=code_digest(plugin_class),
        checkpoint=None if checkpoint is None else str(checkpoint),
        spec=spec,
    )


def of_object(given: Any) -> Plugin:
    """A pruner that was made in Python: an instance, or a class that is made without options.

    Its name is that of its class, with the plain values that the instance holds in public attributes as options.
    """
    built = _build("pruner", given.__name__, given, [], {}) if inspect.isclass(given) else given
    name = type(built).__name__
    traits_of(built, name)
    if name in names("pruners"):
        raise PathpruneError(f"your class is named {name}, as a registered pruner is; rename it")
    options = _told_apart(built, name)
    shown = ",".join(f"{k}={v}" for k, v in options.items())
    code = live_digest(type(built))
    return Plugin(built, f"{name}:{shown}" if shown else name, options, f"object {code}", code)


def _told_apart(built: Any, name: str) -> dict[str, Any]:
    """What tells an object from others of its class: plain public values as they are, all else by a digest.

    Records of one object must not be taken for those of another.
    """
    slots = [s for c in type(built).__mro__ for s in vars(c).get("__slots__", ()) if hasattr(built, s)]
    held = {**getattr(built, "__dict__", {}), **{slot: getattr(built, slot) for slot in slots}}
    options = {k: v for k, v in sorted(held.items()) if not k.startswith("_") and _plain(v)}
    rest = {k: v for k, v in sorted(held.items()) if k not in options and v is not None}
    named = getattr(type(built), "identity", Pruner.identity) is not Pruner.identity
    if named:
        options["identity"] = _digest(identity_of(built, name))
    if rest:
        try:
            options["state"] = _digest(rest)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            if named:
                return options
            raise PathpruneError(
                f"{name} holds {', '.join(rest)}, which no record can name ({error}); give the class a method identity() "
                "that names what it holds"
            ) from error
    return options


def _digest(value: Any) -> str:
    return hashlib.sha256(stable_text(value).encode()).hexdigest()[:8]


def _plain(value: Any) -> bool:
    if isinstance(value, str):  # "8" would read like 8
        return not set(value) & set(",=:@ ") and _literal(value) == value
    return isinstance(value, int | float)


def options_of(spec: str) -> tuple[str, dict[str, Any]]:
    """``name:k=v,k=v`` to the name and its options."""
    head, _, tail = spec.partition(":")
    return head, _options(spec, tail)


def _options(spec: str, text: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not value:
            raise PathpruneError(f"malformed spec {spec!r}: {part!r} is not option=value")
        if name in out:
            raise PathpruneError(f"malformed spec {spec!r}: {name!r} is given twice")
        out[name] = _literal(value)
        if isinstance(out[name], int | float) and not abs(out[name]) < LARGEST:
            raise PathpruneError(f"malformed spec {spec!r}: {part!r} is no finite number below 2^63")
    return out


def _literal(text: str) -> Any:
    for kind in (int, float) if text.isascii() and "_" not in text else ():  # Python reads more than a user means
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _build(noun: str, name: str, factory: Any, by_position: list[str], options: dict[str, Any]) -> Any:
    """``factory(*by_position, **options)``; options it does not have are refused, unless it takes any."""
    parameters = inspect.signature(factory).parameters
    known = [n for n, p in parameters.items() if n != "self" and p.kind is not p.VAR_KEYWORD]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for option in options:
        if option not in known and not takes_any:
            raise PathpruneError(unknown(f"option of {name}", option, known or ["(it has none)"]))
    for option, value in options.items():
        _hold(name, option, value, parameters.get(option))
    try:
        return factory(*by_position, **options)
    except (TypeError, ValueError, AttributeError) as error:
        given = ", ".join([*by_position, *(f"{k}={v}" for k, v in options.items())]) or "no options"
        raise PathpruneError(f"{noun} {name!r} cannot be made with {given}: {error}") from error


def _hold(name: str, option: str, value: Any, parameter: inspect.Parameter | None) -> None:
    """Refuse a value of another kind than a parameter's annotation, or else its default, says; and what is no number at all."""
    if isinstance(value, float) and not math.isfinite(value):
        raise PathpruneError(f"{name}: {option}={value} is not finite; give a number")
    if parameter is None:
        return
    kind = getattr(parameter.annotation, "__name__", parameter.annotation)
    if parameter.annotation is parameter.empty and type(parameter.default) in (bool, float):
        kind = type(parameter.default).__name__
    number = isinstance(value, int | float) and not isinstance(value, bool)
    taken = {"int": number and isinstance(value, int), "float": number, "bool": isinstance(value, bool)}
    if not taken.get(kind, True):
        needed = {"int": "a whole number", "float": "a number", "bool": "true or false"}[kind]
        raise PathpruneError(f"{name}: {option}={value} is not {needed}, which {option} is")
    if option == "seed" and number and not 0 <= value < 1 << 63:
        raise PathpruneError(f"{name}: seed={value} is not a whole number from 0 to 2^63 - 1")


def _from_file(head: str) -> tuple[Any, str]:
    name, _, attribute = head.partition("@")
    file = Path(name).expanduser().resolve()
    if not file.is_file() or file.suffix != ".py":
        raise PathpruneError(f"no pruner file at {name}: it has to be an existing .py file")
    module_spec = importlib.util.spec_from_file_location(f"pathprune_plugin_{file.stem}", file)
    assert module_spec and module_spec.loader
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's module raises while it is imported is theirs to mend
        raise PathpruneError(f"{name} cannot be imported ({type(error).__name__}: {error})") from error
    if not hasattr(module, attribute):
        classes = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__]
        raise PathpruneError(unknown(f"class in {name}", attribute, classes))
    return getattr(module, attribute), hashlib.sha256(file.read_bytes()).hexdigest()
