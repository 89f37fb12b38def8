"""What a row of a table is: reports go by this, never by names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.api import ROLES, Role


def role_of(header: Mapping[str, Any]) -> Role | None:
    """The role that a record's header states; None for a pool, which no method made.

    "method" and "control" keep k paths at L by scores of their own, "closed-form" ones (`all`, `random`) are drawn from
    the pool exactly, whether or not they were run, an "oracle" sees what no prefix shows, and an "own-rule" decides on
    its own what is finished. Records of before headers had roles are told apart by how they were made."""
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
