"""A pruner that is ready to run, with its declarations, which are checked once on loading."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import prod
from pathlib import Path as FilePath
from typing import Any, get_args

from harness.api import (
    CostClass,
    Order,
    Origins,
    PathpruneError,
    Pruner,
    Quadrant,
    RankedBy,
    Role,
    Signal,
    Stopping,
    Streaming,
)
from harness.plugins.guard import attribute, blamed, contained, is_ours
from harness.public import named as without_folders
from harness.text import reason, shown, unknown
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
        "at",
        "until",
        "stride",
        "probe",
        "scorer",
        "scorer_code",
        "keep",
        "stages",
        "ended",
        "vote",
        "key",
        "pruner",
        "code",
        "checkpoint",
        "live",
    }
)
LABELS = ("monte-carlo", "single", "outcome")
MOST_SETTINGS = 1000  # in a stopping rule's grid
CLOSED_FORMS = ("all", "random")


@dataclass(frozen=True)
class Traits:
    """The declared members of ``harness.api.Pruner``, ``Streaming`` or ``Stopping``, with their defaults filled in."""

    quadrant: Quadrant
    needs: frozenset[Signal]
    fidelity: str = Pruner.fidelity
    ranked_by: RankedBy = Pruner.ranked_by
    vote: str = Pruner.vote
    cost_class: CostClass = Pruner.cost_class
    pointwise: bool = Pruner.pointwise
    keeps_all: bool = Pruner.keeps_all
    closed_form: str = Pruner.closed_form
    on_request: str = Pruner.on_request
    labels: str = ""  # the kind of labels it is trained on; empty: not trained
    sequential: bool = Streaming.sequential
    batch: int = Streaming.batch
    warmup: int | None = None  # of a decision rule of its own; None: it scores prefixes
    stops: bool = False  # is it asked when to stop sampling?
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # of a stopping rule: values that a frontier tries

    @property
    def decides(self) -> bool:
        """Does it have its own decision rule, and hence no prefix length?"""
        return self.warmup is not None

    @property
    def order(self) -> dict[str, Any]:
        """The generation order of its own decision rule, for a record; latency follows from it."""
        if not self.decides:
            return {}
        return {"warmup": self.warmup, "sequential": self.sequential, "batch": self.batch}

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
    """A pruner with the facts that identify it in a record."""

    pruner: Any
    name: str  # canonical spec: name and sorted options
    options: dict[str, Any]
    source: str  # distribution and version, or the file's SHA-256
    code: str  # digest of the code that defines it: a row of older code is marked stale
    checkpoint: str | None = None  # folder requested with checkpoint=
    spec: str = ""  # as requested; empty for an object without a registered name
    scorer: Plugin | None = None  # the pruner whose scores its own decision rule uses
    traits: Traits = field(init=False)

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise PathpruneError(f"{self.name!r} cannot name a row: it contains unprintable characters")
        traits = traits_of(self.pruner, self.name)
        if self.scorer is not None:
            theirs = self.scorer.traits
            needs = traits.needs | theirs.needs
            traits = replace(traits, needs=needs, quadrant=theirs.quadrant, cost_class=theirs.cost_class)
        object.__setattr__(self, "traits", traits)

    @property
    def scores_by(self) -> Any:
        """The pruner whose scores its rule uses; None without one."""
        return None if self.scorer is None else self.scorer.pruner

    @property
    def adapter_folder(self) -> FilePath | None:
        """The folder of its adapter; None for a method that appends no tokens."""
        folder: FilePath | None = member(self.pruner, "folder", None, self.name)
        return folder

    def identity(self) -> dict[str, Any]:
        """The names of the external weights that it uses.

        Raises:
            PathpruneError: as in ``identity_of``, or an answer that differs from the first one.
        """
        named = identity_of(self.pruner, self.name)
        first: dict[str, Any] = self.__dict__.setdefault("_identity", named)
        if named != first:
            raise PathpruneError(f"{self.name!r}: identity() names {shown(first)} and then {shown(named)}")
        return named

    def call(self, method: str, *given: Any) -> Any:
        """Call one of the pruner's methods outside of scoring, and return its result.

        Raises:
            PathpruneError: any exception of third-party code, in one line.
        """
        if is_ours(self.pruner):
            return getattr(self.pruner, method)(*given)
        with blamed(f"{self.name!r}: {method}()"):
            return getattr(self.pruner, method)(*given)

    @property
    def needs_checkpoint(self) -> bool:
        """Does it need trained weights, rather than a model that it names itself?"""
        return self.traits.learns and not self.options.get("model")


@dataclass(frozen=True)
class Method:
    """The method of a run: a scorer, a stopping rule, or a scorer combined with a stopping rule (``stop+asc``)."""

    scorer: Plugin | None
    rule: Plugin | None = None

    @classmethod
    def alone(cls, plugin: Plugin) -> Method:
        """The method that consists of one pruner."""
        return cls(None, plugin) if plugin.traits.stops else cls(plugin)

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The scorer and the rule, without missing ones."""
        return tuple(p for p in (self.scorer, self.rule) if p is not None)

    @property
    def name(self) -> str:
        """Canonical specs, joined with +."""
        return "+".join(p.name for p in self.plugins)

    @property
    def code(self) -> str:
        """Digests of its code."""
        return "+".join(p.code for p in self.plugins)

    @property
    def source(self) -> str:
        """Distribution and version, or file hash, of its parts."""
        return " + ".join(dict.fromkeys(p.source for p in self.plugins))

    @property
    def role(self) -> Role:
        """What its row in a table is."""
        return self.plugins[0].traits.role if len(self.plugins) == 1 else "own-rule"


