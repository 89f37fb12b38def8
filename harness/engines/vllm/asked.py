"""What requests to vLLM in this process need besides the distribution of the next token.

Logits processors see the requests, and the model computes the rows. Both run in one process, without access to each
other, so this module connects them.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet


class Requests(Protocol):
    """The requests that one logits processor follows."""

    @property
    def statistics(self) -> bool:
        """Does any request need statistics of its distributions?"""

    @property
    def states(self) -> bool:
        """Does any request read a hidden state?"""


FOLLOWED: WeakSet[Requests] = WeakSet()  # may include requests that have ended, which only costs time


def statistics() -> bool:
    """Must statistics of distributions be computed in this forward pass?"""
    return any(requests.statistics for requests in FOLLOWED)


def states() -> bool:
    """May this forward pass contain a token whose hidden state is read?"""
    return any(requests.states for requests in FOLLOWED)
