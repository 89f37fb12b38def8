"""What the requests that vLLM runs in this process want of a row besides its distribution.

Logits processors see the requests, and the model computes the rows, both in one process and neither at hand for the other.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet


class Requests(Protocol):
    """The requests that one logits processor follows."""

    @property
    def statistics(self) -> bool:
        """Does any of them want statistics of its distributions?"""

    @property
    def states(self) -> bool:
        """Does any of them read a state?"""


FOLLOWED: WeakSet[Requests] = WeakSet()  # requests that have ended may be among them: what they wanted costs time only


def statistics() -> bool:
    """Are statistics of distributions to be computed in this pass?"""
    return any(requests.statistics for requests in FOLLOWED)


def states() -> bool:
    """May any token of this pass be one whose state is read?"""
    return any(requests.states for requests in FOLLOWED)
