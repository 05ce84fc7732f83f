"""The memory gate: intake stops before the process has used up its memory, and the process makes room for another.

It stands apart from :mod:`~pythia_core.engine.intake` because it outlives subscriptions, and because what it measures
belongs to the process, which the engine does not know: whoever runs the engine says how.

Invariants:

- G1. At 90 % of the bound intake stops, by a reason of its own; it resumes at 90 % of that.
- G2. Only if it is still there once nothing runs and no output is on its way, is the end of the process asked for, once:
  nothing that could free memory is left to do, and Python gives little of it back.
- G3. The threshold differs by up to 10 % between processes, so that they do not all stop at one time.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from pythia_core.engine.stops import Stops

STOP = 0.9  # of the bound
RESUME = 0.9  # of the threshold
JITTER = 0.1  # of the threshold, up or down
REASON = "memory"
MIB = 1 << 20


class MemoryGate:
    """Stops intake by memory.

    Args:
        bound: MiB.
        measure: returns the bytes of memory that the process has now.
        stops: where the reason is set.
        idle: returns True while nothing runs and no output is on its way.
        exhausted: called with the reason when only another process helps.
        random: returns a float in ``[0, 1)``.
    """

    def __init__(
        self,
        bound: float,
        measure: Callable[[], int],
        stops: Stops,
        *,
        idle: Callable[[], bool],
        exhausted: Callable[[str], None],
        random: Callable[[], float],
    ) -> None:
        self._bound = bound
        self._threshold = bound * STOP * (1 + JITTER * (2 * random() - 1))
        self._measure = measure
        self._stops = stops
        self._idle = idle
        self._exhausted = exhausted
        self._asked = False

    def look(self) -> None:
        """Measure, and do what follows."""
        used = self._used()
        if REASON not in self._stops:
            if used >= self._threshold:
                self._stops.add(REASON)
        elif used <= self._threshold * RESUME:
            self._stops.discard(REASON)
        elif not self._asked and self._idle():
            gc.collect()  # what handlers left in cycles; a collection a process's life is not much
            if (used := self._used()) > self._threshold * RESUME:
                self._asked = True
                self._exhausted(
                    f"{used:.0f} MiB of max_memory_mb={self._bound:g} are used with nothing at work"
                )

    def _used(self) -> float:
        return self._measure() / MIB
