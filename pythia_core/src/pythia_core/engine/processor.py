"""The processor gate: fewer messages are worked on at once while the processors are busy, and the rest stays in the broker.

It stands apart from :mod:`~pythia_core.engine.memory` because what it does about it is gradual: a process that stopped
for busy processors would stop for its neighbours' work too, perhaps for ever. It looks once a second, so no message
pays for it.

Invariants:

- Y1. While the processors are busier than the bound, the number of messages worked on is halved each second, down to one.
- Y2. It rises by a tenth, one at least, in each second in which they are less busy than 90 % of the bound; in between it
  stays, so that it does not flutter.
- Y3. As long as it is lowered, there is a reason by name, and no more is fetched than the lowered number of workers has
  soon done with; what somebody else could do is left to him.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from pythia_core.contracts.middleware import Admission, Middleware
from pythia_core.engine.places import Places
from pythia_core.engine.stops import Stops

__all__ = ["ProcessorGate"]

RESUME = 0.9  # of the bound
PERIOD = 1.0  # seconds between looks; shorter ones see single messages
RISE = 10  # the part by which the number rises
KEPT = 8  # messages, or batches, that lie ready for each worker: enough for quick ones, and soon done
ASK_AGAIN = 0.02  # seconds; 50 fetches a second bring 400 messages for each worker
REASON = "processors busy"


class ProcessorGate(Middleware):
    """Lowers and raises how many messages are worked on at once. It is no layer around handlers, only a gate of intake.

    Args:
        bound: per cent of the processors' time.
        measure: returns per cent since it was last called, or None if it cannot tell.
        most: how many messages, or batches, are worked on at once otherwise.
        size: the most messages of a batch, or 1.
        places: where it is lowered.
        stops: where the reason is set.
        running: returns how many are worked on.
        waiting: returns how many messages are in flight and no worker has, but for those that are parked.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        bound: float,
        measure: Callable[[], float | None],
        *,
        most: int,
        size: int,
        places: Places,
        stops: Stops,
        running: Callable[[], int],
        waiting: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._bound = bound
        self._measure = measure
        self._most = self._allowed = most
        self._size = size
        self._places = places
        self._stops = stops
        self._running = running
        self._waiting = waiting
        self._clock = clock
        self._due = clock()

    @property
    def allowed(self) -> int:
        """How many messages, or batches, may be worked on at once."""
        return self._allowed

    def look(self) -> None:
        """Measure if it is time to, and do what follows."""
        if (now := self._clock()) < self._due:
            return
        self._due = now + PERIOD
        used = self._measure()
        if used is None:
            return
        if used > self._bound:
            self._allow(max(1, min(self._allowed, max(1, self._running())) // 2))
        elif used < self._bound * RESUME and self._allowed < self._most:
            self._allow(min(self._most, self._allowed + max(1, self._allowed // RISE)))

    def admit(self, count: int) -> Admission:
        """Let in what keeps the lowered number of workers at work until the next look."""
        if self._allowed >= self._most:
            return Admission(count)
        room = self._allowed * self._size * KEPT - self._waiting()
        return Admission(max(0, min(count, room)), ASK_AGAIN)

    def _allow(self, number: int) -> None:
        self._allowed = number
        lowered = number < self._most
        self._places.offer(number if lowered else None)
        if lowered:
            self._stops.add(
                REASON, lambda: sys.maxsize
            )  # a name only: how much may come in is said by `admit`
        else:
            self._stops.discard(REASON)
