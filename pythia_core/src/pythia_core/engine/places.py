"""How many workers may take messages: fewer than there are while something says so, and the others wait on a bench.

It stands apart from :mod:`~pythia_core.engine.pool`, which only looks whether there are too many when a turn has ended.

Invariants:

- Q1. Nobody who runs a message is disturbed: a worker goes to the bench between two messages.
- Q2. Whoever was woken for a message and goes to the bench wakes the next, so that no message waits for one on the bench.
- Q3. As soon as there are more places, as many come back as there are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import anyio

__all__ = ["Places"]


class Places:
    """Places for workers.

    Args:
        workers: returns how many there are, those on the bench included.
        crowded: called when there are too many, so that every worker looks here after its present message.
        fit: called when there are not any more.
    """

    def __init__(
        self, workers: Callable[[], int], *, crowded: Callable[[], None], fit: Callable[[], None]
    ) -> None:
        self._workers = workers
        self._on_crowded = crowded
        self._on_fit = fit
        self._most: float = math.inf
        self._bench: deque[anyio.Event] = deque()
        self.crowded = False  # more workers take messages than may

    @property
    def benched(self) -> int:
        """How many wait."""
        return len(self._bench)

    def offer(self, most: int | None) -> None:
        """Let no more than so many workers take messages; None lets all of them."""
        self._most = math.inf if most is None else most
        while self._bench and self._surplus() < 0:
            self._bench.popleft().set()
        self.look()

    def look(self) -> None:
        """See whether there are too many, also after others have come."""
        surplus = self._surplus() > 0
        if surplus == self.crowded:
            return
        self.crowded = surplus
        (self._on_crowded if surplus else self._on_fit)()

    async def wait(self, going: Callable[[], None]) -> None:
        """Wait while there are too many, after ``going`` has been called."""
        while self.crowded:
            place = anyio.Event()
            self._bench.append(place)
            self.look()
            going()
            try:
                await place.wait()
            finally:
                if not place.is_set():
                    self._bench.remove(place)

    def _surplus(self) -> float:
        return self._workers() - len(self._bench) - self._most
