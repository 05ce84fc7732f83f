"""Learns what one replica does at full load, which a scaling policy divides by: as it is under a backlog, else what it would be.

It stands apart from the watch because pods are measured by the same rule as processes are.
"""

from __future__ import annotations

from collections.abc import Collection

import attrs

from pythia_core.contracts import QueueObservation, WorkerObservation
from pythia_core.supervisor.queues import WINDOW

__all__ = ["TrueRate"]

LEAST_DONE, LEAST_BUSY = 20, 0.2  # below them a rate says nothing of what a replica can do
SMOOTHING = 0.3
FULL = 0.9  # the used share from which on replicas are at their limit, whatever part of a backlog is theirs
BACKLOGGED = 2.0  # messages waiting for each slot, from which on replicas are taken for saturated


@attrs.define(eq=False)
class TrueRate:
    """The rate of one replica at its limit.

    Args:
        value: messages a second, smoothed; None is not known.
        best: the most that was seen under a backlog, which an estimate never passes.
    """

    value: float | None = None
    best: float | None = None

    def learn(self, workers: Collection[WorkerObservation], queues: Collection[QueueObservation]) -> None:
        """Take what was seen in the last window into account."""
        ready = [worker for worker in workers if worker.state == "ready"]
        rate, busy = sum(worker.rate for worker in ready), sum(worker.busy for worker in ready)
        if not ready or rate * WINDOW < LEAST_DONE or busy < LEAST_BUSY:
            return
        slots = sum(worker.slots for worker in ready)
        backlog = sum(queue.backlog or 0 for queue in queues)
        settled_in = min(worker.age_s for worker in ready) >= WINDOW  # else it was not there all the time
        # One partition is one process's: behind a message that does not end there lies more and more, and the others idle.
        elsewhere = backlog - max((queue.max_partition_lag or 0 for queue in queues), default=0)
        at_limit = elsewhere > BACKLOGGED * slots or (
            backlog > BACKLOGGED * slots and busy > FULL * len(ready)
        )
        if at_limit and settled_in:
            sample = rate / len(ready)
            self.best = max(self.best or 0.0, sample)
        else:
            sample = min(rate / busy, self.best or float("inf"))
        before = self.value if self.value is not None else sample
        self.value = before + SMOOTHING * (sample - before)
