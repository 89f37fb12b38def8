"""How many requests are worked on and how many wait; clients take turns, so that none waits behind all of another's."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque

from harness.serve.errors import APIError

PAST = 0.9  # how much of the mean duration is that of earlier requests


class Gate:
    """Lets ``running`` requests in at once and ``waiting`` more wait. Lives in one event loop."""

    def __init__(self, running: int, waiting: int) -> None:
        self.most, self.longest = running, waiting
        self.running = 0
        self.mean = 1.0  # seconds that a request takes once it is in
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # by client; the first is next

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._queues.values()))

    async def enter(self, client: str) -> float:
        """Wait for a place, and take it; returns when it was taken, for ``leave``.

        Raises:
            APIError: 429, where as many wait as may.
        """
        if self.running < self.most and not self._queues:
            self.running += 1
            return time.monotonic()
        if self.waiting >= self.longest:
            seconds = max(1, math.ceil(self.mean * (self.waiting + 1) / self.most))
            raise APIError(
                429,
                f"{self.running} requests run and {self.waiting} wait, which is all that may; try again in {seconds} s",
                "queue_full",
                headers={"Retry-After": str(seconds)},
            )
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(client, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._pass_on()
            else:
                self._leave_queue(client, place)
            raise
        return time.monotonic()

    def leave(self, entered: float) -> None:
        """Give a place back; the next client in turn has it."""
        self.mean = PAST * self.mean + (1 - PAST) * (time.monotonic() - entered)
        self._pass_on()

    def _pass_on(self) -> None:
        while self._queues:
            client, queue = self._queues.popitem(last=False)
            place = queue.popleft()
            if queue:
                self._queues[client] = queue  # behind the others
            if not place.done():
                place.set_result(None)
                return
        self.running -= 1

    def _leave_queue(self, client: str, place: asyncio.Future[None]) -> None:
        queue = self._queues.get(client)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._queues[client]
