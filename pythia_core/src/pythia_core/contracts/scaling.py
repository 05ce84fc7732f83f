"""Scaling: what is observed, and the pure function that turns it into a number of processes.

A policy uses no clock, I/O or randomness: time is ``snapshot.now``, so a recorded history can be replayed through the
very code that runs. Unknown means hold, never scale in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import attrs


@attrs.frozen(kw_only=True)
class QueueObservation:
    """One source as its inspector saw it. None means unknown; rates are per second over the snapshot's window."""

    system: str
    destination: str
    group: str | None = None
    backlog: int | None = None
    in_flight: int | None = None
    oldest_age_s: float | None = None
    arrival_rate: float | None = None
    ack_rate: float | None = None
    partitions: int | None = None
    partitions_with_lag: int | None = None
    max_partition_lag: int | None = None
    at_least: bool = False
    uncommitted_partitions: int | None = None
    stalled: bool = False


@attrs.frozen(kw_only=True)
class WorkerObservation:
    """One process as it reported itself. ``busy`` is the used share of its slots, 0 to 1; ``rate`` is messages a second."""

    id: str
    state: Literal["starting", "ready", "draining", "dead"]
    busy: float = 0.0
    slots: int = 1
    rate: float = 0.0
    service_s: float | None = None
    cpu: float = 0.0
    cpu_limit: float | None = None
    rss_bytes: int = 0
    rss_limit: int | None = None
    age_s: float = 0.0
    idle_s: float = 0.0
    paused: tuple[str, ...] = ()
    throttled: bool = False
    oldest_running_s: float | None = None


@attrs.frozen(kw_only=True)
class Opinion:
    """What a worker's own class last answered when it was asked whether to scale.

    Args:
        worker: its name.
        at: when, in monotonic seconds.
        change: 1 for one process more, -1 for one less, 0 for neither.
    """

    worker: str
    at: float
    change: int


@attrs.frozen(kw_only=True)
class Snapshot:
    """Everything a policy may know. ``now`` is monotonic seconds; ``wall`` (epoch seconds) is for schedules only."""

    now: float
    wall: float
    worker: str
    window_s: float
    seq: int
    queues: tuple[QueueObservation, ...] = ()
    workers: tuple[WorkerObservation, ...] = ()
    replicas: int
    ready: int
    desired: int
    min: int
    max: int
    last_up: float | None = None
    last_down: float | None = None
    start_s: float = 1.0
    rebalance_s: float | None = None
    commit_hold_s: float | None = None
    true_rate: float | None = None
    errors: tuple[str, ...] = ()
    opinions: tuple[Opinion, ...] = ()


@attrs.frozen(kw_only=True)
class Recommendation:
    """What a policy wants.

    Args:
        replicas: raw and possibly fractional; whoever applies it rounds up and clamps to min and max.
        reason: a stable code such as ``drain`` or ``hold_unknown``.
        inputs: the numbers used, for logs and explanations.
        confidence: ``unknown`` means hold.
        cap, floor: bounds of a policy that only vetoes.
    """

    replicas: float
    reason: str
    inputs: Mapping[str, float] = attrs.field(factory=dict[str, float])
    confidence: Literal["ok", "stale", "unknown"] = "ok"
    cap: int | None = None
    floor: int | None = None


class ScalingPolicy(Protocol):
    """Decides how many processes there should be.

    Example:
        ::

            class Fixed:
                def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
                    return Recommendation(replicas=4, reason="fixed")
    """

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return a recommendation. May change only ``state``, which is JSON-able and kept by the caller."""
        ...
