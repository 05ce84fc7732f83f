"""Tries policies on a load, in seconds instead of days, by the very code that runs: policy, governor and scaling loop.

The model is a fluid in a queue, a second at a time: each process that is ready takes ``rate`` messages a second, first in,
first out; a new one is ready after ``start`` seconds; a change may stop all of them for ``rebalance`` seconds. That was
enough: validated against M/M/c it is wrong where waiting comes from chance alone, which no policy can help.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from itertools import pairwise

import attrs

from pythia_core import (
    QueueObservation,
    Scaler,
    ScalingPolicy,
    Snapshot,
    WorkerObservation,
)
from pythia_metrics.scaled import REVERSAL_SECONDS
from pythia_metrics.traces import Trace
from pythia_metrics.twins import Fixed

__all__ = ["Report", "World", "simulate"]

WINDOW = 15
LEAST = 20  # completions in a window, below which a rate says nothing
SMOOTHING = 0.3
SLOTS = 20
FULL = 0.9


@attrs.frozen(kw_only=True)
class World:
    """What processes and broker are like.

    Args:
        rate: messages a second that one process can do.
        start: seconds until a new one is ready.
        rebalance: seconds for which each change stops all.
        least, most: bounds of the number of processes.
        slo: seconds; a message that was older at its end, or is older in the queue, is a miss.
        interval: seconds between decisions.
    """

    rate: float = 10.0
    start: float = 5.0
    rebalance: float = 0.0
    least: int = 1
    most: int = 8
    slo: float = 60.0
    interval: int = 5


@attrs.frozen(kw_only=True)
class Report:
    """What came of a policy on a trace.

    Args:
        misses: share of messages that were too old.
        p50, p99, oldest: seconds of age at the end of a message's work.
        worker_hours: of all processes, starting ones included.
        changes: how often the number changed; ``reversals``: soon after a change in the other direction.
        at_max: share of the time at the most that is allowed.
        infeasible: even the most processes all the time would have missed some.
        replicas: how many there were to be, each minute.
        arrivals: messages a second, the mean of each minute.
        waits: seconds of age of the oldest message in the queue, each minute.
        over_provision: worker-hours as a multiple of what one who knew each minute's arrivals before would have taken.
    """

    trace: str
    policy: str
    misses: float
    p50: float
    p99: float
    oldest: float
    worker_hours: float
    changes: int
    reversals: int
    at_max: float
    infeasible: bool
    replicas: tuple[int, ...]
    arrivals: tuple[float, ...]
    waits: tuple[float, ...]
    over_provision: float


@attrs.define(eq=False)
class _Run:
    """One policy on one trace."""

    trace: Trace
    world: World
    scaler: Scaler
    target: int
    ready_at: list[float] = attrs.field(factory=list)
    queue: deque[list[float]] = attrs.field(factory=deque)  # second of arrival, how many are left of it
    left: float = 0.0
    ages: Counter[int] = attrs.field(factory=Counter)
    arrived: deque[float] = attrs.field(factory=lambda: deque(maxlen=WINDOW))
    done: deque[float] = attrs.field(factory=lambda: deque(maxlen=WINDOW))
    busy: deque[float] = attrs.field(factory=lambda: deque(maxlen=WINDOW))
    true_rate: float | None = None
    best: float | None = None
    stopped_until: float = -1.0
    steady_since: float = 0.0
    cost: float = 0.0
    changes: list[tuple[float, int]] = attrs.field(factory=list)
    at_max: int = 0
    history: list[int] = attrs.field(factory=list)
    waits: list[float] = attrs.field(factory=list)
    stuck: float = 0.0  # what lies behind a message that does not end
    stuck_since: float | None = None

    def run(self) -> None:
        self.ready_at = [0.0] * self.target
        for second, coming in enumerate(self.trace.arrivals):
            self._arrive(second, coming)
            self._work(second)
            self.cost += len(self.ready_at)
            self.at_max += self.target >= self.world.most
            if second % 60 == 0:
                self.history.append(self.target)
                self.waits.append(self._oldest(second) or 0.0)
            if second % self.world.interval == 0 and second >= self.world.interval:
                self._decide(second)

    def _arrive(self, second: int, coming: float) -> None:
        self.arrived.append(coming)
        if self.trace.stuck and second >= len(self.trace.arrivals) // 4:
            behind = coming * self.trace.stuck
            if self.stuck_since is None and behind:
                self.stuck_since = second
            self.stuck += behind
            self.left += behind
            coming -= behind
        if coming > 0:
            self.queue.append([second, coming])
            self.left += coming

    def _ready(self, second: float) -> int:
        return sum(at <= second for at in self.ready_at)

    def _capacity(self, second: int) -> float:
        """Return what can be done in this second, by those that own something and share nothing that is short."""
        if second < self.stopped_until:
            return 0.0
        ready = self._ready(second)
        if self.trace.partitions is not None:
            ready = min(ready, self.trace.partitions)
        if self.trace.knee is not None:
            ready = min(ready, self.trace.knee)
        everything = ready * self.world.rate
        return min(everything, self.world.rate / self.trace.hot) if self.trace.hot else everything

    def _work(self, second: int) -> None:
        room = capacity = self._capacity(second)
        while self.queue and room > 1e-9:
            arrival, amount = self.queue[0]
            taken = min(amount, room)
            self.ages[int(second - arrival)] += max(1, round(taken * 100))
            room -= taken
            self.left -= taken
            if taken < amount:
                self.queue[0][1] -= taken
            else:
                self.queue.popleft()
        self.done.append(capacity - room)
        self.busy.append((capacity - room) / capacity if capacity else float(bool(self.queue)))

    def _oldest(self, second: int) -> float | None:
        heads = [self.queue[0][0]] if self.queue else []
        if self.stuck_since is not None:
            heads.append(self.stuck_since)
        return second - min(heads) if heads else None

    # -- what is decided ---------------------------------------------------------------------------------------

    def _decide(self, second: int) -> None:
        self._learn(second)
        decision = self.scaler.decide(self._snapshot(second))
        if decision.after != self.target:
            self.changes.append((second, decision.after - self.target))
            self.stopped_until = second + self.world.rebalance
            self.steady_since = second
            new = decision.after - self.target
            self.target = decision.after
            if new > 0:
                self.ready_at += [second + self.world.start] * new
            else:
                del self.ready_at[decision.after :]

    def _learn(self, second: int) -> None:
        """Measure what a process can do as the supervisor's watch does it."""
        ready, rate, busy = (
            self._ready(second),
            sum(self.done) / len(self.done),
            sum(self.busy) / len(self.busy),
        )
        if not ready or sum(self.done) < LEAST or busy * ready < 0.2:
            return
        elsewhere, most = self.left - self.stuck, 2 * SLOTS * ready
        at_limit = elsewhere > most or (self.left > most and busy > FULL)
        if at_limit and second - self.steady_since >= WINDOW + self.world.start:
            sample = rate / ready
            self.best = max(self.best or 0.0, sample)
        else:
            sample = min(rate / (busy * ready), self.best or math.inf)
        before = self.true_rate if self.true_rate is not None else sample
        self.true_rate = before + SMOOTHING * (sample - before)

    def _snapshot(self, second: int) -> Snapshot:
        ready = self._ready(second)
        busy = sum(self.busy) / len(self.busy)
        rate = sum(self.done) / len(self.done)
        workers = [
            WorkerObservation(
                id=str(number),
                state="ready" if at <= second else "starting",
                busy=busy,
                slots=SLOTS,
                rate=rate / ready if ready else 0.0,
                cpu=0.1 * busy,
            )
            for number, at in enumerate(self.ready_at)
        ]
        long_enough = len(self.arrived) >= 8
        queue = QueueObservation(
            system="simulated",
            destination=self.trace.name,
            backlog=round(self.left),
            in_flight=None,
            oldest_age_s=self._oldest(second),
            arrival_rate=sum(self.arrived) / len(self.arrived) if long_enough else None,
            ack_rate=rate if long_enough else None,
            partitions=self.trace.partitions,
            max_partition_lag=round(self.stuck) if self.trace.stuck else None,
        )
        return Snapshot(
            now=float(second),
            wall=float(second),
            worker=self.trace.name,
            window_s=WINDOW,
            seq=second,
            queues=(queue,),
            workers=tuple(workers),
            replicas=len(self.ready_at),
            ready=ready,
            desired=self.target,
            min=self.world.least,
            max=self.world.most,
            start_s=self.world.start,
            rebalance_s=self.world.rebalance or None,
            true_rate=self.true_rate,
        )


