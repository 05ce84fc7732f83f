"""Turns what processes report into what a scaling policy and a monitor may know: one snapshot of workers and queues.

It stands apart from the figures, which people look at, because it needs longer windows, keeps what is unknown apart from
zero, and learns what a process can do. It has no clock: every call is told the time.

Invariants: what is not known is None; an answer older than 15 s is not known; a rate needs 8 s of history; a process that
has ended counts in what was settled and in nothing else.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping
from typing import Any, Literal

import attrs

from pythia_core.contracts import Opinion, QueueObservation, Snapshot, WorkerObservation
from pythia_core.supervisor.fleet import Child
from pythia_core.supervisor.queues import WINDOW, Queues
from pythia_core.supervisor.true_rate import TrueRate

__all__ = ["Watch", "describe_fleet"]

State = Literal["starting", "ready", "draining"]

LOST = ("released", "dead_lettered")


@attrs.frozen
class _Point:
    """What one process had done at one moment."""

    at: float
    done: int
    cpu: float
    busy: float
    timed: int
    seconds: float


@attrs.define(eq=False)
class _Process:
    points: deque[_Point] = attrs.field(factory=deque)
    settled: dict[str, int] = attrs.field(factory=dict)
    report: Mapping[str, Any] = attrs.field(factory=dict)
    last_busy: float = 0.0

    def take(self, report: Mapping[str, Any], now: float) -> None:
        self.report = report
        workers = report.get("workers", ())
        counters = report.get("counters", {})
        done = counters.get("finished", 0) - sum(counters.get(name, 0) for name in LOST)
        timed = sum(sum(worker.get("durations", ())) for worker in workers)
        seconds = sum(worker.get("duration_sum", 0.0) for worker in workers)
        busy = report.get("busy", 0.0)
        self.last_busy = now if busy or not self.points else self.last_busy
        self.points.append(_Point(now, done, sum(report.get("cpu", ())), busy, timed, seconds))
        while now - self.points[0].at > WINDOW:
            self.points.popleft()
        self.settled = {worker["name"]: worker["counters"].get("settled", 0) for worker in workers}

    def per_second(self, name: str) -> float:
        first, last = self.points[0], self.points[-1]
        passed = last.at - first.at
        return (getattr(last, name) - getattr(first, name)) / passed if passed > 0 else 0.0

    @property
    def busy(self) -> float:
        """The used share: of slots, or of a processor if that is more, since rate / slots is wrong where they are not the limit."""
        slots = sum(point.busy for point in self.points) / len(self.points)
        return min(1.0, max(slots, self.per_second("cpu")))

    @property
    def service(self) -> float | None:
        first, last = self.points[0], self.points[-1]
        count = last.timed - first.timed
        return (last.seconds - first.seconds) / count if count else None


@attrs.define(eq=False)
class Watch:
    """Keeps the history that a snapshot needs.

    Args:
        title: what is run.
    """

    title: str
    _processes: dict[int, _Process] = attrs.field(factory=dict)
    _gone: Counter[str] = attrs.field(factory=Counter)  # settled by the dead, by worker
    _queues: Queues = attrs.field(factory=Queues)
    _starts: dict[int, float] = attrs.field(factory=dict)  # seconds until first ready, by number
    _true_rate: TrueRate = attrs.field(factory=TrueRate)
    _seq: int = 0

    def take(self, number: int, report: Mapping[str, Any], now: float) -> None:
        """Take a process's report."""
        process = self._processes.setdefault(number, _Process())
        process.take(report, now)
        for worker in report.get("workers", ()):
            if said := worker.get("queue"):
                self._heard_of(worker, said, now - said["age"])

    def forget(self, number: int) -> None:
        """Keep what a dead process had settled."""
        if (process := self._processes.pop(number, None)) is not None:
            self._gone.update(process.settled)

    def _heard_of(self, worker: Mapping[str, Any], said: Mapping[str, Any], at: float) -> None:
        name = worker["name"]
        before = self._queues.heard_at(name)
        if before is not None and at <= before + 0.5:
            return  # the same answer as in the last report
        self._queues.hear(worker, said, at)
        self._queues.note(name, self._settled(name))

    def _settled(self, name: str) -> int:
        return self._gone[name] + sum(process.settled.get(name, 0) for process in self._processes.values())

    # -- the snapshot --------------------------------------------------------------------------------------

    def snapshot(
        self,
        children: Collection[Child],
        *,
        now: float,
        wall: float,
        desired: int,
        least: int,
        most: int,
        last_up: float | None = None,
        last_down: float | None = None,
        opinions: tuple[Opinion, ...] = (),
    ) -> Snapshot:
        """Return what is known now."""
        self._seq += 1
        workers = tuple(self._worker(child, now) for child in children)
        queues = tuple(self._queues.observed(now).values())
        self._true_rate.learn(workers, queues)
        self._time_starts(children)
        return Snapshot(
            now=now,
            wall=wall,
            worker=self.title,
            window_s=WINDOW,
            seq=self._seq,
            queues=queues,
            workers=workers,
            replicas=sum(not child.leaving for child in children),
            ready=sum(child.ready for child in children),
            desired=desired,
            min=least,
            max=most,
            last_up=last_up,
            last_down=last_down,
            opinions=opinions,
            start_s=self._start_seconds(),
            rebalance_s=self._rebalance_seconds(),
            true_rate=self._true_rate.value,
            errors=self._queues.stale(now),
        )

    def queues(self, now: float) -> dict[str, QueueObservation]:
        """Return what is known of each worker's queue, by the worker's name."""
        return self._queues.observed(now)

    def _worker(self, child: Child, now: float) -> WorkerObservation:
        state: State = "draining" if child.leaving else "ready" if child.ready else "starting"
        process = self._processes.get(child.number)
        if process is None or not process.points:
            return WorkerObservation(id=str(child.slot), state=state, age_s=now - child.started)
        workers = process.report.get("workers", ())
        return WorkerObservation(
            id=str(child.slot),
            state=state,
            busy=process.busy,
            slots=sum(worker.get("slots", 1) for worker in workers) or 1,
            rate=process.per_second("done"),
            service_s=process.service,
            cpu=process.per_second("cpu"),
            rss_bytes=process.report.get("rss", 0),
            age_s=now - child.started,
            idle_s=max(0.0, now - process.last_busy),
            paused=tuple(sorted({reason for worker in workers for reason in worker.get("paused", ())})),
            throttled=any(worker.get("throttled") for worker in workers),
        )

    def _time_starts(self, children: Collection[Child]) -> None:
        for child in children:
            if child.first_ready is not None:
                self._starts[child.number] = child.first_ready - child.started
        for number in sorted(self._starts)[:-20]:
            del self._starts[number]

    def _rebalance_seconds(self) -> float | None:
        """Return how long the last rebalance took the slowest of the living; None where there are none."""
        said = (
            worker for process in self._processes.values() for worker in process.report.get("workers", ())
        )
        return max((took for worker in said if (took := worker.get("rebalance")) is not None), default=None)

    def _start_seconds(self) -> float:
        """Return how long a process takes to be ready: the ninth of ten."""
        times = sorted(self._starts.values())
        return times[int(0.9 * (len(times) - 1))] if times else 1.0


def describe_fleet(
    children: Collection[Child], snapshot: Snapshot, *, title: str, target: int, uptime: float
) -> dict[str, Any]:
    """Return what a monitor is shown of a fleet; the supervisor says the rest."""
    return {
        "supervised": True,
        "title": title,
        "target": target,
        "stopping": False,
        "restarts": 0,
        "uptime": uptime,
        "children": [
            {
                "number": child.number,
                "slot": child.slot,
                "state": child.state,
                "loaded": child.loaded,
                "ready": child.ready,
                "reasons": list(child.reasons),
            }
            for child in children
        ],
        "snapshot": snapshot,
        "policy": None,
        "policy_failures": 0,
        "decisions": [],
    }
