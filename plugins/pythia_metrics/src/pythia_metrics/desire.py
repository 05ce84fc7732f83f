"""What is published to an autoscaler outside: how many replicas there should be, as a pure function of what is known.

The number is raw: whoever scales by it (Kubernetes' HPA) damps, and two dampers in series swing.

Invariants, each with a test:

- D1. Nothing is published where the backlog is unknown: an error holds what there is, and a 0 would not.
- D2. Where the backlog is known and what a replica does is not, it is the present number, and one at least.
- D3. 0 is published only where nothing is left, nothing is in flight, nothing comes, and the bounds allow it. While there
  are replicas, what is unknown of these counts as something.
- D4. A part that is known may wake a deployment that sleeps, and scale out; only the whole scales in.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, TypeVar

import attrs

from pythia_core import Decision, Recommendation, Snapshot

__all__ = ["Desire", "desire"]

Number = TypeVar("Number", int, float)


@attrs.frozen(kw_only=True)
class Desire:
    """What is published, in the words of the JSON.

    Args:
        worker: the name it is asked for by.
        desired: replicas; None where that is unknown.
        active: whether there should be any; None where that is unknown.
        reason: the policy's code.
        confidence: ``ok``; ``stale`` where the present number is held; ``unknown``.
        observed_at: when, in ISO 8601.
        raw: what the policy wants, before rounding and bounds.
        need_rate: messages a second that are to be done.
        true_rate: messages a second that one replica does at its limit.
        arrival_rate: messages a second that come.
        backlog: messages left; None where a part of that is unknown.
        in_flight: messages delivered and not settled; None where a part of that is unknown.
        oldest_age_seconds: of the oldest message.
        replicas, ready: how many there are.
        errors: who did not answer.
    """

    worker: str
    desired: int | None
    active: bool | None
    reason: str
    confidence: Literal["ok", "stale", "unknown"]
    observed_at: str
    raw: float | None = None
    need_rate: float | None = None
    true_rate: float | None = None
    arrival_rate: float | None = None
    backlog: int | None = None
    in_flight: int | None = None
    oldest_age_seconds: float | None = None
    replicas: int = 0
    ready: int = 0
    errors: tuple[str, ...] = ()


def desire(
    name: str, snapshot: Snapshot, decision: Decision, said: Recommendation, *, pods_known: bool
) -> Desire:
    """Return what is published.

    Args:
        name: the deployment's.
        snapshot: what is known.
        decision: the policy's answer within the bounds.
        said: the policy's answer.
        pods_known: whether the present number is known.
    """
    number, confidence = _number(snapshot, decision, said, pods_known)
    known = number is not None
    return Desire(
        worker=name,
        desired=number,
        active=number > 0 if number is not None else None,
        reason=decision.reason if known or decision.confidence == "unknown" else "hold_unknown",
        confidence=confidence,
        observed_at=datetime.fromtimestamp(snapshot.wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        raw=decision.raw if decision.confidence != "unknown" else None,
        need_rate=decision.inputs.get("need_rate"),
        true_rate=snapshot.true_rate,
        arrival_rate=_sum([queue.arrival_rate for queue in snapshot.queues]),
        backlog=_sum([queue.backlog for queue in snapshot.queues]),
        in_flight=_sum([queue.in_flight for queue in snapshot.queues]),
        oldest_age_seconds=max(
            (queue.oldest_age_s for queue in snapshot.queues if queue.oldest_age_s is not None), default=None
        ),
        replicas=snapshot.replicas,
        ready=snapshot.ready,
        errors=snapshot.errors,
    )


def _number(
    snapshot: Snapshot, decision: Decision, said: Recommendation, pods_known: bool
) -> tuple[int | None, Literal["ok", "stale", "unknown"]]:
    confidence: Literal["ok", "stale"] = "ok"
    whole = bool(snapshot.queues) and all(queue.backlog is not None for queue in snapshot.queues)
    if not whole and not _something(snapshot):
        return None, "unknown"
    if decision.confidence == "unknown":
        if not pods_known or (snapshot.replicas and not whole):
            return None, "unknown"
        confidence = "stale"
    elif decision.confidence == "stale":
        confidence = "stale"
    if whole and _sleeps(snapshot, pods_known) and not said.floor:
        return snapshot.min, confidence
    return max(1, decision.after), confidence


def _something(snapshot: Snapshot) -> bool:
    """Tell whether something is known to be left, at work, or coming."""
    return any(queue.backlog or queue.in_flight or queue.arrival_rate for queue in snapshot.queues)


def _sleeps(snapshot: Snapshot, pods_known: bool) -> bool:
    """Tell whether nothing is to be done, for sure."""
    some_pods = snapshot.replicas > 0 or not pods_known
    unsure = some_pods and any(None in (queue.in_flight, queue.arrival_rate) for queue in snapshot.queues)
    return not unsure and not _something(snapshot)


def _sum(values: Iterable[Number | None]) -> Number | None:
    """Return the sum; None if a part is unknown, or there is none."""
    total: Number | None = None
    for value in values:
        if value is None:
            return None
        total = value if total is None else total + value
    return total
