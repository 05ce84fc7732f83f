"""The policies: from what is known to how many processes are wanted, as pure functions.

None has a clock, I/O or chance, so a history can be replayed through the very code that runs. What is unknown is never
taken for zero: a policy that lacks what it decides by says ``confidence="unknown"``, which means hold. They give raw
numbers; damping is the governor's (:mod:`~pythia_metrics.governor`), which is around each of them when it runs.
"""

from __future__ import annotations

from typing import Any

import attrs

from pythia_core import Recommendation, Snapshot, WorkerObservation

__all__ = [
    "Busy",
    "Cpu",
    "Drain",
    "Lag",
    "Latency",
    "Memory",
    "hold",
]

RHO = 0.7
"""The share of what processes can do that is planned for: above it waiting times grow fast (M/M/c)."""

LEAST_RATE = 1e-9
"""Messages a second below which a rate is none: that is one in thirty years, and to divide by less gives no number."""

HELPLESS = 0.10
"""A scale-up that gained less than this share of what was expected shows that something else is short."""

HELPLESS_SECONDS = 300.0

HOT = "hot_partition"
"""The reason where most of what is left lies in one partition: it stays visible, since somebody has to look there."""


def hold(snapshot: Snapshot, reason: str, **inputs: float) -> Recommendation:
    """Return that nothing changes, because what would be decided by is unknown."""
    return Recommendation(replicas=snapshot.desired, reason=reason, inputs=inputs, confidence="unknown")


def _ready(snapshot: Snapshot) -> list[WorkerObservation]:
    return [worker for worker in snapshot.workers if worker.state == "ready"]


def backlog_of(snapshot: Snapshot) -> tuple[int, bool]:
    """Return the known part of the backlog and whether all of it is known: a known part may scale out, never in."""
    known = [queue.backlog for queue in snapshot.queues if queue.backlog is not None]
    complete = len(known) == len(snapshot.queues) > 0 and not any(queue.at_least for queue in snapshot.queues)
    return sum(known), complete


def partition_cap(snapshot: Snapshot) -> int | None:
    """Return how many processes can own something, where messages come in partitions: more would be idle."""
    counts = [queue.partitions for queue in snapshot.queues]
    if not counts or any(count is None for count in counts):
        return None
    return max(1, sum(count or 0 for count in counts))


def _known_part(
    snapshot: Snapshot, replicas: float, reason: str, inputs: dict[str, float], complete: bool
) -> Recommendation:
    """Return a recommendation of which a part is unknown only where it scales out."""
    if not complete and replicas <= snapshot.desired:
        return hold(snapshot, "hold_unknown", **inputs)
    return Recommendation(replicas=replicas, reason=reason, inputs=inputs, cap=partition_cap(snapshot))


@attrs.define
class Drain:
    """As many as do what arrives, and what is left within a time: ``(arrivals / rho + (left + arrivals x start) / time) / rate``.

    A partition is one process's, so of what is left in the fullest one no more counts than one process can do: its
    reason is then ``hot_partition``, for which more processes are no help.

    Args:
        rho: the share of their rate that processes are planned for.
        drain_seconds: within which what is left is to be done.
        rate_hint: messages a second that one process, or one pod, does at its limit: what is taken until it was measured.
    """

    rho: float = RHO
    drain_seconds: float = 60.0
    rate_hint: float | None = None

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return how many. Needs a backlog and the measured rate of one process."""
        left, complete = backlog_of(snapshot)
        rates = [queue.arrival_rate for queue in snapshot.queues]
        if not snapshot.queues or (not complete and not left):
            return hold(snapshot, "hold_unknown")
        true_rate = self.rate_hint if snapshot.true_rate is None else snapshot.true_rate
        if true_rate is None or true_rate <= LEAST_RATE:
            return self._without_rate(snapshot, left, complete)
        if any(rate is None for rate in rates):
            return hold(snapshot, "hold_no_history", backlog=left)
        arrivals = sum(rate or 0.0 for rate in rates)
        fullest = max((queue.max_partition_lag or 0 for queue in snapshot.queues), default=0)
        idle = max(0.0, min(fullest, left) - true_rate * self.drain_seconds)
        catching_up = (left - idle + arrivals * snapshot.start_s) / self.drain_seconds if left else 0.0
        need = arrivals / self.rho + catching_up
        inputs = {
            "arrival_rate": arrivals,
            "backlog": left,
            "true_rate": true_rate,
            "start_s": snapshot.start_s,
            "need_rate": need,
            "utilisation": need * self.rho / (true_rate * max(1, snapshot.desired)),
            "lag_threshold": true_rate * (snapshot.commit_hold_s or 2.5) * self.rho,
        }
        reason = "drain" if catching_up > arrivals / self.rho else "arrival"
        if idle > left / 2:
            reason, inputs["max_partition_lag"] = HOT, fullest
        return _known_part(snapshot, max(1.0, need / true_rate), reason, inputs, complete)

    def _without_rate(self, snapshot: Snapshot, left: int, complete: bool) -> Recommendation:
        """Handlers that take an hour have no rate. Idle and nothing left is known all the same: then one is enough."""
        ready = _ready(snapshot)
        idle = bool(ready) and all(worker.busy == 0 for worker in ready)
        flying = sum(queue.in_flight or 0 for queue in snapshot.queues)
        if complete and not left and not flying and idle and snapshot.ready == snapshot.replicas:
            return Recommendation(replicas=1, reason="idle", inputs={"backlog": 0.0})
        return hold(snapshot, "hold_no_rate", backlog=left)


@attrs.define
class Lag:
    """``left / threshold``, as KEDA does it; without a threshold it is computed from the measured rate.

    Args:
        threshold: messages for each process, or None for ``rate x time between commits x 0.7``.
        with_lag: True for no more than there are partitions with something left, as KEDA's ``limitToPartitionsWithLag``.
        even: True for a number by which the partitions can be divided, as KEDA's ``ensureEvenDistributionOfPartitions``.
        rate_hint: the rate until it was measured.
    """

    threshold: float | None = None
    with_lag: bool = False
    even: bool = False
    rate_hint: float | None = None

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return how many."""
        left, complete = backlog_of(snapshot)
        if not snapshot.queues or (not complete and not left):
            return hold(snapshot, "hold_unknown")
        threshold = self.threshold
        if threshold is None:
            true_rate = self.rate_hint if snapshot.true_rate is None else snapshot.true_rate
            if true_rate is None:
                return hold(snapshot, "hold_no_rate", backlog=left)
            threshold = true_rate * (snapshot.commit_hold_s or 2.5) * RHO
        inputs = {"backlog": float(left), "threshold": threshold}
        wanted = max(1.0, left / threshold) if threshold > LEAST_RATE else float(snapshot.desired)
        if (cap := self._cap(snapshot)) is not None:
            wanted = min(wanted, cap)
        if self.even and (partitions := partition_cap(snapshot)) is not None:
            wanted = next(
                (n for n in range(1, partitions) if n >= wanted and partitions % n == 0), partitions
            )
        return _known_part(snapshot, wanted, "lag", inputs, complete)

    def _cap(self, snapshot: Snapshot) -> int | None:
        counts = [queue.partitions_with_lag for queue in snapshot.queues if self.with_lag]
        known = [count for count in counts if count is not None]
        return max(1, sum(known)) if known and len(known) == len(counts) else None


