"""pathprune: compare path pruners on the same sampled paths, at matched cost, with intervals.

This package re-exports the Python front; the machinery is in ``harness``, methods in ``pruners``, problems in ``tasks``.
"""

from pathprune.hidden import ours

ours()

from harness.api import (  # noqa: E402  once our packages are sure to be ours
    Check,
    Cost,
    Decision,
    Engine,
    FlopModel,
    LabelledPrefix,
    Learnable,
    Path,
    PathpruneError,
    Problem,
    Pruner,
    Sampling,
    Streaming,
    Task,
    TaskDefaults,
    TokenStats,
)
from harness.session import Live, Result, bench, live, results  # noqa: E402
from harness.spec import RunSpec, Stage  # noqa: E402

__all__ = [
    "Check",
    "Cost",
    "Decision",
    "Engine",
    "FlopModel",
    "LabelledPrefix",
    "Learnable",
    "Live",
    "Path",
    "PathpruneError",
    "Problem",
    "Pruner",
    "Result",
    "RunSpec",
    "Sampling",
    "Stage",
    "Streaming",
    "Task",
    "TaskDefaults",
    "TokenStats",
    "bench",
    "live",
    "results",
]