def simulate(trace: Trace, policy: ScalingPolicy, name: str, world: World) -> Report:
    """Run a policy on a trace and report."""
    scaler = Scaler(policy, name, world.least, world.most, interval=float(world.interval))
    fixed = isinstance(policy, Fixed)
    begin = max(world.least, min(world.most, policy.number)) if isinstance(policy, Fixed) else world.least
    run = _Run(trace, world, scaler, begin)
    run.run()
    for arrival, amount in run.queue:
        run.ages[int(len(trace.arrivals) - arrival)] += max(1, round(amount * 100))
    misses = _share_above(run.ages, world.slo)
    return Report(
        trace=trace.name,
        policy=name,
        misses=misses,
        p50=_quantile(run.ages, 0.5),
        p99=_quantile(run.ages, 0.99),
        oldest=max(run.ages, default=0),
        worker_hours=run.cost / 3600,
        changes=len(run.changes),
        reversals=_reversals(run.changes),
        at_max=run.at_max / max(1, len(trace.arrivals)),
        infeasible=misses > 0 and (begin == world.most if fixed else _infeasible(trace, world)),
        replicas=tuple(run.history),
        arrivals=tuple(_by_minute(trace)),
        waits=tuple(run.waits),
        over_provision=run.cost / _needed(trace, world),
    )


def _by_minute(trace: Trace) -> list[float]:
    minutes = [trace.arrivals[at : at + 60] for at in range(0, len(trace.arrivals), 60)]
    return [sum(minute) / len(minute) for minute in minutes]


def _needed(trace: Trace, world: World) -> float:
    """Return the worker-seconds of one who has, in each minute, the fewest that do what comes in it."""
    needed = [math.ceil(rate / world.rate - 1e-9) for rate in _by_minute(trace)]
    minutes = [min(60, len(trace.arrivals) - at) for at in range(0, len(trace.arrivals), 60)]
    return (
        sum(
            max(world.least, min(world.most, number)) * seconds
            for number, seconds in zip(needed, minutes, strict=True)
        )
        or 1.0
    )


def _infeasible(trace: Trace, world: World) -> bool:
    return simulate(trace, Fixed(world.most), "most", attrs.evolve(world, least=world.most)).misses > 0


def _share_above(ages: Counter[int], bound: float) -> float:
    total = sum(ages.values())
    return sum(count for age, count in ages.items() if age > bound) / total if total else 0.0


def _quantile(ages: Counter[int], share: float) -> float:
    total, seen = sum(ages.values()), 0
    for age in sorted(ages):
        seen += ages[age]
        if seen >= share * total:
            return float(age)
    return 0.0


def _reversals(changes: Sequence[tuple[float, int]]) -> int:
    return sum(
        (before > 0) != (after > 0) and later - sooner < REVERSAL_SECONDS
        for (sooner, before), (later, after) in pairwise(changes)
    )
