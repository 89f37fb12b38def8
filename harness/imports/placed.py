"""Where the scores of a reward model stand in a path: files give them in order, and seldom say after which tokens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from harness.api import Reward, UnavailableError
from harness.imports.tokens import Document

VOTE = "recorded-best-of-n"  # votes on finished paths


def placed(name: str, scores: Sequence[float], path: Document, grid: Sequence[int], length: int) -> list[Reward]:
    """The scores of the first ``length`` tokens of a path, each with the number of tokens that it was given to.

    One score is of the whole path. As many as the path has steps (paragraphs), as its probes have positions, or as it has
    tokens are scores of these; where several of that are as many, a score counts as given to the longest of them, so that
    it never knows more than it may.

    Raises:
        UnavailableError: nothing tells which tokens a score was given to, or none was given to so few.
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
            f"reward {name!r} has {len(scores)} scores for {len(steps)} steps, {len(grid)} probes and {path.length} tokens, so nothing "
            "tells what each is a score of"
        )
    positions = [max(each) for each in zip(*places, strict=True)]
    known = [Reward(p, float(s)) for p, s in zip(positions, scores, strict=True) if p <= length]
    if not known and len(scores) == 1:
        raise UnavailableError(
            f"reward {name!r} is of the whole path, which sees what comes behind the prefix; it may vote when paths are finished: {VOTE}"
        )
    if not known:
        raise UnavailableError(
            f"reward {name!r} has its first score at {positions[0]} tokens, behind the prefix of {length}; cut there or later"
        )
    return known


def step_ends(path: Document) -> list[int]:
    """After how many tokens each paragraph of the text is complete."""
    counts = range(path.length + 1)
    return [bisect_left(counts, end, key=path.end) for end in _paragraph_ends(path.text or "")]


def _paragraph_ends(text: str) -> list[int]:
    """Characters up to the end of each paragraph that is not blank."""
    ends, begun = [], 0
    for piece in text.split("\n\n"):
        if piece.strip():
            ends.append(begun + len(piece.rstrip()))
        begun += len(piece) + 2
    return ends
