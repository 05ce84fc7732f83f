"""Pods for tests: reports by hand, and a lookout whose broker is the test."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import attrs

from pythia_core import Queues, ScalingPolicy, WorkerObservation
from pythia_metrics.policies import Drain
from pythia_metrics.report import VERSION, PodReport


def process(number: int = 0, **more: Any) -> WorkerObservation:
    """Return a process that is ready and half busy."""
    said = {"state": "ready", "busy": 0.5, "slots": 10, "rate": 5.0, "age_s": 100.0, **more}
    return WorkerObservation(id=str(number), **said)


def pod(
    name: str = "a",
    settled: int = 0,
    *,
    age_s: float = 100.0,
    in_flight: int = 0,
    processes: int = 1,
    **more: Any,
) -> PodReport:
    """Return a pod's report."""
    return PodReport(
        version=VERSION,
        instance=name,
        worker="orders.py",
        stopping=more.pop("stopping", False),
        age_s=age_s,
        start_s=more.pop("start_s", 3.0),
        settled={"orders": settled},
        in_flight={"orders": in_flight},
        processes=[process(number, **more) for number in range(processes)],
    )


@attrs.define(eq=False)
class Told:
    """A lookout that knows what the test tells it."""

    policy: ScalingPolicy | None = attrs.field(factory=Drain)
    policy_name: str = "drain"
    queues: Queues = attrs.field(factory=lambda: Queues(30.0))
    fault: str = ""
    fresh: bool = False

    def tell(self, waiting: int | None, in_flight: int | None = 0, *, now: float | None = None) -> None:
        """Say how much is left."""
        worker = {"name": "orders", "system": "test", "destination": "orders", "group": "g"}
        said = {
            "waiting": waiting,
            "in_flight": in_flight,
            "oldest": None,
            "at_least": False,
            "partitions": None,
            "partitions_with_lag": None,
            "max_partition_lag": None,
        }
        self.queues.hear(worker, said, time.monotonic() if now is None else now)
        self.fresh = True

    def look(self) -> bool:
        """Return whether the test has told something."""
        fresh, self.fresh = self.fresh, False
        return fresh

    def note(self, settled: Mapping[str, int]) -> None:
        """Make a point of the history."""
        self.queues.note("orders", settled.get("orders", 0))

    def observed(self, now: float) -> Any:
        """Return what is known."""
        return self.queues.observed(now)