def identity_of(pruner: Any, name: str) -> dict[str, Any]:
    """The result of a pruner's ``identity()``, which may not use keys that the harness writes into a record.

    Raises:
        PathpruneError: not a JSON dictionary, or one with a reserved key.
    """
    with blamed(f"{name!r}: identity()"):
        named: Any = contained(lambda: getattr(pruner, "identity", dict)())
    if not isinstance(named, dict) or not all(isinstance(key, str) for key in named):
        raise PathpruneError(f"{name!r}: identity() returned {shown(named)}, not a dictionary of names")
    if taken := RESERVED & named.keys():
        raise PathpruneError(
            f"{name!r}: identity() may not set {', '.join(sorted(taken))}, which the harness writes itself"
        )
    plain = as_json(f"{name!r}: identity()", named, allow_nan=False)
    return {key: without_folders(value) for key, value in plain.items()}


def as_json(what: str, value: Any, allow_nan: bool = True) -> Any:
    """A value after a round trip through JSON.

    Raises:
        PathpruneError: JSON cannot store the value that ``what`` returned.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=allow_nan))
    except (TypeError, ValueError, RecursionError) as error:
        raise PathpruneError(f"{what} returned a value that JSON cannot store ({reason(error)})") from error


def member(plugin: Any, name: str, default: Any, owner: str) -> Any:
    """The value of a declared member of plug-in ``owner``, or the default if it has none.

    Raises:
        PathpruneError: an exception in a property, which does not count as a missing member.
    """
    if is_ours(plugin):
        return attribute(plugin, name, default)
    with blamed(f"{owner!r}: {name}"):
        return contained(lambda: attribute(plugin, name, default))


def traits_of(pruner: Any, name: str) -> Traits:
    """Read and check the declarations of a plug-in.

    Raises:
        PathpruneError: a member that is missing or violates ``harness.api``; the message names the valid values.
    """

    def has(method: str) -> bool:
        return callable(member(pruner, method, None, name))

    if has("stops"):
        return _of_stopping(pruner, name)
    decides = has("decide")
    required = ("quadrant", "needs", *(("warmup",) if decides else ("score",)))
    missing = [m for m in required if member(pruner, m, None, name) is None]
    if missing:
        raise PathpruneError(f"{name!r} is not a pruner: it has no {', '.join(missing)} (see harness.api.Pruner)")
    if not decides and not has("score"):
        raise PathpruneError(f"{name!r} is not a pruner: its score is not a method (see harness.api.Pruner)")
    given: dict[str, Any] = {
        f.name: member(pruner, f.name, f.default, name)
        for f in fields(Traits)
        if f.name not in ("labels", "warmup", "stops", "grid")
    }
    given["needs"] = _signals(name, given["needs"])
    given["fidelity"] = _fidelity(pruner, name, given["fidelity"])
    learns = all(has(method) for method in ("fit", "save", "load"))
    given["labels"] = member(pruner, "labels", LABELS[0], name) if learns else ""
    given["warmup"] = member(pruner, "warmup", None, name) if decides else None
    _check(name, given)
    return Traits(**given)


def _of_stopping(rule: Any, name: str) -> Traits:
    """The declarations of a stopping rule, which reads answers and has its own decision rule."""
    quadrant = member(rule, "quadrant", None, name)
    if quadrant is None:
        raise PathpruneError(f"{name!r} is not a stopping rule: it has no quadrant (see harness.api.Stopping)")
    order = member(rule, "order", Stopping.order, name)
    _one_of(name, "order", order, get_args(Order))
    given = {
        "quadrant": quadrant,
        "needs": frozenset({"text"}),
        "fidelity": _fidelity(rule, name, member(rule, "fidelity", Stopping.fidelity, name)),
        "on_request": member(rule, "on_request", Stopping.on_request, name),
        "batch": member(rule, "batch", Stopping.batch, name),
        "sequential": order == "sequential",
        "warmup": 0,
        "stops": True,
        "grid": _grid(name, member(rule, "grid", Stopping.grid, name)),
    }
    _check(name, vars(Traits("control", frozenset())) | given)
    return Traits(**given)


def _grid(name: str, grid: Any) -> dict[str, Sequence[Any]]:
    """A stopping rule's declared values by option, checked."""

    def is_values(values: Any) -> bool:
        return isinstance(values, Sequence) and not isinstance(values, str | bytes) and len(values) > 0

    if not isinstance(grid, Mapping) or not all(isinstance(k, str) and is_values(v) for k, v in grid.items()):
        raise PathpruneError(
            f"{name!r}: grid must be a dictionary from options to values, such as {{'threshold': (0.8, 0.9)}}, not {shown(grid)}"
        )
    if (settings := prod(map(len, grid.values()))) > MOST_SETTINGS:
        raise PathpruneError(f"{name!r}: grid has {settings:,} settings; at most {MOST_SETTINGS:,} are allowed")
    return dict(grid)


