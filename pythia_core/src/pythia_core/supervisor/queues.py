"""Turns what inspectors say of queues into observations: how much is left, how fast it comes, how fast it goes.

It stands apart from the watch because a fleet seen from outside, pod by pod, needs the same: see
:class:`~pythia_core.supervisor.lookout.Lookout`. It has no clock: every call is told the time.

Invariants: what is not known is None; an answer older than 15 s is not known; a rate needs 8 s of history, and one that
ends no longer ago than the window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import attrs

from pythia_core.contracts import QueueObservation

__all__ = ["STALE", "WINDOW", "Queues"]

WINDOW = 15.0
"""Seconds of history. Positions are committed in steps and counted brokers sample every 5 s, so less would flicker."""

LEAST_WINDOW = 8.0
STALE = 15.0  # seconds after which an answer of a broker is no longer known


@attrs.define(eq=False)
class _Queue:
    """What was last known of one queue, and how much was left when."""

    at: float
    said: Mapping[str, Any]
    worker: Mapping[str, Any]
    history: deque[tuple[float, int, int]] = attrs.field(factory=deque)  # when, left, settled so far


@attrs.define(eq=False)
class Queues:
    """The queues of a fleet, by the name of the worker that reads them.

    Args:
        window: seconds of history that rates are measured over.
    """

    window: float = WINDOW
    _queues: dict[str, _Queue] = attrs.field(factory=dict)

    def heard_at(self, name: str) -> float | None:
        """Return when the last answer was true, or None if there is none."""
        return queue.at if (queue := self._queues.get(name)) is not None else None

    def hear(self, worker: Mapping[str, Any], said: Mapping[str, Any], at: float) -> None:
        """Take an answer.

        Args:
            worker: who reads there: ``name``, ``system``, ``destination`` and ``group``.
            said: the answer, as a report has it.
            at: when it was true.
        """
        before = self._queues.get(worker["name"])
        history: deque[tuple[float, int, int]] = before.history if before is not None else deque()
        if said["waiting"] is None:
            history.clear()
        self._queues[worker["name"]] = _Queue(at, said, worker, history)

    def note(self, name: str, settled: int) -> None:
        """Make the last answer a point of the history: rates are measured between such points.

        Args:
            name: the worker's.
            settled: how many messages all processes had settled when the answer was true.
        """
        queue = self._queues.get(name)
        if queue is None or queue.said["waiting"] is None:
            return
        history = queue.history
        history.append((queue.at, queue.said["waiting"] + (queue.said["in_flight"] or 0), settled))
        while queue.at - history[0][0] > self.window:
            history.popleft()

    def stale(self, now: float) -> tuple[str, ...]:
        """Return the names of those of which nothing is known any more."""
        return tuple(name for name, queue in self._queues.items() if now - queue.at > STALE)

    def observed(self, now: float) -> dict[str, QueueObservation]:
        """Return what is known of each, by the worker's name."""
        return {name: self._observed(queue, now) for name, queue in self._queues.items()}

    def _observed(self, queue: _Queue, now: float) -> QueueObservation:
        worker, said = queue.worker, queue.said
        common = {"system": worker["system"], "destination": worker["destination"], "group": worker["group"]}
        if now - queue.at > STALE:
            return QueueObservation(**common)
        arrival, ack = self._rates(queue, now)
        return QueueObservation(
            **common,
            backlog=said["waiting"],
            in_flight=said["in_flight"],
            oldest_age_s=said["oldest"],
            arrival_rate=arrival,
            ack_rate=ack,
            partitions=said["partitions"],
            partitions_with_lag=said["partitions_with_lag"],
            max_partition_lag=said["max_partition_lag"],
            at_least=said["at_least"],
            stalled=bool(said["waiting"]) and ack == 0.0,
        )

    def _rates(self, queue: _Queue, now: float) -> tuple[float | None, float | None]:
        """Return arrivals and settlements a second: what came is what is more, and what went."""
        if len(queue.history) < 2 or now - queue.history[-1][0] > self.window + STALE:
            return None, None
        (since, before, settled), (until, after, now_settled) = queue.history[0], queue.history[-1]
        passed = until - since
        if passed < LEAST_WINDOW:
            return None, None
        ack = max(0, now_settled - settled) / passed
        return max(0.0, (after - before) / passed + ack), ack
