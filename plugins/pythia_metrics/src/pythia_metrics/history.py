"""Keeps the last ten minutes of a fleet in a few figures, so that a page that is opened has something to draw at once.

It has no clock: who tells it the fleet tells it the time. What is unknown is None and stays a gap in the line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from pythia_core import Snapshot

__all__ = ["COLUMNS", "History"]

STEP_SECONDS: Final = 2.0
KEPT: Final = 300
SET_BACK_SECONDS: Final = 60.0

COLUMNS: Final = (
    "at",
    "backlog",
    "oldest",
    "arrivals",
    "settled",
    "capacity",
    "ready",
    "desired",
    "least",
    "most",
    "busy",
)
"""What each row holds: epoch seconds, messages, seconds, messages a second (three times), processes (four times), a share."""


@attrs.define(eq=False)
class History:
    """Rows of figures, two seconds apart."""

    _rows: deque[tuple[float | None, ...]] = attrs.field(factory=lambda: deque(maxlen=KEPT))

    def note(self, fleet: Mapping[str, Any], wall: float) -> None:
        """Add a row, if it is time for one. A clock that was set back by minutes begins anew."""
        last = self._rows[-1][0] if self._rows else None
        if last is not None and wall < last - SET_BACK_SECONDS:
            self._rows.clear()
        elif (
            last is not None and wall - last < STEP_SECONDS - 0.5
        ):  # it is told each second, or a little later
            return
        self._rows.append((wall, *_figures(fleet["snapshot"], fleet)))

    def since(self, wall: float) -> list[tuple[float | None, ...]]:
        """Return the rows that are later than an epoch second."""
        return [row for row in self._rows if row[0] is not None and row[0] > wall]


def _figures(snapshot: Snapshot, fleet: Mapping[str, Any]) -> Iterable[float | None]:
    queues = snapshot.queues
    ready = [worker for worker in snapshot.workers if worker.state == "ready"]
    limited = fleet["policy"] is not None
    return (
        total(None if queue.backlog is None else queue.backlog + (queue.in_flight or 0) for queue in queues),
        max((queue.oldest_age_s for queue in queues if queue.oldest_age_s is not None), default=None),
        total(queue.arrival_rate for queue in queues),
        total(queue.ack_rate for queue in queues),
        None if snapshot.true_rate is None else snapshot.true_rate * snapshot.ready,
        snapshot.ready,
        fleet["target"],
        snapshot.min if limited else None,
        snapshot.max if limited else None,
        sum(worker.busy for worker in ready) / len(ready) if ready else None,
    )


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known, None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
