"""Resolve names to objects: entry points, ``./file.py@Class``, and specs such as ``deepconf:statistic=lowest,window=8``."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import math
import re
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from harness.api import PathpruneError, Sampling, Task
from harness.engines.options import CHAT, TOOLS, hold
from harness.plugins.code import code_digest, is_beside, live_digest
from harness.plugins.contracts import complete as complete
from harness.plugins.contracts import complete_task as complete_task
from harness.plugins.declared import Method as Method
from harness.plugins.declared import Plugin as Plugin
from harness.plugins.declared import member, traits_of
from harness.plugins.guard import OURS, PluginError, blamed, contained, is_ours
from harness.plugins.objects import told_apart
from harness.public import named
from harness.text import literal, reason, shown
from harness.text import unknown as unknown
from harness.tools.engine import ToolEngine
from pathprune.children import tell_children

Kind = Literal["pruners", "tasks", "engines"]
FILES = (".jsonl", ".json", ".parquet")  # file types of a user's own task
TEMPLATED = ("hf", "vllm", "vllm-http")  # engines that apply a chat template to prompts
EXAMPLES = {"lm_eval": "lm_eval:gsm8k", "reasoning_gym": "reasoning_gym:chain_sum", "file": "problems.jsonl"}
LARGEST = 2**63  # bound of an option's value: larger numbers do not fit 64 bits
MOST = {  # bounds of our pruners' options that determine the amount of computation
    "max_tokens": 1 << 20, "tokens": 1 << 20, "n": 1 << 16, "cuts": 1 << 16, "rank": 1 << 16, "hidden": 1 << 16, "epochs": 1 << 20,
}  # fmt: skip


def names(kind: Kind) -> list[str]:
    """Registered names of one kind, sorted."""
    return sorted({e.name for e in _entries(kind)})


def _entries(kind: Kind) -> tuple[metadata.EntryPoint, ...]:
    return _entries_on(tuple(sys.path), kind)


@cache
def _entries_on(path: tuple[str, ...], kind: Kind) -> tuple[metadata.EntryPoint, ...]:
    """Cached by search path, because reading entry points opens a file of every installed distribution."""
    return tuple(metadata.entry_points(group=f"pathprune.{kind}"))


def load(kind: Kind, name: str) -> tuple[Any, str]:
    """Load a registered object.

    Returns:
        The object, and its distribution with version.

    Raises:
        PathpruneError: the name is unknown, or the object cannot be imported.
    """
    entries = [e for e in _entries(kind) if e.name == name]
    if not entries:
        raise PathpruneError(unknown(kind[:-1], name, names(kind)))
    dist = entries[0].dist
    source = f"{dist.name} {dist.version}" if dist else "unknown distribution"
    try:
        if entries[0].value.partition(".")[0] in OURS:
            return entries[0].load(), source
        return contained(entries[0].load), source
    except (ImportError, AttributeError, PluginError) as error:
        raise PathpruneError(f"{kind[:-1]} {name!r} of {source} cannot be imported ({error}); reinstall it") from error


def task(spec: str) -> Task:
    """Open a task.

    Args:
        spec: ``name``, ``name:k=v,k=v``, ``name:value,k=v`` for a task with a positional argument, or a file of problems.

    Raises:
        PathpruneError: an unknown task or option, or a missing name.
    """
    head, _, tail = spec.partition(":")
    if spec.endswith(FILES) and head not in names("tasks"):
        from_file: Task = load("tasks", "file")[0](spec)
        return from_file
    first, _, rest = tail.partition(",")
    by_position = [first] if first and "=" not in first else []
    options = _options(spec, rest if by_position else tail)
    factory = load("tasks", head)[0]
    if not by_position and _needs_name(head, factory, options):
        raise PathpruneError(f"task {head} needs a name; give one, such as {EXAMPLES.get(head, head + ':NAME')}")
    named: Task = complete_task(_build("task", head, factory, by_position, options), head)
    return named


def engine(name: str, model: str, sampling: Sampling, **options: Any) -> Any:
    """Open a registered engine and check it against ``harness.api.Engine``.

    Raises:
        PathpruneError: an unknown engine or option, or an engine that violates the contract.
    """
    factory = load("engines", name)[0]
    tools = {option: value for option, value in options.items() if option in TOOLS}
    rest = {option: value for option, value in options.items() if option not in TOOLS}
    if tools:
        hold(name, tools, TOOLS)
    if tools and "tools" not in tools:
        raise PathpruneError(f"engine {name}: {min(tools)} requires tools=python; add it, or leave out {min(tools)}")
    if tools and name in TEMPLATED:
        rest |= {option: value for option, value in tools.items() if option in CHAT}
    with nullcontext() if is_ours(factory) else blamed(f"engine {name!r}"):
        opened = factory(model, sampling, **rest)
    completed = complete(opened, name)
    return ToolEngine(completed, tools) if tools else completed


def pruner(spec: str) -> Plugin:
    """Open a pruner.

    Args:
        spec: ``name``, ``name:k=v,k=v`` or ``./file.py@Class:k=v``; every learned pruner also takes ``checkpoint=DIR``.

    Raises:
        PathpruneError: an unknown pruner or option, or a class that violates the contract.
    """
    head, options = options_of(spec)
    if head.endswith(".py"):
        raise PathpruneError(f"{head} names a file; name its class too: {head}@Class")
    checkpoint = options.pop("checkpoint", None)
    if "@" in head:
        with blamed(f"pruner {head!r}"):  # even inspecting a third-party class may raise
            plugin_class, digest = _from_file(head)
            return _plugin(spec, head, options, checkpoint, plugin_class, f"file {digest[:12]}")
    plugin_class, source = load("pruners", head)
    with nullcontext() if is_ours(plugin_class) else blamed(f"pruner {head!r}"):
        return _plugin(spec, head, options, checkpoint, plugin_class, source)


def method(spec: str) -> Method:
    """Open a method: a pruner's spec, or a scorer and a stopping rule joined with +, as in ``stop+asc:threshold=0.95``.

    Raises:
        PathpruneError: an invalid spec, or two pruners that cannot be combined.
    """
    if (cut := _rule_begins(spec)) is None:
        return Method.alone(pruner(spec))
    scorer, rule = pruner(spec[:cut]), pruner(spec[cut + 1 :])
    if scorer.traits.decides:
        raise PathpruneError(
            f"{spec!r}: {scorer.name} decides by a rule of its own; put a pruner that scores prefixes before the +, such as stop"
        )
    if not rule.traits.stops:
        raise PathpruneError(f"{spec!r}: {no_rule(rule.name)}")
    return Method(scorer, rule)


def no_rule(name: str) -> str:
    """The message for a pruner where a stopping rule is wanted, with those that there are."""
    return f"{name} is not a stopping rule; known: {', '.join(filter(_stops, names('pruners')))}"


def _stops(name: str) -> bool:
    """Is this registered pruner a stopping rule? One that cannot be opened is none to choose."""
    try:
        return pruner(name).traits.stops
    except PathpruneError:
        return False


def _rule_begins(spec: str) -> int | None:
    """Index of the + that precedes a pruner; option values and file names may contain other +."""
    known = names("pruners")
    for match in reversed([*re.finditer(r"\+", spec)]):
        head = spec[match.end() :].partition(":")[0]
        if head in known or "@" in head:
            return match.start()
    return None


def _plugin(spec: str, head: str, options: dict[str, Any], checkpoint: Any, plugin_class: Any, source: str) -> Plugin:
    """Build the pruner of a spec from its class."""
    name = Path(head.partition("@")[0]).stem + "@" + head.partition("@")[2] if "@" in head else head
    shown = ",".join(f"{k}={named(v)}" for k, v in sorted(options.items()))
    built = _build("pruner", head, plugin_class, [], options)
    scorer = _scorer_of(built, head, checkpoint)
    plugin = Plugin(
        pruner=built,
        name=f"{name}:{shown}" if shown else name,
        options=options,
        source=source,
        code=code_digest(plugin_class),
        checkpoint=None if checkpoint is None else str(checkpoint),
        spec=spec,
        scorer=scorer,
    )
    if scorer is not None:
        return plugin
    if checkpoint is not None and not plugin.traits.learns:
        raise _unknown_option(head, "checkpoint", _known(_parameters("pruner", head, plugin_class)))
    if checkpoint is not None and not plugin.needs_checkpoint:
        raise PathpruneError(f"{head} uses either the model in model= or a checkpoint; leave out one of them")
    return plugin


def _scorer_of(rule: Any, name: str, checkpoint: Any = None) -> Plugin | None:
    """The opened scorer of a decision rule; None for a method without a scorer.

    Raises:
        PathpruneError: the scorer does not score paths one by one.
    """
    asked = member(rule, "scorer", None, name) if callable(member(rule, "decide", None, name)) else None
    if asked is None:
        return None
    scorer = pruner(asked) if isinstance(asked, str) else of_object(asked)
    if scorer.traits.decides or not scorer.traits.pointwise:
        does = "decides by a rule of its own" if scorer.traits.decides else "scores paths relative to each other"
        raise PathpruneError(
            f"{name}: scorer {scorer.name} {does}; choose one that scores each path on its own, such as stop"
        )
    if checkpoint is not None:
        if not scorer.needs_checkpoint:
            raise PathpruneError(f"{name}: scorer {scorer.name} does not use a checkpoint; leave out checkpoint")
        scorer = replace(scorer, checkpoint=str(checkpoint))
    return scorer


def of_object(given: Any) -> Plugin:
    """A pruner given as a Python object: an instance, or a class that needs no arguments.

    Its name is the class name; its options are the plain values of the instance's public attributes.

    Raises:
        PathpruneError: the object violates the contract, or its class is named like a registered pruner.
    """
    is_class = issubclass(type(given), type)
    with blamed(f"pruner {type(given).__name__ if not is_class else type.__dict__['__name__'].__get__(given)!r}"):
        return _of_object(given, is_class)


def _of_object(given: Any, is_class: bool) -> Plugin:
    built = _build("pruner", given.__name__, given, [], {}) if is_class else given
    name = type(built).__name__
    traits_of(built, name)
    if name in names("pruners"):
        raise PathpruneError(f"your class is named {name}, like a registered pruner; rename it")
    options = told_apart(built, name)
    shown = ",".join(f"{k}={v}" for k, v in options.items())
    code = live_digest(type(built))
    scorer = _scorer_of(built, name)
    return Plugin(built, f"{name}:{shown}" if shown else name, options, f"object {code}", code, scorer=scorer)


def split_specs(specs: str) -> list[str]:
    """Split comma-separated specs. ``a:x=1,y=2,b`` is two: a part with ``=`` before any ``:`` continues the previous spec."""
    parts: list[str] = []
    for part in filter(None, specs.split(",")):
        if parts and "=" in part.partition(":")[0]:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return parts


def options_of(spec: str) -> tuple[str, dict[str, Any]]:
    """Parse ``name:k=v,k=v`` into the name and its options."""
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
        out[name] = literal(value)
        if isinstance(out[name], int | float) and not abs(out[name]) < LARGEST:
            raise PathpruneError(f"malformed spec {spec!r}: {part!r} is not a finite number below 2^63")
    return out


def _build(noun: str, name: str, factory: Any, by_position: list[str], options: dict[str, Any]) -> Any:
    """Call ``factory(*by_position, **options)``; unknown options are refused unless it takes arbitrary ones."""
    if not callable(factory):
        raise PathpruneError(f"{noun} {name!r} must be a class, not {shown(factory)}")
    if inspect.isabstract(factory) or getattr(factory, "_is_protocol", False):
        raise PathpruneError(f"{name} is an abstract {noun}; give a class that implements all of it")
    parameters = _parameters(noun, name, factory)
    known = _known(parameters)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for option in options:
        if option not in known and not takes_any:
            raise _unknown_option(name, option, known)
    for option, value in options.items():
        _hold(name, option, value, parameters.get(option))
        if noun == "pruner" and is_ours(factory) and option in MOST and not value <= MOST[option]:
            raise PathpruneError(
                f"{name}: {option}={value} would take too long to compute; give {MOST[option]:,} or less"
            )
    given = ", ".join([*by_position, *(f"{k}={v}" for k, v in options.items())]) or "no options"
    try:
        return contained(lambda: factory(*by_position, **options))
    except PluginError as error:
        cause = error.__cause__
        if isinstance(cause, PathpruneError):
            raise cause from None
        if cause is not None and is_ours(factory) and not isinstance(cause, (TypeError, ValueError, AttributeError)):
            raise cause  # noqa: B904  (our bug, as it is)
        raise PathpruneError(f"{noun} {name!r} cannot be made with {given}: {error}") from cause


def _known(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Names of the options among the parameters of a class or function."""
    return [n for n, p in parameters.items() if n != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]


