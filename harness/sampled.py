"""What an engine gave, held against what it was asked for: a broken contract is one line, never a shorter or longer table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.api import Path, PathpruneError, Problem


def launched(engine: Any, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
    """``engine.launch``, checked.

    Raises:
        PathpruneError: a number of problems or paths that was not asked for, paths of another problem or in another order, or
            a path that is too long.
    """
    groups: list[list[Path]] = engine.launch(problems, n, max_tokens, seed)
    if len(groups) != len(problems):
        raise _broken(engine, f"launch gave paths of {len(groups)} problems, and {len(problems)} were asked for")
    for problem, paths in zip(problems, groups, strict=True):
        if [p.index for p in paths] != list(range(n)):
            raise _broken(
                engine, f"launch gave {len(paths)} paths of {problem.id}, not those of index 0 to {n - 1} in order"
            )
        for path in paths:
            if path.problem.id != problem.id:
                raise _broken(engine, f"launch gave a path of {path.problem.id} for {problem.id}")
            _fits(engine, path, max_tokens)
    return groups


def resumed(engine: Any, paths: Sequence[Path], max_tokens: int) -> list[Path]:
    """``engine.resume``, checked.

    Raises:
        PathpruneError: another number or order of paths, one that does not go on from the given tokens, or one that is too long.
    """
    longer: list[Path] = engine.resume(paths, max_tokens)
    if len(longer) != len(paths):
        raise _broken(engine, f"resume gave {len(longer)} paths for {len(paths)}")
    for before, after in zip(paths, longer, strict=True):
        if (after.problem.id, after.index) != (before.problem.id, before.index):
            raise _broken(
                engine,
                f"resume gave path {after.index} of {after.problem.id} in place of {before.index} of {before.problem.id}",
            )
        if after.tokens[: len(before.tokens)] != before.tokens:
            raise _broken(engine, f"resume changed the first tokens of path {before.index} of {before.problem.id}")
        _fits(engine, after, max(max_tokens, len(before.tokens)))
    return longer


def _fits(engine: Any, path: Path, limit: int) -> None:
    if len(path.tokens) > limit:
        raise _broken(
            engine,
            f"path {path.index} of {path.problem.id} has {len(path.tokens)} tokens, and at most {limit} were asked for",
        )


def _broken(engine: Any, what: str) -> PathpruneError:
    return PathpruneError(f"engine {engine.spec['engine']} breaks its contract: {what} (see harness.api.Engine)")
