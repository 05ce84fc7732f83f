"""The pods of a deployment as they are seen from outside, round by round: how many, what they do, what they have settled.

It stands apart from how they are reached, so that tests can have pods come, go, restart and fall silent in any order. It
has no clock: every call is told the time.

Invariants, each with a test:

- O1. What was settled never falls and counts once: a pod that is seen first in the middle of its life, one that restarts
  under the same address and one that was not heard for a while add what they did since, or nothing.
- O2. A pod that does not answer is there all the same, and what is known of queues is then a part: it may scale out, never
  in.
- O3. Not knowing which pods there are is not the same as knowing that there are none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

import attrs

from pythia_core import QueueObservation, Snapshot, WorkerObservation
from pythia_metrics.report import PodReport, as_replica

__all__ = ["Pods"]

PATIENCE = 3  # rounds that may be missed before rates are measured without whoever misses them
FORGET_SECONDS = 300.0  # after which a silent pod that speaks again is a new one
SLACK = 1.0  # seconds that a report may be old


@attrs.frozen
class _Heard:
    """What had been counted of a pod, and when it was heard last."""

    at: float
    settled: Mapping[str, int]


@attrs.define(eq=False)
class Pods:
    """What is known of the pods."""

    known: bool = False  # whether anybody has ever said which there are
    reports: dict[str, PodReport] = attrs.field(factory=dict)  # of the last round, by instance
    silent: dict[str, int] = attrs.field(factory=dict)  # rounds missed in a row, by address
    _lost: bool = False  # nobody could say which there are, this time
    _settled: Counter[str] = attrs.field(factory=Counter)
    _heard: dict[str, _Heard] = attrs.field(factory=dict)
    _round: float | None = None
    _seq: int = 0

    def take(self, addresses: Sequence[str] | None, reports: Mapping[str, PodReport], now: float) -> None:
        """Take what a round brought.

        Args:
            addresses: where pods are; None if nobody could say.
            reports: what those that answered said, by address.
            now: monotonic seconds.
        """
        self._lost = addresses is None
        if addresses is not None:
            self.known = True
            self.silent = {a: self.silent.get(a, 0) + 1 for a in addresses if a not in reports}
        self.reports = {report.instance: report for report in reports.values()}
        for report in self.reports.values():
            self._count(report, now)
        self._heard = {name: said for name, said in self._heard.items() if now - said.at <= FORGET_SECONDS}
        self._round = now

    def _count(self, report: PodReport, now: float) -> None:
        before = self._heard.get(report.instance)
        if before is not None:
            base = before.settled
        else:
            new = self._round is not None and report.age_s <= now - self._round + SLACK
            base = {} if new else report.settled
        for name, settled in report.settled.items():
            self._settled[name] += max(0, settled - base.get(name, 0))
        self._heard[report.instance] = _Heard(now, report.settled)

    @property
    def settled(self) -> Mapping[str, int]:
        """How many messages have been settled since this was made, by worker."""
        return self._settled

    @property
    def countable(self) -> bool:
        """Whether rates may be measured up to this round: everybody answered, or has not for so long that it is a part."""
        return not self._lost and all(missed >= PATIENCE for missed in self.silent.values())

    @property
    def partial(self) -> bool:
        """Whether some pods are not heard."""
        return self._lost or bool(self.silent)

    @property
    def replicas(self) -> int:
        """How many there are, whether they answer or not."""
        return len(self.reports) + len(self.silent)

    @property
    def start_seconds(self) -> float | None:
        """How long a process takes to be ready, the slowest pod's; None if nobody says."""
        return max((report.start_s for report in self.reports.values()), default=None)

    def workers(self) -> tuple[WorkerObservation, ...]:
        """Return the pods as a policy sees them."""
        heard = [as_replica(report) for report in self.reports.values()]
        silent = [WorkerObservation(id="", state="starting") for _ in self.silent]
        return tuple(attrs.evolve(worker, id=str(n)) for n, worker in enumerate([*heard, *silent]))

    def snapshot(
        self,
        queues: Mapping[str, QueueObservation],
        *,
        title: str,
        now: float,
        wall: float,
        least: int,
        most: int,
        window_s: float,
        start_s: float,
        true_rate: float | None,
        errors: Sequence[str] = (),
    ) -> Snapshot:
        """Return what is known now: pods are the workers, and what is wanted is what there is."""
        self._seq += 1
        workers = self.workers()
        return Snapshot(
            now=now,
            wall=wall,
            worker=title,
            window_s=window_s,
            seq=self._seq,
            queues=tuple(self._completed(name, queue) for name, queue in queues.items()),
            workers=workers,
            replicas=self.replicas,
            ready=sum(worker.state == "ready" for worker in workers),
            desired=self.replicas,
            min=least,
            max=most,
            start_s=start_s,
            true_rate=true_rate,
            errors=(*errors, *self.silent),
        )

    def _completed(self, name: str, queue: QueueObservation) -> QueueObservation:
        """Add what only pods know: what is in flight where the broker cannot say, and whom partitions are shared among."""
        in_flight = queue.in_flight
        if in_flight is None and self.known and not self.partial:
            in_flight = sum(report.in_flight.get(name, 0) for report in self.reports.values())
        partitions = queue.partitions
        if partitions is not None:
            partitions = math.ceil(partitions / self._processes())
        at_least = queue.at_least or self.partial
        return attrs.evolve(queue, in_flight=in_flight, partitions=partitions, at_least=at_least)

    def _processes(self) -> float:
        """Return how many processes a pod has, each of which can own a partition."""
        return median([max(1, len(report.processes)) for report in self.reports.values()] or [1])
