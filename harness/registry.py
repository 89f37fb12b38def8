"""From names to objects: entry points, ``./file.py@Class``, and specs like ``deepconf:statistic=lowest,window=8``."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from harness.api import PathpruneError, Pruner, Sampling, Task
from harness.code import code_digest

Kind = Literal["pruners", "tasks", "engines"]
FILES = (".jsonl", ".json", ".parquet")  # what a task of one's own may lie in


@dataclass(frozen=True)
class Plugin:
    """A pruner ready to run, with what a record says of it."""

    pruner: Pruner
    name: str  # canonical spec: name and sorted options
    options: dict[str, Any]
    source: str  # distribution and version, or the file's SHA-256
    code: str  # digest of what its modules compute (harness.code): a row of other code is marked stale
    checkpoint: str | None = None  # folder asked for with checkpoint=
    spec: str = ""  # as it was asked for


def names(kind: Kind) -> list[str]:
    return sorted({e.name for e in metadata.entry_points(group=f"pathprune.{kind}")})


def load(kind: Kind, name: str) -> tuple[Any, str]:
    """(object, distribution) of a registered name."""
    found = [e for e in metadata.entry_points(group=f"pathprune.{kind}") if e.name == name]
    if not found:
        raise PathpruneError(unknown(kind[:-1], name, names(kind)))
    dist = found[0].dist
    source = f"{dist.name} {dist.version}" if dist else "unknown distribution"
    try:
        return found[0].load(), source
    except (ImportError, AttributeError) as error:
        raise PathpruneError(f"{kind[:-1]} {name!r} of {source} cannot be imported ({error}); reinstall it") from error


def unknown(noun: str, name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"unknown {noun} {name!r}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")


def task(spec: str) -> Task:
    """``name``, ``name:k=v,k=v``, ``name:what,k=v`` where a task takes one thing by position, or a file of problems."""
    head, _, tail = spec.partition(":")
    if spec.endswith(FILES) and head not in names("tasks"):
        own: Task = load("tasks", "file")[0](spec)
        return own
    first, _, rest = tail.partition(",")
    by_position = [first] if first and "=" not in first else []
    options = _options(spec, rest if by_position else tail)
    named: Task = _made("task", head, load("tasks", head)[0], by_position, options)
    return named


def engine(name: str, model: str, sampling: Sampling, **options: Any) -> Any:
    return load("engines", name)[0](model, sampling, **options)


def pruner(spec: str) -> Plugin:
    """``name``, ``name:k=v,k=v`` or ``./file.py@Class:k=v``; ``checkpoint=DIR`` is an option of every learned one."""
    head, options = options_of(spec)
    checkpoint = options.pop("checkpoint", None)
    if "@" in head:
        made, digest = _from_file(head)
        source = f"file {digest[:12]}"
    else:
        made, source = load("pruners", head)
    name = Path(head.partition("@")[0]).stem + "@" + head.partition("@")[2] if "@" in head else head
    shown = ",".join(f"{k}={v}" for k, v in sorted(options.items()))
    return Plugin(
        pruner=_build(head, made, options),
        name=f"{name}:{shown}" if shown else name,
        options=options,
        source=source,
        code=code_digest(made),
        checkpoint=None if checkpoint is None else str(checkpoint),
        spec=spec,
    )


def options_of(spec: str) -> tuple[str, dict[str, Any]]:
    """``name:k=v,k=v`` to the name and its options."""
    head, _, tail = spec.partition(":")
    return head, _options(spec, tail)


def _options(spec: str, text: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name or not value:
            raise PathpruneError(f"malformed spec {spec!r}: {part!r} is not option=value")
        out[name.strip()] = _literal(value.strip())
    return out


def _literal(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _build(name: str, made: Any, options: dict[str, Any]) -> Pruner:
    built = _made("pruner", name, made, [], options)
    missing = [a for a in ("quadrant", "needs", "fidelity") if not hasattr(built, a)]
    if hasattr(built, "decide"):
        missing += ["warmup"] if not hasattr(built, "warmup") else []
    elif not hasattr(built, "score"):
        missing.append("score")
    if missing:
        raise PathpruneError(f"{name!r} is not a pruner: it has no {', '.join(missing)} (see harness.api.Pruner)")
    return built


def _made(noun: str, name: str, made: Any, by_position: list[str], options: dict[str, Any]) -> Any:
    """``made(*by_position, **options)``; options it does not have are refused, unless it takes any."""
    parameters = inspect.signature(made).parameters
    known = [n for n, p in parameters.items() if n != "self" and p.kind is not p.VAR_KEYWORD]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for option in options:
        if option not in known and not takes_any:
            raise PathpruneError(unknown(f"option of {name}", option, known or ["(it has none)"]))
    try:
        return made(*by_position, **options)
    except (TypeError, ValueError, AttributeError) as error:
        given = ", ".join([*by_position, *(f"{k}={v}" for k, v in options.items())]) or "no options"
        raise PathpruneError(f"{noun} {name!r} cannot be made with {given}: {error}") from error


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
