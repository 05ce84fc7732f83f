"""Constant loads on the very code that watches and decides: what is bound by a processor or by a pool is held still.

Slots tell little there: a processor-bound worker has one of twenty in use at full load, one behind a pool of five has five
until a backlog fills all. The model is of processes only; reports go through `Watch`, snapshots through `Scaler`.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest

from pythia_core.contracts import Snapshot
from pythia_core.supervisor.events import Report
from pythia_core.supervisor.fleet import Child
from pythia_core.supervisor.scaling import Scaler
from pythia_core.supervisor.watch import Watch
from pythia_metrics.named import KINDS
from tests.supervisor.test_watch import report

RATE = 10.0  # messages a second that a process can do
SLOTS, POOL = 20, 5
START = 3.0  # seconds
Bound = Literal["processor", "pool"]


class Fleet:
    """Processes that share what comes in, a second at a time."""

    def __init__(self, bound: Bound, count: int, *, backlog: float = 0.0, stuck: float = 0.0) -> None:
        self.bound, self.left, self.stuck = bound, backlog, stuck
        self.behind = 0.0  # what lies behind a message that does not end
        self.watch = Watch("jobs.py")
        self.scaler = Scaler(KINDS["drain"](), "drain", 1, 8)
        self.now, self.number = 1000.0, 0
        self.children: list[Child] = []
        self.done: dict[int, float] = {}
        self.sizes: list[int] = []
        self.grow(count)

    def grow(self, count: int) -> None:
        """Have so many, from now on."""
        while len(self.children) < count:
            self.number += 1
            child = Child(self.number, self.number, self.now)
            child.take(Report(self.number, True), self.now + START)
            self.children.append(child)
            self.done[self.number] = 0.0
        for child in self.children[count:]:
            self.watch.forget(child.number)
        del self.children[count:]

    def work(self, arrivals: float) -> None:
        """Work for a second, tell of it, and decide every fifth."""
        self.now += 1.0
        self.behind += arrivals * self.stuck
        self.left += arrivals * (1 - self.stuck)
        working = [child for child in self.children if self.now - child.started > START]
        taken = min(self.left, RATE * len(working))
        self.left -= taken
        for child in working:
            self.done[child.number] += taken / len(working)
            said = self._report(child, taken / len(working) / RATE)
            self.watch.take(child.number, said, self.now)
        if int(self.now) % 5 == 0:
            self.grow(self.scaler.decide(self._snapshot(len(self.children))).after)
        self.sizes.append(len(self.children))

    def _report(self, child: Child, load: float) -> dict[str, Any]:
        done = self.done[child.number]
        piled = self.left > SLOTS * len(self.children)
        slots = 1 / SLOTS if self.bound == "processor" else POOL / SLOTS
        busy = 1.0 if piled and self.bound == "pool" else slots * load
        cpu = done / RATE if self.bound == "processor" else 0.02 * done / RATE
        waiting = round(self.left + self.behind)
        lag = {"partitions": 12, "max_partition_lag": round(self.behind)} if self.stuck else {}
        return report(round(done), busy=busy, cpu=cpu, waiting=waiting, **lag)

    def _snapshot(self, desired: int) -> Snapshot:
        return self.watch.snapshot(
            self.children, now=self.now, wall=self.now, desired=desired, least=1, most=8
        )


@pytest.mark.parametrize("bound", ["processor", "pool"])
@pytest.mark.parametrize(("begin", "backlog"), [(1, 0.0), (1, 500.0), (4, 0.0)])
def test_a_constant_load_is_held_at_a_constant_number(bound: Bound, begin: int, backlog: float) -> None:
    """25 messages a second at 10 each: however it began, in the last half hour of an hour nothing changes."""
    fleet = Fleet(bound, begin, backlog=backlog)
    for _ in range(3600):
        fleet.work(25.0)
    steady = fleet.sizes[1800:]
    assert len(set(steady)) == 1, steady[::60]
    assert 3 <= steady[0] <= 5, "enough for 25 a second, and not all there are"
    assert fleet.left < 2 * RATE * steady[0]


def test_a_partition_that_is_stuck_is_no_reason_for_more_processes() -> None:
    """What lies behind one message can be one process's only; the others idle and must not be taken for slow."""
    fleet = Fleet("processor", 4, stuck=1 / 12)
    for _ in range(3600):
        fleet.work(25.0)
    assert fleet.behind > 5000
    assert max(fleet.sizes[600:]) <= 5, fleet.sizes[::60]
    assert "hot_partition" in {decision.reason for decision in fleet.scaler.decisions}
