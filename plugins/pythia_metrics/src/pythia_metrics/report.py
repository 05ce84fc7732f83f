"""What a pod tells of itself at ``/report``, written by its monitor and read by ``pythia scaling serve``.

It stands apart because both ends must mean the same by it, and a rolling update has two versions of it at once: what is
unknown in a report is ignored, and one of another ``version`` is refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from pythia_core import DecodeError, Snapshot, WorkerObservation, structure

__all__ = ["VERSION", "Counts", "PodReport", "as_replica", "read", "write"]

VERSION = 1


@attrs.frozen(kw_only=True)
class PodReport:
    """One pod, or one machine: the processes under one supervisor.

    Args:
        version: of this form.
        instance: random, new with each supervisor, so that two lives of one pod are two.
        worker: what it runs.
        stopping: whether it drains.
        age_s, start_s: seconds that it lives, and that one of its processes takes to be ready.
        settled: messages that were settled so far, by worker, the dead processes' included; it never falls.
        in_flight: messages fetched and not settled, by worker.
        processes: as the supervisor sees them.
    """

    version: int
    instance: str
    worker: str
    stopping: bool
    age_s: float
    start_s: float
    settled: dict[str, int]
    in_flight: dict[str, int]
    processes: list[WorkerObservation]


@attrs.define(eq=False)
class Counts:
    """What the processes of a pod have settled and have in flight."""

    _living: dict[int, Mapping[str, Mapping[str, int]]] = attrs.field(factory=dict)
    _gone: Counter[str] = attrs.field(factory=Counter)

    def take(self, number: int, report: Mapping[str, Any]) -> None:
        """Take a process's report."""
        workers = report.get("workers", ())
        self._living[number] = {worker["name"]: worker.get("counters", {}) for worker in workers}

    def forget(self, number: int) -> None:
        """Keep what a dead process had settled; what it had in flight is in flight no more."""
        for name, counters in self._living.pop(number, {}).items():
            self._gone[name] += counters.get("settled", 0)

    def settled(self) -> dict[str, int]:
        """Return messages settled so far, by worker."""
        total = Counter(self._gone)
        for workers in self._living.values():
            total.update({name: counters.get("settled", 0) for name, counters in workers.items()})
        return dict(total)

    def in_flight(self) -> dict[str, int]:
        """Return messages in flight, by worker."""
        total: Counter[str] = Counter()
        for workers in self._living.values():
            total.update({name: counters.get("in_flight", 0) for name, counters in workers.items()})
        return dict(total)


def write(instance: str, fleet: Mapping[str, Any], counts: Counts) -> str:
    """Return the report of a fleet as its monitor was shown it last."""
    snapshot: Snapshot = fleet["snapshot"]
    said = PodReport(
        version=VERSION,
        instance=instance,
        worker=fleet["title"],
        stopping=bool(fleet["stopping"]),
        age_s=fleet["uptime"],
        start_s=snapshot.start_s,
        settled=counts.settled(),
        in_flight=counts.in_flight(),
        processes=list(snapshot.workers),
    )
    return json.dumps(attrs.asdict(said))


def read(text: str | bytes) -> PodReport:
    """Return a report.

    Raises:
        ValueError: if it is none, or one of another version.
    """
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("version") != VERSION:
        version = data.get("version") if isinstance(data, dict) else None
        raise ValueError(f"this is no report of version {VERSION}: its version is {version!r}")
    try:
        report: PodReport = structure(data, PodReport)
    except DecodeError as error:
        raise ValueError(f"this is no report: {error}") from None
    return report


def as_replica(report: PodReport) -> WorkerObservation:
    """Return a pod as one worker: what a policy counts outside is pods, whatever number of processes each of them has."""
    ready = [process for process in report.processes if process.state == "ready"]
    services = [process.service_s for process in ready if process.service_s is not None]
    state: Literal["starting", "ready", "draining"] = (
        "draining" if report.stopping else "ready" if ready else "starting"
    )
    return WorkerObservation(
        id=report.instance,
        state=state,
        busy=sum(process.busy for process in ready) / len(ready) if ready else 0.0,
        slots=sum(process.slots for process in ready) or 1,
        rate=sum(process.rate for process in report.processes),
        service_s=sum(services) / len(services) if services else None,
        cpu=sum(process.cpu for process in report.processes),
        cpu_limit=float(len(report.processes)) or None,  # one process computes on one processor at most
        rss_bytes=sum(process.rss_bytes for process in report.processes),
        age_s=max((process.age_s for process in ready), default=report.age_s),
        idle_s=min((process.idle_s for process in ready), default=0.0),
        paused=tuple(sorted({reason for process in report.processes for reason in process.paused})),
        throttled=any(process.throttled for process in report.processes),
    )
