"""The scaling loop: asks a policy every few seconds how many processes there should be, and keeps what it answered.

It has no clock and starts nothing: it is told a snapshot and answers a number within the bounds. Damping is the policy's.

Invariants: the answer lies within the bounds; unknown, an answer that makes no sense and a policy that raises mean that
nothing changes; every decision is kept with its inputs, the last 200 of them.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import Any

import attrs

from pythia_core.contracts import Recommendation, ScalingPolicy, Snapshot

__all__ = ["Decision", "Scaler"]

DECIDE_SECONDS = 5.0
KEPT = 200

log = logging.getLogger("pythia.scaling")


@attrs.frozen(kw_only=True)
class Decision:
    """What was decided, and why.

    Args:
        wall: when, in epoch seconds.
        before, after: how many processes there were to be, and are to be now.
        raw: what the policy wanted, before rounding and bounds.
        reason, inputs, confidence: the policy's own.
        observed: what it was told of queues and workers, in short.
    """

    wall: float
    before: int
    after: int
    raw: float
    reason: str
    confidence: str
    inputs: dict[str, float]
    observed: dict[str, Any]


@attrs.define(eq=False)
class Scaler:
    """Asks a policy.

    Args:
        policy: what decides.
        name: what it is called in configuration.
        least, most: bounds.
        interval: seconds between decisions.
    """

    policy: ScalingPolicy
    name: str
    least: int
    most: int
    interval: float = DECIDE_SECONDS
    decisions: deque[Decision] = attrs.field(factory=lambda: deque(maxlen=KEPT), init=False)
    failures: int = attrs.field(default=0, init=False)
    last_up: float | None = attrs.field(default=None, init=False)
    last_down: float | None = attrs.field(default=None, init=False)
    _state: dict[str, Any] = attrs.field(factory=dict, init=False)
    _due: float | None = attrs.field(default=None, init=False)

    def due(self, now: float) -> bool:
        """Tell whether it is time for a decision; the first comes after one interval, when there is something to see."""
        if self._due is None:
            self._due = now + self.interval
        return now >= self._due

    def hurry(self, now: float) -> None:
        """Have the next decision at once, since something was said that it is about."""
        self._due = now

    def decide(self, snapshot: Snapshot) -> Decision:
        """Ask the policy and keep its answer."""
        self._due = snapshot.now + self.interval
        wanted = self._ask(snapshot)
        decision = Decision(
            wall=snapshot.wall,
            before=snapshot.desired,
            after=self._applied(wanted, snapshot.desired),
            raw=wanted.replicas,
            reason=wanted.reason,
            confidence=wanted.confidence,
            inputs=dict(wanted.inputs),
            observed=_in_short(snapshot),
        )
        self.decisions.append(decision)
        if decision.after > decision.before:
            self.last_up = snapshot.now
        elif decision.after < decision.before:
            self.last_down = snapshot.now
        return decision

    def _ask(self, snapshot: Snapshot) -> Recommendation:
        try:
            return self.policy.decide(snapshot, self._state)
        except Exception:
            self.failures += 1
            if self.failures == 1:
                log.exception("the scaling policy %s raised, which means that nothing changes", self.name)
            return Recommendation(replicas=snapshot.desired, reason="policy_failed", confidence="unknown")

    def _applied(self, wanted: Recommendation, current: int) -> int:
        number = current
        if wanted.confidence != "unknown" and math.isfinite(wanted.replicas):
            number = math.ceil(wanted.replicas - 1e-9)
        if wanted.floor is not None:
            number = max(number, wanted.floor)
        if wanted.cap is not None:
            number = min(number, wanted.cap)
        return max(self.least, min(self.most, number))


def _in_short(snapshot: Snapshot) -> dict[str, Any]:
    queues = [
        {
            "destination": queue.destination,
            "backlog": queue.backlog,
            "in_flight": queue.in_flight,
            "oldest_age_s": queue.oldest_age_s,
            "arrival_rate": queue.arrival_rate,
            "ack_rate": queue.ack_rate,
        }
        for queue in snapshot.queues
    ]
    ready = [worker for worker in snapshot.workers if worker.state == "ready"]
    return {
        "queues": queues,
        "ready": snapshot.ready,
        "true_rate": snapshot.true_rate,
        "busy": sum(worker.busy for worker in ready) / len(ready) if ready else None,
        "paused": sorted({reason for worker in snapshot.workers for reason in worker.paused}),
    }
