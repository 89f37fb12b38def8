"""Was a row made by the code that is installed now?"""

from __future__ import annotations

from functools import cache
from typing import Any

from harness import registry
from harness.plugins.code import code_digest, is_present


def is_stale(header: dict[str, Any]) -> bool:
    """Is a record of other code than its pruner's present one? Those of pruners that are not installed cannot be judged."""
    spec = header["spec"]
    parts = [("pruner", "code"), *([("scorer", "scorer_code")] if "scorer_code" in spec else [])]
    pruners = [(spec[code], _registered(spec[name].partition(":")[0])) for name, code in parts]
    return any(pruner is not None and not is_present(code, pruner) for code, pruner in pruners)


def restated(header: dict[str, Any]) -> dict[str, Any]:
    """A record's header with the digest of its code by the present rules, the former one under ``was``.

    As it is where it has that already, and where its code is not the present one: such a row stays stale."""
    spec = header["spec"]
    pruner = _registered(spec["pruner"].partition(":")[0]) if "pruner" in spec else None
    if pruner is None or ":" in spec["code"] or is_stale(header):
        return header
    return {**header, "spec": {**spec, "code": code_digest(pruner)}, "was": {"code": spec["code"]}}


@cache
def _registered(name: str) -> Any:
    """The class of a pruner that is installed; None for one that is not."""
    return registry.load("pruners", name)[0] if name in registry.names("pruners") else None
