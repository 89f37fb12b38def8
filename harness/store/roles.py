"""Roles of table rows. Reports use roles, never names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.api import ROLES, Role


def role_of(header: Mapping[str, Any]) -> Role | None:
    """The role stated in a record's header; None for a pool.

    A "method" or "control" keeps k paths at L by its scores; "closed-form" ones (`all`, `random`) are computed exactly from
    the pool, whether or not they were run; an "oracle" uses information that prefixes do not contain; and an "own-rule" has
    its own decision rule. For old records without a role, it is inferred.

    Raises:
        ValueError: an unknown role.
    """
    if "role" in header:
        stated: Role = header["role"]
        if stated not in ROLES:
            raise ValueError(f"its role {stated!r} is none of {', '.join(ROLES)}")
        return stated
    spec = header["spec"]
    if "pruner" not in spec:
        return None
    quadrant = header.get("quadrant")
    if quadrant == "reference" and "continuations" in spec and not spec["code"]:
        return "oracle"
    ours = str(header.get("source", "")).startswith("pathprune ")
    # Live records state no quadrant.
    if ours and quadrant in ("control", None) and str(spec["pruner"]).partition(":")[0] in ("all", "random"):
        return "closed-form"
    if spec.get("prefix") == 0:
        return "own-rule"
    return "control" if quadrant == "control" else "method"
