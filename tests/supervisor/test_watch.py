"""What a snapshot says of workers and queues: the invariants of ``watch``, without a process or a clock."""

from typing import Any

import pytest

from pythia_core.contracts import Snapshot
from pythia_core.supervisor.events import Report
from pythia_core.supervisor.fleet import Child
from pythia_core.supervisor.queues import STALE, WINDOW
from pythia_core.supervisor.watch import Watch


def report(
    done: int = 0, *, busy: float = 0.5, cpu: float = 0.0, waiting: int | None = None, **queue: Any
) -> dict[str, Any]:
    """Return a report as a process makes it, with a queue if something is said of one."""
    said = {
        "age": 0.0,
        "waiting": waiting,
        "in_flight": None,
        "oldest": None,
        "at_least": False,
        "partitions": None,
        "partitions_with_lag": None,
        "max_partition_lag": None,
        **queue,
    }
    worker = {
        "name": "jobs",
        "system": "memory",
        "destination": "jobs",
        "group": "g",
        "slots": 10,
        "counters": {"finished": done, "settled": done},
        "durations": [done],
        "duration_sum": done * 0.1,
        "paused": [],
        "queue": said if waiting is not None or queue else None,
    }
    return {
        "busy": busy,
        "counters": worker["counters"],
        "cpu": [cpu, 0.0],
        "rss": 100,
        "workers": [worker],
    }


class World:
    """A watch, children that are ready, and a clock."""

    def __init__(self, children: int = 1) -> None:
        self.watch = Watch("jobs.py")
        self.now = 1000.0
        self.children = [Child(number, number - 1, self.now) for number in range(1, children + 1)]
        for child in self.children:
            child.take(Report(child.number, True), self.now + 2.0)

    def pass_seconds(self, seconds: int, rate: float, start: int = 0, **said: Any) -> None:
        """Let every child report each second."""
        for second in range(seconds):
            self.now += 1.0
            for child in self.children:
                done = start + int(rate * second)
                more = dict(said)
                if "growth" in said:
                    more["waiting"] = int(said["begin"] + said["growth"] * second)
                    del more["growth"], more["begin"]
                if "cpu" in more:
                    more["cpu"] = said["cpu"] * second
                self.watch.take(child.number, report(done, **more), self.now)

    def snapshot(self) -> Snapshot:
        """Return the present one."""
        return self.watch.snapshot(
            self.children, now=self.now, wall=0.0, desired=len(self.children), least=1, most=8
        )


def test_what_arrives_is_what_is_more_and_what_was_settled() -> None:
    """A backlog that grows by 5 a second while 20 a second are settled means 25 arrivals a second."""
    world = World()
    world.pass_seconds(14, 20.0, begin=100, growth=5.0)
    (queue,) = world.snapshot().queues
    assert queue.ack_rate == pytest.approx(20.0)
    assert queue.arrival_rate == pytest.approx(25.0)
    assert queue.backlog == 165


def test_a_rate_needs_eight_seconds_of_history() -> None:
    """Positions are committed in steps, so that a short window would see 0 or twice as much."""
    world = World()
    world.pass_seconds(7, 20.0, begin=100, growth=5.0)
    (queue,) = world.snapshot().queues
    assert (queue.backlog, queue.arrival_rate, queue.ack_rate) == (130, None, None)


def test_an_old_answer_is_not_known() -> None:
    """Nobody scales in because of a backlog that was empty a minute ago."""
    world = World()
    world.pass_seconds(3, 20.0, waiting=0)
    world.now += STALE + 1
    snapshot = world.snapshot()
    assert snapshot.queues[0].backlog is None
    assert snapshot.errors == ("jobs",)


def test_an_unknown_backlog_is_none_and_no_rate() -> None:
    """A broker that does not say is not a broker that has nothing."""
    world = World()
    world.pass_seconds(14, 20.0, waiting=None, oldest=3.0)
    (queue,) = world.snapshot().queues
    assert (queue.backlog, queue.arrival_rate, queue.oldest_age_s) == (None, None, 3.0)


def test_what_a_dead_process_settled_stays_settled() -> None:
    """A death is no negative rate, nor an arrival of what it had done."""
    world = World(2)
    world.pass_seconds(10, 10.0, waiting=100)
    world.watch.forget(2)
    world.children.pop()
    world.pass_seconds(2, 10.0, start=100, waiting=100)
    (queue,) = world.snapshot().queues
    assert queue.ack_rate is not None and 14 < queue.ack_rate < 22
    assert queue.arrival_rate == pytest.approx(queue.ack_rate)


def test_a_worker_is_as_busy_as_its_slots_or_its_processor() -> None:
    """Behind one processor slots are not what is short: a rate divided by them would promise 20 times too much."""
    world = World()
    world.pass_seconds(10, 10.0, busy=0.05, cpu=0.8, waiting=0)
    (worker,) = world.snapshot().workers
    assert worker.busy == pytest.approx(0.8)
    assert worker.rate == pytest.approx(10.0, rel=0.1)
    assert worker.service_s == pytest.approx(0.1)
    assert world.snapshot().true_rate == pytest.approx(12.5, rel=0.1)


def test_under_a_backlog_a_process_shows_what_it_can_do() -> None:
    """The rate under a backlog is the rate, whatever the slots say, and no estimate exceeds it later."""
    world = World(2)
    world.pass_seconds(20, 50.0, busy=0.2, begin=5000, growth=0.0)
    assert world.snapshot().true_rate == pytest.approx(50.0, rel=0.1)
    world.pass_seconds(int(WINDOW) + 2, 20.0, start=2000, busy=0.05, waiting=0)
    assert world.snapshot().true_rate == pytest.approx(50.0, rel=0.2)


def test_too_few_completions_say_nothing_of_a_rate() -> None:
    """Handlers that take an hour have a rate of 0, which is no reason to divide by it."""
    world = World()
    world.pass_seconds(14, 0.0, busy=1.0, waiting=100)
    assert world.snapshot().true_rate is None


def test_the_time_of_a_start_is_measured() -> None:
    """From the start to the first readiness, the slowest but one in ten."""
    world = World(3)
    assert world.snapshot().start_s == pytest.approx(2.0)


def test_a_rebalance_takes_as_long_as_for_the_slowest() -> None:
    """Whoever was not part of one does not know."""
    world = World(3)
    for child, took in zip(world.children, (2.0, None, 5.0), strict=True):
        said = report()
        said["workers"][0]["rebalance"] = took
        world.watch.take(child.number, said, world.now)
    assert world.snapshot().rebalance_s == 5.0
    world.watch.forget(3)
    assert world.snapshot().rebalance_s == 2.0
    assert World().snapshot().rebalance_s is None
