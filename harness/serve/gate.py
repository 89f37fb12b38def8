"""Limits on running and waiting requests. Clients take turns, so one client's queue does not block the others."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque

from harness.serve.errors import APIError

PAST = 0.9  # weight of earlier requests in the moving average of durations


class Gate:
    """Admits ``running`` requests at once and lets ``waiting`` more wait. For use in one event loop."""

    def __init__(self, running: int, waiting: int) -> None:
        self.most, self.longest = running, waiting
        self.running = 0
        self.mean = 1.0  # moving average of a request's seconds once admitted
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # by client; the first is next

    @property
    def waiting(self) -> int:
        """Number of waiting requests."""
        return sum(map(len, self._queues.values()))

    async def enter(self, client: str) -> float:
        """Wait for a place and take it; returns the time of admission, for ``leave``.

        Raises:
            APIError: 429 if the queue is full.
        """
        if self.running < self.most and not self._queues:
            self.running += 1
            return time.monotonic()
        if self.waiting >= self.longest:
            seconds = max(1, math.ceil(self.mean * (self.waiting + 1) / self.most))
            raise APIError(
                429,
                f"the queue is full ({self.running} requests running, {self.waiting} waiting); try again in {seconds} s",
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
        """Give a place back; the next client in turn takes it."""
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