def _unknown_option(name: str, option: str, known: list[str]) -> PathpruneError:
    if not known:
        return PathpruneError(f"{name} has no options; leave out {option}")
    return PathpruneError(unknown(f"option of {name}", option, known))


def _parameters(noun: str, name: str, factory: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a class or function."""
    if (
        inspect.isclass(factory)
        and not any(
            part in vars(base) and not vars(base).get("_is_protocol")  # a protocol's signature accepts anything
            for base in factory.__mro__[:-1]
            for part in ("__init__", "__new__")
        )
    ):
        return {}
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:  # classes written in C may have no signature
        raise PathpruneError(
            f"{noun} {name} has no readable signature ({reason(error)}); give a class written in Python"
        ) from error


def _needs_name(name: str, factory: Any, options: Mapping[str, Any]) -> bool:
    """Whether a task's required positional argument is missing."""
    first = next(iter(_parameters("task", name, factory).values()), None)
    return (
        first is not None
        and first.kind is first.POSITIONAL_OR_KEYWORD
        and first.default is first.empty
        and first.name not in options
    )


def _hold(name: str, option: str, value: Any, parameter: inspect.Parameter | None) -> None:
    """Refuse a value that does not match the parameter's annotation or, without one, its default; refuse non-finite numbers."""
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
        needed = {"int": "an integer", "float": "a number", "bool": "true or false"}[kind]
        raise PathpruneError(f"{name}: {option} must be {needed}, not {value}")
    if option == "seed" and number and not 0 <= value < 1 << 63:
        raise PathpruneError(f"{name}: seed must be an integer from 0 to 2^63 - 1, not {value}")


def _from_file(head: str) -> tuple[Any, str]:
    name, _, attribute = head.partition("@")
    try:
        file = Path(name).expanduser().resolve()
        source = file.read_bytes() if file.suffix == ".py" else None
    except PermissionError as error:
        raise PathpruneError(f"{name} cannot be read (permission denied): allow reading it, or copy it") from error
    except (OSError, RuntimeError, ValueError):  # not there, no such user, no such name
        source = None
    if source is None:
        raise PathpruneError(f"no pruner file at {name}: give an existing .py file")
    module_spec = importlib.util.spec_from_file_location(f"pathprune_plugin_{file.stem}", file)
    assert module_spec and module_spec.loader
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    tell_children(module_spec.name, file)
    run = partial(module_spec.loader.exec_module, module)
    try:
        contained(run)
    except PluginError as error:  # the user can fix whatever the module raises during import
        del sys.modules[module_spec.name]
        raise PathpruneError(f"{name} cannot be imported ({error})") from error.__cause__
    members = list(vars(module).items())
    classes = [n for n, v in members if inspect.isclass(v) and v.__module__ == module.__name__]
    if not hasattr(module, attribute):
        raise PathpruneError(unknown(f"class in {name}", attribute, classes))
    chosen = getattr(module, attribute)
    if not inspect.isclass(chosen):
        raise PathpruneError(
            f"{attribute} in {name} must be a class, not {shown(chosen)}; classes: {', '.join(classes)}"
        )
    if not (chosen.__module__.partition(".")[0] in OURS or is_beside(chosen, module.__name__, file.parent)):
        raise PathpruneError(
            f"{attribute} is not defined in {name} but in {chosen.__module__}; name the file that defines it, or give a class of "
            f"its own: class Mine({attribute})"
        )
    return chosen, hashlib.sha256(source).hexdigest()
