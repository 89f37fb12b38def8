"""Decides whether a row was made by the installed code."""

from __future__ import annotations

from functools import cache
from typing import Any

from harness import registry
from harness.plugins.code import code_digest, is_present


def is_stale(header: dict[str, Any]) -> bool:
    """Was a record made by code that differs from the installed pruner's? False for pruners that are not installed."""
    spec = header["spec"]
    parts = [("pruner", "code"), *([("scorer", "scorer_code")] if "scorer_code" in spec else [])]
    pruners = [(spec[code], _registered(spec[name].partition(":")[0])) for name, code in parts]
    return any(pruner is not None and not is_present(code, pruner) for code, pruner in pruners)


def restated(header: dict[str, Any]) -> dict[str, Any]:
    """A record's header with its code digest under the current rules, and the former digest under ``was``.

    A header that has such a digest, or whose code is not current, is returned unchanged; the latter stays stale."""
    spec = header["spec"]
    pruner = _registered(spec["pruner"].partition(":")[0]) if "pruner" in spec else None
    if pruner is None or ":" in spec["code"] or is_stale(header):
        return header
    return {**header, "spec": {**spec, "code": code_digest(pruner)}, "was": {"code": spec["code"]}}


@cache
def _registered(name: str) -> Any:
    """The class of an installed pruner; None for any other name."""
    return registry.load("pruners", name)[0] if name in registry.names("pruners") else None
