"""What a contender is handed and what it gives back: the one thing that drivers and harness share.

The stopwatch is the contender's to start and stop, since only it knows when its work begins and when all is settled.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import attrs


@attrs.frozen
class Measurement:
    """One contender, run once.

    Args:
        seconds: of wall time.
        cpu_seconds: of the contender's process, in all of its threads.
        messages: how many were worked on.
    """

    seconds: float
    cpu_seconds: float
    messages: int

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds

    @property
    def cpu_micros(self) -> float:
        """CPU microseconds per message."""
        return self.cpu_seconds / self.messages * 1e6


@attrs.define
class Run:
    """One turn of a contender.

    Args:
        messages: how many to work on.
        place: where the broker is, in the words of the bench.

    Attributes:
        figures: what a probe measured, by the name of its figure; contenders that are timed leave it alone.
    """

    messages: int
    place: Mapping[str, str] = attrs.field(factory=dict[str, str])
    figures: dict[str, float] = attrs.field(factory=dict[str, float], init=False)
    _began: tuple[float, float] = attrs.field(default=(0.0, 0.0), init=False)
    _measured: Measurement | None = attrs.field(default=None, init=False)

    def start(self) -> None:
        """Start the clocks."""
        self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Stop the clocks: every message is settled. Only the first call counts."""
        if self._measured is None:
            wall, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
            self._measured = Measurement(wall, cpu, self.messages)

    @property
    def measured(self) -> Measurement | None:
        """What the clocks say, or None if they were never stopped."""
        return self._measured
