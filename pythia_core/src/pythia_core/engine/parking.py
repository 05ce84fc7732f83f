"""Parked messages: one heap by due time and one timer, whatever their number.

A parked message keeps its key open, so later messages of the key wait for it and other keys flow.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import anyio

from pythia_core.clock import Clock
from pythia_core.contracts.message import Message

NEVER = float("inf")


class Parking:
    """Messages that wait for their next attempt.

    Args:
        clock: monotonic seconds.
        due: called with each message whose time has come.
    """

    def __init__(self, clock: Clock, due: Callable[[Message[Any]], None]) -> None:
        self._clock = clock
        self._due = due
        self._heap: list[tuple[float, int, float, Message[Any]]] = []
        self._count = itertools.count()
        self._earlier = anyio.Event()
        self._held = False

    def __len__(self) -> int:
        return len(self._heap)

    def park(self, message: Message[Any], delay: float) -> None:
        """Keep ``message`` for ``delay`` seconds."""
        now = self._clock()
        entry = (now + max(delay, 0.0), next(self._count), now, message)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._earlier.set()

    def hold(self) -> None:
        """Hand out nothing more: what is parked now stays so until it is taken."""
        self._held = True

    async def run(self) -> None:
        """Hand out messages as they come due, until cancelled."""
        while True:
            self._earlier = anyio.Event()
            now = self._clock()
            while self._waiting and self._heap[0][0] <= now:
                self._due(heapq.heappop(self._heap)[3])
            rest = self._heap[0][0] - now if self._waiting else NEVER
            with anyio.move_on_after(rest):
                await self._earlier.wait()

    @property
    def _waiting(self) -> bool:
        return bool(self._heap) and not self._held

    def take(self, wanted: Callable[[Message[Any]], bool]) -> list[Message[Any]]:
        """Remove and return the messages that are ``wanted``."""
        taken = [entry[3] for entry in self._heap if wanted(entry[3])]
        if taken:
            self._heap = [entry for entry in self._heap if not wanted(entry[3])]
            heapq.heapify(self._heap)
        return taken

    def messages(self) -> list[Message[Any]]:
        """Return all parked messages."""
        return [entry[3] for entry in self._heap]

    def due(self) -> list[tuple[Message[Any], float]]:
        """Return all parked messages with the time until which each is parked."""
        return [(entry[3], entry[0]) for entry in self._heap]

    def since(self) -> list[tuple[Message[Any], float]]:
        """Return all parked messages with the time since which each is parked."""
        return [(entry[3], entry[2]) for entry in self._heap]
