"""Partitions share what may be in flight: none is served last for ever, and none takes the room of all."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.contracts import Assignment, Capabilities, Message
from pythia_core.engine.engine import Engine
from pythia_core.engine.intake import Intake
from pythia_core.engine.ledger import DONE, OPEN, Ledger
from pythia_core.engine.stats import Stats
from pythia_core.engine.stops import Stops
from pythia_core.engine.token_ledger import TokenLedger
from pythia_core.errors import Retry
from pythia_core.settings import Limits, Settings
from tests.engine.bench import Seen, running
from tests.engine.scripted import Scripted
from tests.engine.test_limits import reasons
from tests.waiting import eventually

PARTITIONS: dict[str, Any] = {"ack": "cumulative", "order_scope": "partition"}


async def test_whoever_was_served_goes_to_the_end_of_the_line() -> None:
    """N4: the order of ``room`` is the order of the longest wait, also for a source that ignores it."""
    source = Scripted(Capabilities(), {n: Assignment(n) for n in (0, 1, 2)})
    engine = Engine(source, Seen(), Settings())
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        for served, then in [(0, [1, 2, 0]), (2, [1, 0, 2]), (1, [0, 2, 1])]:
            source.rooms.clear()
            source.deliver(b"x", partition=served)
            await eventually(lambda: source.rooms, "it fetches again")
            assert list(source.rooms[0]) == then
        engine.force()


async def test_a_source_that_reads_in_the_order_of_room_is_fair() -> None:
    """N4: with a backlog in each, fetches that one partition alone could fill bring the same from all."""
    broker, seen = MemoryBroker(partitions=3), Seen()
    async with running(seen, broker=broker, batch_size=10, **PARTITIONS) as bench:
        broker.hold("fetch", go := anyio.Event())
        for number in range(300):
            bench.send(b"%d" % (number % 3), partition=number % 3)
        go.set()
        await bench.until_settled(300)
        assert set(Counter(seen[:90]).values()) == {30}


async def test_partitions_full_of_parked_messages_do_not_stop_the_others() -> None:
    """N5: all but one hold what they can get; the last one flows through its share, and the reason is named."""

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"parked":
            raise Retry(3600)

    broker = MemoryBroker(partitions=5)
    async with running(handler, broker=broker, messages=40, order="none", **PARTITIONS) as bench:
        bench.send(*[b"parked"] * 8, partition=0)
        await bench.until(lambda: bench.parked == 8, "the greediest has more than its share")
        for partition in range(4):
            bench.send(*[b"parked"] * 50, partition=partition)
        await bench.until(
            lambda: "share of a partition" in reasons(bench), "the greedy ones have their share"
        )
        bench.send(*[b"flows"] * 200, partition=4)
        await bench.until(lambda: broker.committed("orders", partition=4) == 200, "the last one flows")
        assert bench.engine.health().ready


async def test_shares_are_not_looked_at_without_pressure(monkeypatch: pytest.MonkeyPatch) -> None:
    """N5 costs nothing while little is in flight."""

    def count(self: Ledger) -> int:
        raise AssertionError("there is no pressure")

    monkeypatch.setattr(Ledger, "open_count", count)
    broker, seen = MemoryBroker(partitions=2), Seen()
    async with running(seen, broker=broker, messages=100, batch_size=10, **PARTITIONS) as bench:
        for number in range(400):
            bench.send(b"x", partition=number % 2)
        await bench.until_settled(400)
        assert bench.engine.stats.subscriptions == 1


async def test_intake_resumes_in_pieces_when_every_partition_has_its_share() -> None:
    """N3: a message that ends does not make a fetch of its own."""
    gates: dict[Any, anyio.Semaphore] = {partition: anyio.Semaphore(0) for partition in (0, 1)}

    async def handler(message: Message[Any]) -> None:
        await gates[message.partition].acquire()

    broker = MemoryBroker(partitions=2)
    async with running(handler, broker=broker, messages=40, max_concurrent_tasks=40, **PARTITIONS) as bench:
        stats = bench.engine.stats
        bench.send(*[b"x"] * 100, partition=0)
        await bench.until(lambda: stats.received == 30, "one has its share, and all of what is for all")
        bench.send(*[b"x"] * 100, partition=1)
        await bench.until(lambda: stats.received == 40, "the other one has its share")
        gates[1].release()
        gates[1].release()
        await bench.until(lambda: stats.finished == 2, "two have ended")
        await anyio.wait_all_tasks_blocked()
        assert stats.received == 40
        gates[1].release()
        await bench.until(lambda: stats.received == 43, "three have come")
        for partition in (0, 1):
            for _ in range(100):
                gates[partition].release()
        await bench.until_settled(200)


STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60), st.integers(0, 9)), max_size=80)


@given(messages=st.integers(12, 200), batch=st.integers(1, 80), partitions=st.integers(2, 6), steps=STEPS)
def test_nobody_takes_anothers_share(
    messages: int, batch: int, partitions: int, steps: list[tuple[int, int, int]]
) -> None:
    """N1, N3, N5: whoever takes how much and finishes it or not, each can get its share, and none is asked for crumbs."""
    stops = Stops(changed=lambda reason, stopped: None, resumed=lambda: None)
    stats, ledgers = Stats(), [TokenLedger(n, Assignment(n), lambda m: m) for n in range(partitions)]
    intake = Intake(
        Limits(messages=messages),
        batch,
        stats,
        (),
        stops,
        measure=lambda: 0,
        changed=lambda reason, stopped: None,
    )
    for ledger in ledgers:
        intake.open(ledger)
    share = max(messages // (2 * partitions), 1)
    for number, count, ends in steps:
        ledger = ledgers[number % partitions]
        limit = intake.limit()
        assert all(room >= share - int(share * 0.7) for room in intake.room.values())
        taken = min(count, limit, intake.room.get(ledger.partition, 0))
        bodies = [Message[Any](b"x", partition=ledger.partition, position=n) for n in range(taken)]
        first = ledger.admit(bodies, None)
        stats.received += taken
        if taken:
            intake.admitted([(ledger, bodies, first)])
        ending = [index for index, outcome in enumerate(ledger.outcomes()) if outcome == OPEN][:ends]
        for index in ending:
            ledger.state[index] = DONE
        stats.finished += len(ending)
        assert stats.in_flight <= messages
        owed = sum(max(share - other.open_count(), 0) for other in ledgers)
        assert owed <= messages - stats.in_flight
        for other in ledgers:
            if not other.open_count():
                assert intake.limit() and intake.room.get(other.partition, 0)