@attrs.define
class Latency:
    """By the age of the oldest message: above ``hi`` in proportion, at most twice as many; below ``lo`` one fewer.

    Args:
        hi: seconds.
        lo: seconds.
    """

    hi: float = 30.0
    lo: float = 3.0

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return how many. A queue that is known to be empty has an age of 0."""
        ages = [0.0 if queue.backlog == 0 else queue.oldest_age_s for queue in snapshot.queues]
        known = [age for age in ages if age is not None]
        if not known:
            return hold(snapshot, "hold_unknown")
        oldest, current = max(known), max(1, snapshot.desired)
        inputs = {"oldest_age_s": oldest}
        if oldest > self.hi:
            wanted = min(2.0 * current, current * oldest / self.hi)
            return _known_part(snapshot, wanted, "age", inputs, len(known) == len(ages))
        wanted = current - 1 if oldest < self.lo else current
        return _known_part(snapshot, max(1, wanted), "age", inputs, len(known) == len(ages))


@attrs.define
class Busy:
    """``n x busy / rho``: by the used share of slots or processor; needs no broker.

    Args:
        rho: the share that is aimed at.
    """

    rho: float = RHO

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return how many."""
        ready = _ready(snapshot)
        if not ready:
            return hold(snapshot, "hold_unknown")
        busy = sum(worker.busy for worker in ready)
        inputs = {"busy": busy / len(ready), "ready": float(len(ready))}
        return Recommendation(
            replicas=max(1.0, busy / self.rho), reason="busy", inputs=inputs, cap=partition_cap(snapshot)
        )


@attrs.define
class Cpu:
    """The horizontal pod autoscaler's formula on processor time; a driver for processor-bound work only.

    Work that waits can be late with an idle processor, which this policy answers by scaling in.

    Args:
        target: the share of one processor that a process should use.
    """

    target: float = 0.7

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return how many."""
        ready = _ready(snapshot)
        if not ready:
            return hold(snapshot, "hold_unknown")
        used = sum(worker.cpu / (worker.cpu_limit or 1.0) for worker in ready)
        inputs = {"cpu": used / len(ready), "target": self.target}
        return Recommendation(replicas=max(1.0, used / self.target), reason="cpu", inputs=inputs)


@attrs.define
class Memory:
    """A cap: no more processes than fit into the memory at their present size. It never drives.

    Args:
        limit_mb: MiB for all processes together.
        target: the share of it that may be used.
    """

    limit_mb: float = attrs.field()
    target: float = 0.8

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return the present number, and how many fit."""
        sizes = [worker.rss_bytes for worker in _ready(snapshot) if worker.rss_bytes]
        if not sizes:
            return hold(snapshot, "hold_unknown")
        fit = max(1, int(self.limit_mb * self.target * (1 << 20) / max(sizes)))
        inputs = {"largest_mb": max(sizes) / (1 << 20), "fit": float(fit)}
        return Recommendation(replicas=min(snapshot.desired, fit), reason="memory", inputs=inputs, cap=fit)
