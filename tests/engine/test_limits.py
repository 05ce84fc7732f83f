"""Bounds on what is in flight: reached, named, and left again at 70 %."""

from __future__ import annotations

import hashlib
from typing import Any

import anyio
import pytest

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.contracts import Admission, Assignment, Capabilities, Message, Middleware
from pythia_core.engine.engine import Engine
from pythia_core.errors import Reject
from pythia_core.settings import Limits, Settings
from tests.engine.bench import Bench, Seen, running
from tests.engine.scripted import Scripted
from tests.waiting import eventually


class Turnstile(Seen):
    """A handler that lets one message through at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = anyio.Semaphore(0)

    async def __call__(self, message: Message[Any]) -> None:
        self.append(message.raw)
        await self.permits.acquire()

    def let(self, count: int) -> None:
        """Let so many through."""
        for _ in range(count):
            self.permits.release()


def reasons(bench: Bench) -> str:
    """Return why intake is stopped."""
    return "; ".join(bench.engine.health().reasons)


async def test_messages_in_flight_are_bounded_and_intake_resumes_at_70_percent() -> None:
    """N1, N3: ten come in, three must go before the next fetch; the reason is named meanwhile."""
    handler = Turnstile()
    async with running(handler, *[b"%d" % n for n in range(30)], messages=10) as bench:
        stats = bench.engine.stats
        await bench.until(lambda: "messages in flight" in reasons(bench), "intake has stopped")
        assert stats.received == 10
        assert bench.engine.health().ready
        handler.let(2)
        await bench.until(lambda: stats.finished == 2, "two are done")
        await anyio.wait_all_tasks_blocked()
        assert stats.received == 10
        handler.let(1)
        await bench.until(lambda: stats.received == 13, "three more have come")
        handler.let(27)
        await bench.until_settled(30)
        assert reasons(bench) == ""


async def test_bytes_in_flight_are_bounded() -> None:
    """N1, N3: but for the last fetch, and what is parked or publishing counts too."""
    handler = Turnstile()
    async with running(handler, *[b"x" * 100 for n in range(30)], bytes=1000, batch_size=1) as bench:
        stats = bench.engine.stats
        await bench.until(lambda: "bytes in flight" in reasons(bench), "intake has stopped")
        assert stats.received == 10
        handler.let(2)
        await bench.until(lambda: stats.finished == 2, "two are done")
        await anyio.wait_all_tasks_blocked()
        assert stats.received == 10
        handler.let(1)
        await bench.until(lambda: stats.received == 13, "three more have come")
        handler.let(27)
        await bench.until_settled(30)
        assert reasons(bench) == ""


async def test_span_stops_its_partition_alone() -> None:
    """N2: a message that holds up a watermark stops the intake of its partition, and the others are asked."""
    gate = anyio.Event()

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"head":
            await gate.wait()

    broker = MemoryBroker(partitions=2)
    async with running(handler, broker=broker, ack="cumulative", order="none", span=10) as bench:
        bench.send(b"head", *[b"x"] * 20, partition=0)
        await bench.until(lambda: "span of a partition" in reasons(bench), "one partition is full")
        bench.send(*[b"y"] * 30, partition=1)
        await bench.until(lambda: broker.committed("orders", partition=1) == 30, "the other one flows")
        assert bench.engine.stats.received == 10 + 30
        assert broker.committed("orders", partition=0) == 0
        gate.set()
        await bench.until(lambda: broker.committed("orders", partition=0) == 21, "the first one flows again")
        assert reasons(bench) == ""


async def test_a_partition_is_looked_at_only_once_half_of_its_span_is_used_up() -> None:
    """N2: until then its room is what was asked for less what came, however much of that is done."""
    source = Scripted(Capabilities(ack="cumulative"), {0: Assignment(1, 0)})
    engine = Engine(source, Seen(), Settings(limits=Limits(span=10)))
    rooms: list[int] = []
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        for first in (0, 2, 4):
            rooms.append(source.rooms[-1][0])
            count = len(source.rooms)
            source.deliver(b"1", b"2", first=first)
            await eventually(lambda: engine.stats.finished == first + 2, "both have run")  # noqa: B023
            await eventually(lambda: len(source.rooms) > count, "it fetches again")  # noqa: B023
        assert (*rooms, source.rooms[-1][0]) == (10, 8, 6, 8)
        engine.force()


@pytest.mark.parametrize("ack", ["individual", "cumulative"])
async def test_a_message_that_is_too_large_is_a_dead_letter_by_reference(ack: str) -> None:
    """It never reaches the handler, and its neighbours do."""
    seen = Seen()
    async with running(seen, b"1", b"x" * 101, b"2", message_bytes=100, ack=ack) as bench:
        await bench.until_settled(3)
        assert sorted(seen) == [b"1", b"2"]
        (letter,) = bench.dead
        assert letter.headers["pythia-error"] == "pythia_core.engine.outcomes.MessageTooLarge"
        assert letter.headers["pythia-body-sha256"] == hashlib.sha256(b"x" * 101).hexdigest()


async def test_a_gate_decides_how_much_comes_in() -> None:
    """A middleware that admits nothing stops intake without anybody being unready, and is asked again."""

    class Gate(Middleware):
        count = 0

        def admit(self, count: int) -> Admission:
            return Admission(min(self.count, count), 0.01)

    gate, seen = Gate(), Seen()
    async with running(seen, *[b"%d" % n for n in range(5)], middleware=[gate]) as bench:
        await bench.until(lambda: bench.engine.health().ready, "it is subscribed")
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        gate.count = 1
        await bench.until_settled(5)


async def test_a_partition_that_stopped_is_not_asked_again() -> None:
    """N2: neither if a fetch that began before brings more of it."""

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"bad":
            raise Reject

    source = Scripted(
        Capabilities(ack="cumulative", order_scope="partition"), {n: Assignment(n, 0) for n in (0, 1)}
    )
    engine = Engine(source, handler, Settings())
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"bad")
        await eventually(lambda: len(source.rooms) > 1 and engine.disposition.held, "it has stopped")
        source.deliver(b"2", first=1)
        await eventually(lambda: engine.stats.received == 2, "more has come")
        count = len(source.rooms)
        source.deliver(b"3", partition=1)
        await eventually(lambda: len(source.rooms) > count, "it fetches again")
        assert [set(room) for room in source.rooms[count:]] == [{1}] * len(source.rooms[count:])
        engine.force()
