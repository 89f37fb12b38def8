"""Pruners that are objects: what tells one from another of its class, and what use has merely changed about it."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from harness.api import PathpruneError, Pruner
from harness.plugins.code import PLAIN, stable_text
from harness.plugins.declared import Plugin, identity_of
from harness.plugins.guard import PluginError, contained
from harness.text import literal


@dataclass(frozen=True)
class _Attribute:
    """What an attribute held at one time: a plain ``value``, or else its ``text``, or else why it has none."""

    value: Any = None
    text: str = ""
    nameless: str = ""


@dataclass
class _Used:
    """An object's attributes before it was used, and a mark of each as use left it."""

    alive: weakref.ref[Any]
    before: dict[str, _Attribute]
    after: dict[str, str] = field(default_factory=dict)


LARGEST = 2**63  # of a number that stands in a name, as in specs
_used: dict[int, _Used] = {}


def told_apart(built: Any, name: str) -> dict[str, Any]:
    """What tells an object from others of its class: plain public values as they are, all else by a digest.

    Records of one object must not be taken for those of another.

    Raises:
        PathpruneError: an object that holds what cannot be written down, and has no ``identity`` that names it.
    """
    held = _before_use(built)
    options = {k: a.value for k, a in sorted(held.items()) if a.value is not None}
    rest = {k: a for k, a in sorted(held.items()) if a.value is None}
    named = getattr(type(built), "identity", Pruner.identity) is not Pruner.identity
    if named:
        options["identity"] = _sha(stable_text(identity_of(built, name)))
    nameless = [a.nameless for a in rest.values() if a.nameless]
    if nameless and not named:
        raise PathpruneError(
            f"{name} holds {', '.join(rest)}, which no record can name ({nameless[0]}); give the class a method identity() "
            "that names what it holds"
        )
    if rest and not nameless:
        options["state"] = _sha(f"{{{','.join(sorted(f'{k!r}:{a.text}' for k, a in rest.items()))}}}")
    return options


def remember(plugins: Iterable[Plugin]) -> None:
    """Mark what objects hold after they were used: counters and caches make no other pruner of them, a user's changes do."""
    for plugin in plugins:
        used = _used.get(id(plugin.pruner))
        if used is not None and not plugin.spec:
            used.after = {k: _mark(v, k in used.before) for k, v in _attributes(plugin.pruner).items()}


def _before_use(built: Any) -> dict[str, _Attribute]:
    """Attributes by name; those that are as the last use left them count as they were before it."""
    key = id(built)
    used = _used.get(key)
    held: dict[str, _Attribute] = {}
    untouched: dict[str, str] = {}
    for name, value in _attributes(built).items():
        if used is not None and used.after.get(name) == _mark(value, name in used.before):
            untouched[name] = used.after[name]
            held |= {name: used.before[name]} if name in used.before else {}
        elif value is not None:
            held[name] = _attribute(name, value)
    try:
        alive = weakref.ref(built, lambda _: _used.pop(key, None))
    except TypeError:  # a class whose slots leave no room for weak references is not remembered
        return held
    _used[key] = _Used(alive, held, untouched)
    return held


def _attribute(name: str, value: Any) -> _Attribute:
    if not name.startswith("_") and _is_plain(value):
        return _Attribute(value)
    try:
        return _Attribute(text=contained(lambda: stable_text(value)))
    except PluginError as error:
        return _Attribute(nameless=str(error))


def _mark(value: Any, was_there: bool) -> str:
    """What a value is known by again: its content, or which object it is where that may be a model that use has loaded."""
    if was_there or value is None or isinstance(value, PLAIN):
        attribute = _attribute("_", value)
        if not attribute.nameless:
            return _sha(attribute.text)
    return f"object {id(value)}"


def _attributes(built: Any) -> dict[str, Any]:
    names: list[str] = []
    for owner in type(built).__mro__:
        slots = vars(owner).get("__slots__", ())
        private = f"_{owner.__name__.lstrip('_')}"  # as Python writes private names
        for slot in (slots,) if isinstance(slots, str) else tuple(slots):
            names.append(private + slot if slot.startswith("__") and not slot.endswith("__") else slot)
    names = [n for n in names if n not in ("__dict__", "__weakref__") and hasattr(built, n)]
    return {**getattr(built, "__dict__", {}), **{n: getattr(built, n) for n in names}}


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:8]


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):  # "8" would read like 8
        return not set(value) & set(",=:@ ") and literal(value) == value
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < LARGEST)
