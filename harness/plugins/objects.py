"""Pruners passed as objects: what distinguishes them from others of their class, and what mere use changes in them."""

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
    """An attribute's state at one time: a plain ``value``, else its ``text``, else the reason why it has none."""

    value: Any = None
    text: str = ""
    nameless: str = ""


@dataclass
class _Used:
    """An object's attributes before use, and a mark of each after use."""

    alive: weakref.ref[Any]
    before: dict[str, _Attribute]
    after: dict[str, str] = field(default_factory=dict)


LARGEST = 2**63  # limit for numbers in a name, as in specs
_used: dict[int, _Used] = {}


def told_apart(built: Any, name: str) -> dict[str, Any]:
    """The attributes that distinguish an object from others of its class: public plain values directly, the rest as a digest.

    This keeps records of different objects apart.

    Raises:
        PathpruneError: an attribute cannot be pickled, and the class has no ``identity`` method.
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
            f"{name} has the attributes {', '.join(rest)}, which cannot be stored in a record ({nameless[0]}); give the class a method "
            "identity() that names their content"
        )
    if rest and not nameless:
        options["state"] = _sha(f"{{{','.join(sorted(f'{k!r}:{a.text}' for k, a in rest.items()))}}}")
    return options


def remember(plugins: Iterable[Plugin]) -> None:
    """Mark the state of objects after use: counters and caches do not make a different pruner, a user's changes do."""
    for plugin in plugins:
        used = _used.get(id(plugin.pruner))
        if used is not None and not plugin.spec:
            used.after = {k: _mark(v, k in used.before) for k, v in _attributes(plugin.pruner).items()}


def _before_use(built: Any) -> dict[str, _Attribute]:
    """Attributes by name; those unchanged since the last use have their values from before it."""
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
    """A mark to recognise a value by: its content, or its identity if it may be a model loaded by use."""
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
    if isinstance(value, str):  # to distinguish "8" from 8
        return not set(value) & set(",=:@ ") and literal(value) == value
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < LARGEST)