def _fidelity(pruner: Any, name: str, typed: Any) -> Any:
    """The fidelity label derived from a plug-in's origins, or the one that it declares."""
    origins = member(pruner, "origins", None, name)
    if origins is None or typed != Pruner.fidelity:
        return typed
    if not isinstance(origins, Origins):
        raise PathpruneError(f"{name!r}: origins must be harness.api.Origins, not {shown(origins)}")
    return origins.fidelity


def _signals(name: str, needs: Any) -> frozenset[Signal]:
    if isinstance(needs, str) or not isinstance(needs, Collection):
        raise PathpruneError(
            f"{name!r}: needs must be a set of signals, such as frozenset({{'text'}}), not {shown(needs)}"
        )
    for signal in needs:
        _one_of(name, "needs", signal, get_args(Signal))
    return frozenset(needs)


def _check(name: str, given: dict[str, Any]) -> None:
    _one_of(name, "quadrant", given["quadrant"], get_args(Quadrant))
    _one_of(name, "vote", given["vote"], tuple(VOTES))
    _one_of(name, "cost_class", given["cost_class"], get_args(CostClass))
    _one_of(name, "ranked_by", given["ranked_by"], get_args(RankedBy))
    _one_of(name, "closed_form", given["closed_form"], ("", *CLOSED_FORMS))
    _one_of(name, "labels", given["labels"], ("", *LABELS))
    kinds: dict[str, type] = {
        "fidelity": str,
        "on_request": str,
        "pointwise": bool,
        "keeps_all": bool,
        "sequential": bool,
        "batch": int,
    }
    if given["warmup"] is not None:
        kinds["warmup"] = int
    for trait, kind in kinds.items():
        if not isinstance(given[trait], kind):
            raise PathpruneError(f"{name!r}: {trait} must be of type {kind.__name__}, not {shown(given[trait])}")
    if given["warmup"] is not None and (given["warmup"] < 0 or isinstance(given["warmup"], bool)):
        raise PathpruneError(f"{name!r}: warmup must be a number of paths, 0 or more, not {shown(given['warmup'])}")
    if given["batch"] < 1 or isinstance(given["batch"], bool):
        raise PathpruneError(f"{name!r}: batch must be a number of paths, 1 or more, not {shown(given['batch'])}")
    if not given["fidelity"].isprintable():
        raise PathpruneError(f"{name!r}: fidelity must be one line of text, not {shown(given['fidelity'])}")


def _one_of(name: str, trait: str, value: Any, known: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in known:
        told = value if isinstance(value, str) else shown(value)
        raise PathpruneError(f"{name!r}: {unknown(trait, told, [k for k in known if k])}")
