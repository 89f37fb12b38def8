"""Positions of reward-model scores in a path: files give scores in order, and seldom record after which tokens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from harness.api import Reward, UnavailableError
from harness.imports.tokens import Document

VOTE = "recorded-best-of-n"  # votes on finished paths


def placed(name: str, scores: Sequence[float], path: Document, grid: Sequence[int], length: int) -> list[Reward]:
    """The scores within the first ``length`` tokens of a path, each with the number of tokens that it had read.

    A single score rates the whole path. Otherwise the number of scores has to equal that of the steps (paragraphs), of the
    probe positions or of the tokens, and gives each score its position. If several numbers match, the latest position is assumed, to keep
    a score from knowing more than its prefix.

    Args:
        name: the reward model's name.
        scores: its scores of the path, in order.
        path: the finished path.
        grid: probe positions in tokens.
        length: the prefix length in tokens.

    Raises:
        UnavailableError: the positions cannot be determined, or all lie beyond the prefix.
    """
    if not scores:
        raise UnavailableError(f"reward {name!r} has no score")
    if len(scores) == 1:
        places = [[path.length]]
    else:
        steps = step_ends(path) if path.text else []
        ways: list[Sequence[int]] = [steps, [min(at, path.length) for at in grid], range(1, path.length + 1)]
        places = [list(way) for way in ways if len(way) == len(scores)]
    if not places:
        raise UnavailableError(
            f"reward {name!r} has {len(scores)} scores for {len(steps)} steps, {len(grid)} probes and {path.length} tokens, so their "
            "positions are unknown"
        )
    positions = [max(each) for each in zip(*places, strict=True)]
    known = [Reward(p, float(s)) for p, s in zip(positions, scores, strict=True) if p <= length]
    if not known and len(scores) == 1:
        raise UnavailableError(
            f"reward {name!r} rates the whole path, beyond the prefix; it can only weight votes of finished paths: {VOTE}"
        )
    if not known:
        raise UnavailableError(
            f"reward {name!r} has its first score at {positions[0]} tokens, beyond the prefix of {length}; use a prefix of at least that length"
        )
    return known


def step_ends(path: Document) -> list[int]:
    """The number of tokens after which each paragraph of the text is complete."""
    counts = range(path.length + 1)
    return [bisect_left(counts, end, key=path.end) for end in _paragraph_ends(path.text or "")]


def _paragraph_ends(text: str) -> list[int]:
    """End offset of each non-blank paragraph in characters."""
    ends, begun = [], 0
    for piece in text.split("\n\n"):
        if piece.strip():
            ends.append(begun + len(piece.rstrip()))
        begun += len(piece) + 2
    return ends
