"""A pruner that is ready to run, and what it declares of itself, checked once when it is loaded."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path as FilePath
from typing import Any, get_args

from harness.api import CostClass, PathpruneError, Pruner, Quadrant, Role, Signal
from harness.text import unknown
from harness.vote import VOTES

RESERVED = frozenset(
    {
        "task",
        "task_version",
        "engine",
        "seed",
        "max_tokens",
        "n",
        "prefix",
        "keep",
        "stages",
        "pruner",
        "code",
        "checkpoint",
        "live",
    }
)
LABELS = ("monte-carlo", "single", "outcome")
CLOSED_FORMS = ("all", "random")


@dataclass(frozen=True)
class Traits:
    """The declared members of ``harness.api.Pruner`` or ``Streaming``, with their defaults filled in."""

    quadrant: Quadrant
    needs: frozenset[Signal]
    fidelity: str = Pruner.fidelity
    vote: str = Pruner.vote
    cost_class: CostClass = Pruner.cost_class
    pointwise: bool = Pruner.pointwise
    keeps_all: bool = Pruner.keeps_all
    closed_form: str = Pruner.closed_form
    on_request: str = Pruner.on_request
    labels: str = ""  # the kind it is trained on; empty: it learns nothing
    warmup: int | None = None  # of a decision rule of its own; None: it scores prefixes

    @property
    def decides(self) -> bool:
        """Has it a decision rule of its own, so that no prefix length is its?"""
        return self.warmup is not None

    @property
    def learns(self) -> bool:
        """Is it trained on labels?"""
        return bool(self.labels)

    @property
    def role(self) -> Role:
        """What its row in a table is."""
        if self.closed_form:
            return "closed-form"
        if self.decides:
            return "own-rule"
        return "control" if self.quadrant == "control" else "method"


@dataclass(frozen=True)
class Plugin:
    """A pruner with what a record says of it."""

    pruner: Any
    name: str  # canonical spec: name and sorted options
    options: dict[str, Any]
    source: str  # distribution and version, or the file's SHA-256
    code: str  # digest of the code that defines it: a row of older code is marked stale
    checkpoint: str | None = None  # folder asked for with checkpoint=
    spec: str = ""  # as it was asked for; empty for an object that has no name elsewhere
    traits: Traits = field(init=False)

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise PathpruneError(f"{self.name!r} cannot name a row: it holds characters that cannot be shown")
        object.__setattr__(self, "traits", traits_of(self.pruner, self.name))

    @property
    def adapter_folder(self) -> FilePath | None:
        """Where the adapter lies that it reads prefixes with; None for a method that appends no tokens."""
        return getattr(self.pruner, "folder", None)

    def identity(self) -> dict[str, Any]:
        """Names the external weights that it reads with."""
        return identity_of(self.pruner, self.name)

    @property
    def needs_checkpoint(self) -> bool:
        """Does it run on weights that were trained for it, rather than on a model that it names itself?"""
        return self.traits.learns and not self.options.get("model")


def identity_of(pruner: Any, name: str) -> dict[str, Any]:
    """What a pruner's ``identity()`` names; it may not stand for what the harness itself writes into a record.

    Raises:
        PathpruneError: what is no dictionary of JSON, or has a key of the harness' own.
    """
    named: Any = getattr(pruner, "identity", dict)()
    try:
        text = json.dumps(named)
    except (TypeError, ValueError) as error:
        raise PathpruneError(f"{name!r}: identity() returns what JSON cannot hold ({error})") from error
    if not isinstance(named, dict):
        raise PathpruneError(f"{name!r}: identity() returns {text[:40]}, and has to return a dictionary")
    if taken := RESERVED & named.keys():
        raise PathpruneError(
            f"{name!r}: identity() may not set {', '.join(sorted(taken))}, which the harness writes itself"
        )
    return named


def traits_of(pruner: Any, name: str) -> Traits:
    """What a plug-in declares.

    Raises:
        PathpruneError: a member that is missing or is not what ``harness.api`` says, named with what it may be.
    """
    decides = callable(getattr(pruner, "decide", None))
    required = ("quadrant", "needs", *(("warmup",) if decides else ("score",)))
    missing = [member for member in required if getattr(pruner, member, None) is None]
    if missing:
        raise PathpruneError(f"{name!r} is not a pruner: it has no {', '.join(missing)} (see harness.api.Pruner)")
    if not decides and not callable(pruner.score):
        raise PathpruneError(f"{name!r} is not a pruner: its score is no method (see harness.api.Pruner)")
    given: dict[str, Any] = {
        f.name: getattr(pruner, f.name, f.default) for f in fields(Traits) if f.name not in ("labels", "warmup")
    }
    given["needs"] = _signals(name, given["needs"])
    learns = all(callable(getattr(pruner, method, None)) for method in ("fit", "save", "load"))
    given["labels"] = getattr(pruner, "labels", LABELS[0]) if learns else ""
    given["warmup"] = pruner.warmup if decides else None
    _check(name, given)
    return Traits(**given)


def _signals(name: str, needs: Any) -> frozenset[Signal]:
    if isinstance(needs, str) or not isinstance(needs, Collection):
        raise PathpruneError(f"{name!r}: needs is a set of signals, such as frozenset({{'text'}}), not {needs!r}")
    for signal in needs:
        _one_of(name, "needs", signal, get_args(Signal))
    return frozenset(needs)


def _check(name: str, given: dict[str, Any]) -> None:
    _one_of(name, "quadrant", given["quadrant"], get_args(Quadrant))
    _one_of(name, "vote", given["vote"], tuple(VOTES))
    _one_of(name, "cost_class", given["cost_class"], get_args(CostClass))
    _one_of(name, "closed_form", given["closed_form"], ("", *CLOSED_FORMS))
    _one_of(name, "labels", given["labels"], ("", *LABELS))
    kinds: dict[str, type] = {"fidelity": str, "on_request": str, "pointwise": bool, "keeps_all": bool}
    if given["warmup"] is not None:
        kinds["warmup"] = int
    for member, kind in kinds.items():
        if not isinstance(given[member], kind):
            raise PathpruneError(f"{name!r}: {member} is {given[member]!r}, and has to be of type {kind.__name__}")
    if not given["fidelity"].isprintable():
        raise PathpruneError(f"{name!r}: fidelity is {given['fidelity']!r}, and has to be one line of text")


def _one_of(name: str, member: str, value: Any, known: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in known:
        raise PathpruneError(f"{name!r}: {unknown(member, str(value), [k for k in known if k])}")
