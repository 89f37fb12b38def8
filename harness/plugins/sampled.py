"""Checks of an engine's results against the request. A broken contract is an error, never a table with missing or extra paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.api import Path, PathpruneError, Problem, Signal, TokenStats
from harness.store.given import are_spans
from harness.text import is_utf8, shown


def without(engine: Any, signals: frozenset[Signal] = frozenset({"token_stats"})) -> Any:
    """The engine without unused signals, if leaving them out saves work; see ``harness.api.Engine``."""
    # Looked up on the class: a wrapper that forwards unknown members must not be bypassed.
    return engine.without(signals) if hasattr(type(engine), "without") else engine


def launched(engine: Any, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
    """Call ``engine.launch`` and check the result.

    Raises:
        PathpruneError: a wrong number of problems or paths, paths of another problem or in another order, or a path that is
            too long.
    """
    groups: list[list[Path]] = engine.launch(problems, n, max_tokens, seed)
    if not isinstance(groups, list | tuple) or not all(isinstance(paths, list | tuple) for paths in groups):
        raise _broken(engine, f"launch gave {shown(groups)}, not a list of paths for each problem")
    for path in (path for paths in groups for path in paths):
        _is_path(engine, path)
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
            if path.seed != seed:
                raise _broken(engine, f"path {path.index} of {problem.id} has seed {path.seed}, not {seed}")
            _fits(engine, path, max_tokens)
            _has_sound_statistics(engine, path)
    return groups


def resumed(engine: Any, paths: Sequence[Path], max_tokens: int) -> list[Path]:
    """Call ``engine.resume`` and check the result.

    Raises:
        PathpruneError: a wrong number or order of paths, or a path that does not continue the given tokens or is too long.
    """
    longer: list[Path] = engine.resume(paths, max_tokens)
    if not isinstance(longer, list | tuple):
        raise _broken(engine, f"resume gave {shown(longer)}, not a list of paths")
    for path in longer:
        _is_path(engine, path)
    if len(longer) != len(paths):
        raise _broken(engine, f"resume gave {len(longer)} paths for {len(paths)}")
    for before, after in zip(paths, longer, strict=True):
        if (after.problem.id, after.index) != (before.problem.id, before.index):
            raise _broken(
                engine,
                f"resume gave path {after.index} of {after.problem.id} in place of {before.index} of {before.problem.id}",
            )
        if (after.tokens[: len(before.tokens)], after.given[: len(before.given)]) != (before.tokens, before.given):
            raise _broken(engine, f"resume changed the first tokens of path {before.index} of {before.problem.id}")
        _fits(engine, after, max(max_tokens, before.drawn))
        if before.stats is not None or not before.tokens:  # otherwise those of the first tokens are unknown
            _has_sound_statistics(engine, after)
    return longer


def _is_path(engine: Any, path: Any) -> None:
    """Refuse a path that the bank could not store losslessly."""
    if not isinstance(path, Path) or not isinstance(path.problem, Problem):
        raise _broken(engine, f"it gave {shown(path)}, not a Path")
    for name in ("index", "seed"):
        if type(value := getattr(path, name)) is not int:
            raise _broken(engine, f"a path's {name} must be an int, not {shown(value)}")
    wrong = ""
    if type(path.tokens) is not tuple or not all(type(t) is int and 0 <= t < 1 << 31 for t in path.tokens):
        wrong = f"tokens {shown(path.tokens)}, not a tuple of ints from 0 on"
    elif not are_spans(path.given, len(path.tokens)):
        wrong = f"given {shown(path.given)}, not spans of its tokens, ascending and apart, none at the end"
    elif path.finish not in ("stop", "length"):
        wrong = f"finish {shown(path.finish)}, not 'stop' or 'length'"
    elif "text" in engine.provides and not (isinstance(path.text, str) and is_utf8(path.text)):
        wrong = f"text {shown(path.text)}, not a string of whole characters"
    elif path.stats is not None and not isinstance(path.stats, TokenStats):
        wrong = f"stats {shown(path.stats)}, not TokenStats"
    if wrong:
        raise _broken(engine, f"path {path.index} of {path.problem.id} has {wrong}")


def _has_sound_statistics(engine: Any, path: Path) -> None:
    if path.stats is None:
        if "token_stats" in engine.provides and path.tokens:
            raise _broken(engine, f"it provides token_stats, and path {path.index} of {path.problem.id} has none")
        return
    for name in path.stats.known:
        values = getattr(path.stats, name)
        wrong = ""
        if values.dtype != np.float16:
            wrong = f"is {values.dtype}, not float16"
        elif len(values) != path.drawn:
            wrong = f"has {len(values)} numbers for {path.drawn} tokens"
        elif np.isnan(values).any():
            wrong = "has values that are no numbers"
        if wrong:
            raise _broken(engine, f"statistic {name} of path {path.index} of {path.problem.id} {wrong}")


def _fits(engine: Any, path: Path, limit: int) -> None:
    if path.drawn > limit:
        raise _broken(
            engine,
            f"path {path.index} of {path.problem.id} has {path.drawn} tokens, and at most {limit} were asked for",
        )


def _broken(engine: Any, what: str) -> PathpruneError:
    return PathpruneError(f"engine {engine.spec['engine']} breaks its contract: {what} (see harness.api.Engine)")
