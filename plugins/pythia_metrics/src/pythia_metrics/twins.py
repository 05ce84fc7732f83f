"""What policies are compared with in the simulator, and never run by: a fixed number, and Kubernetes' autoscaler."""

from __future__ import annotations

import math
from typing import Any

import attrs

from pythia_core import Recommendation, Snapshot

__all__ = ["Fixed", "Hpa"]


@attrs.define
class Fixed:
    """Always the same number: what a policy is compared with."""

    number: int

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return it."""
        return Recommendation(replicas=self.number, reason="fixed")


@attrs.define
class Hpa:
    """A twin of Kubernetes' autoscaler with KEDA's lag: ``ceil(lag / threshold)``, 10 % tolerance, and its own damping.

    Args:
        threshold: KEDA's ``lagThreshold``.
        window: seconds for which the highest wish counts before it scales in.
    """

    threshold: float
    window: float = 300.0

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return how many."""
        lag, current, now = (
            sum(queue.backlog or 0 for queue in snapshot.queues),
            snapshot.desired,
            snapshot.now,
        )
        ratio = lag / self.threshold / current
        wanted = current if abs(ratio - 1) <= 0.1 else math.ceil(lag / self.threshold)
        recent = [(at, n) for at, n in state.get("wanted", []) if now - at < self.window]
        state["wanted"] = [*recent, (now, wanted)]
        number = wanted if wanted > current else max(n for _, n in state["wanted"])
        return Recommendation(replicas=max(1, min(number, max(current + 4, 2 * current))), reason="hpa")
