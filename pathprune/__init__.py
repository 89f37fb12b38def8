"""pathprune: compare path pruners on the same sampled paths, at matched cost, with confidence intervals.

This package re-exports the Python API. The implementation is in ``harness``, the methods in ``pruners``, the problems in ``tasks``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pathprune.children import listen
from pathprune.hidden import ours

ours()
listen()

if TYPE_CHECKING:
    from harness.api import (
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
        Stopping,
        Streaming,
        Tally,
        Task,
        TaskDefaults,
        TokenStats,
    )
    from harness.imports.pool import Pool
    from harness.report.problem import Shown
    from harness.session import (
        Live,
        Result,
        bench,
        check_pool,
        frontier,
        import_pool,
        live,
        open_pool,
        recommend,
        results,
        show,
    )
    from harness.spec import RunSpec, Stage

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
    "Pool",
    "Problem",
    "Pruner",
    "Result",
    "RunSpec",
    "Sampling",
    "Shown",
    "Stage",
    "Stopping",
    "Streaming",
    "Tally",
    "Task",
    "TaskDefaults",
    "TokenStats",
    "bench",
    "check_pool",
    "frontier",
    "import_pool",
    "live",
    "open_pool",
    "recommend",
    "results",
    "show",
]

HOMES = {
    **dict.fromkeys(
        (
            "Live",
            "Result",
            "bench",
            "check_pool",
            "frontier",
            "import_pool",
            "live",
            "open_pool",
            "recommend",
            "results",
            "show",
        ),
        "harness.session",
    ),
    "Pool": "harness.imports.pool",
    "Shown": "harness.report.problem",
    **dict.fromkeys(("RunSpec", "Stage"), "harness.spec"),
}


def __getattr__(name: str) -> Any:
    """Import a name in ``__all__`` on first use, which keeps the command line's start fast."""
    if name not in __all__:
        raise AttributeError(f"module 'pathprune' has no attribute {name!r}")
    value = getattr(import_module(HOMES.get(name, "harness.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
