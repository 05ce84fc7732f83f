"""A message that kills its process is found by running alone, and its neighbours have nothing held against them.

A process that dies is an engine that is cancelled: nothing more is settled, and the broker takes everything back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import SUSPECT_AFTER, Capabilities, Chunk, Message
from pythia_core.engine.engine import Engine
from pythia_core.errors import Retry
from pythia_core.settings import Settings
from tests.engine.bench import Seen, make, running
from tests.engine.scripted import Scripted
from tests.waiting import eventually

KINDS = ["individual", "both"]


class World:
    """A broker and the processes that work on it, one after the other, until one is not killed.

    Args:
        bodies: what waits; a body that begins with ``kill`` ends its process.
    """

    def __init__(self, *bodies: bytes, **options: Any) -> None:
        self.broker = MemoryBroker()
        for body in bodies:
            self.broker.publish("orders", body)
        self.options = {"messages": 4096, **options}
        self.deaths = 0
        self.started: Counter[bytes] = Counter()
        self.beside: list[set[bytes]] = []  # what ran or waited in the process when it was killed
        self.now: set[bytes] = set()
        self.engine: Engine | None = None

    async def handle(self, messages: Any) -> None:
        """Work, or die."""
        batch = messages if isinstance(messages, list) else [messages]
        bodies = [message.raw for message in batch]
        self.now |= set(bodies)
        self.started.update(bodies)
        await anyio.lowlevel.checkpoint()
        if any(body.startswith(b"kill") for body in bodies):
            self.beside.append(set(self.now))
            self.deaths += 1
            self.death.cancel()
            await anyio.sleep_forever()
        self.now -= set(bodies)

    async def live(self, done: int) -> bool:
        """Run one process until so many messages are settled; return False if it was killed."""
        self.now = set()
        self.death = anyio.CancelScope()
        async with MemoryProducer("orders.dlq", broker=self.broker) as letters:
            with self.death:
                self.engine = engine = make(self.broker, self.handle, dead_letter=letters, **self.options)
                async with anyio.create_task_group() as group:
                    group.start_soon(engine.run)
                    await eventually(lambda: len(self.settled) == done, f"{done} are settled")
                    engine.force()
        return not self.death.cancelled_caught

    async def last(self, done: int, most: int) -> None:
        """Run processes until one survives, but no more than so many."""
        for _ in range(most):
            if await self.live(done):
                return
        raise AssertionError(f"still killed after {most} processes")

    @property
    def settled(self) -> Sequence[object]:
        """What will never be delivered again."""
        return self.broker.settled("orders") if self.broker.topic("orders").groups else []

    @property
    def dead(self) -> Sequence[bytes]:
        """The bodies of the dead letters."""
        return [record.value for record in self.broker.dead_letters("orders")]


@pytest.mark.parametrize("ack", KINDS)
@pytest.mark.parametrize("order", ["none", "key"])
@pytest.mark.parametrize("batch", [False, True])
async def test_a_killer_among_a_hundred(ack: Any, order: Any, batch: bool) -> None:
    """U1 to U3: it is a dead letter after three deaths alone, and none of its neighbours ever is."""
    bodies = [b"%d" % n for n in range(50)], [b"%d" % n for n in range(50, 100)]
    world = World(*bodies[0], b"kill", *bodies[1], ack=ack, order=order, batch=batch, batch_timeout=0.01)
    await world.last(101, SUSPECT_AFTER + 4)
    assert world.dead == [b"kill"]
    assert world.deaths == SUSPECT_AFTER + 3
    assert world.beside[SUSPECT_AFTER:] == [{b"kill"}] * 3
    (letter,) = world.broker.dead_letters("orders")
    assert letter.headers["pythia-error"] == "pythia_core.engine.outcomes.Crashed"
    assert "6 times" in str(letter.headers["pythia-error-message"])


async def test_killers_of_different_ages() -> None:
    """U3: each has three deaths of its own; the other waits in the broker, and is not blamed for them."""
    world = World(b"1", b"kill a", b"2", b"kill b", b"3")
    await world.last(5, 2 * (SUSPECT_AFTER + 3) + 1)
    assert sorted(world.dead) == [b"kill a", b"kill b"]
    assert world.deaths <= SUSPECT_AFTER + 6
    assert all(len(beside) == 1 for beside in world.beside[SUSPECT_AFTER:])


async def deliver_often(broker: MemoryBroker, times: int) -> None:
    """Let a process that does nothing die so often, each with all that waits."""

    async def hang(message: Message[Any]) -> None:
        await anyio.sleep_forever()

    for _ in range(times):
        engine = make(broker, hang, dead_letter=None)
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run)
            await eventually(lambda: engine.stats.received, "it has all")  # noqa: B023
            group.cancel_scope.cancel()


async def test_innocent_suspects_are_run_and_all_goes_on() -> None:
    """U4: after their turn alone the workers run many at once again, and health has no reason left."""
    broker, gate = MemoryBroker(), anyio.Event()
    for n in range(30):
        broker.publish("orders", b"old %d" % n)
    await deliver_often(broker, SUSPECT_AFTER)
    running_now, most = 0, Counter[bool]()

    async def handler(message: Message[Any]) -> None:
        nonlocal running_now
        running_now += 1
        old = message.raw.startswith(b"old")
        most[old] = max(most[old], running_now)
        await (anyio.lowlevel.checkpoint() if old else gate.wait())
        running_now -= 1

    async with running(handler, broker=broker) as bench:
        await bench.until(lambda: "runs alone" in str(bench.engine.health().reasons), "it says so")
        await bench.until_settled(30)
        bench.send(*[b"new"] * 20)
        await bench.until(lambda: most[False] == 20, "new ones run side by side")
        assert most[True] == 1
        assert bench.engine.health().reasons == ()
        gate.set()
        await bench.until_settled(50)
        assert bench.dead == []


class Held:
    """Messages that a scripted source hands over, numbered as they come."""

    count = 0

    def arrive(self, source: Scripted, *bodies: bytes, deliveries: int = 1) -> None:
        """Let the fetch that waits return these, the last of them delivered so often before and now."""
        messages = [Message[Any](b, position=self.count + n, deliveries=1) for n, b in enumerate(bodies)]
        messages[-1].deliveries = deliveries
        self.count += len(bodies)
        source.chunks.append(Chunk(0, messages))
        source._news.set()


async def test_what_waits_is_given_back_first() -> None:
    """U1, U2: the suspect, what is parked and what is queued; what runs is waited for; then one is asked for."""
    source, gate, held = Scripted(Capabilities(delivery_count=True)), anyio.Event(), Held()

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"park":
            raise Retry(3600)
        await gate.wait()

    seen = Seen(handler)
    engine = Engine(source, seen, Settings(max_concurrent_tasks=2, batch_timeout=0.02))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        held.arrive(source, b"park", b"1", b"2", b"3", b"4")
        await eventually(
            lambda: seen == [b"park", b"1", b"2"] and len(engine.parking), "two run, one is parked"
        )
        held.arrive(source, b"5", b"old", deliveries=SUSPECT_AFTER + 1)
        await eventually(lambda: len(source.released) == 5, "they are given back")
        assert set(source.released) == {0, 3, 4, 5, 6}
        count = len(source.rooms)
        await anyio.wait_all_tasks_blocked()
        assert source.done == set() and len(source.rooms) == count
        gate.set()
        await eventually(lambda: len(source.rooms) > count, "it asks for one")
        assert source.limits[-1] == 1
        assert source.done == {1, 2}
        held.arrive(source, b"old", deliveries=SUSPECT_AFTER + 1)
        await eventually(lambda: 7 in source.done, "it has been run and settled")
        engine.force()


async def test_a_suspect_that_fails_is_tried_again_and_dead_lettered_for_that() -> None:
    """U4: an ordinary failure is no death; others are run meanwhile."""
    broker = MemoryBroker()
    broker.publish("orders", b"old")
    await deliver_often(broker, SUSPECT_AFTER)
    attempts: list[int] = []

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"old":
            attempts.append(message.attempt)
            raise ValueError

    async with running(Seen(handler), b"1", broker=broker) as bench:
        await bench.until_settled(2)
        assert attempts == [1, 2, 3]
        (letter,) = bench.dead
        assert letter.headers["pythia-error"] == "builtins.ValueError"


async def test_a_suspect_that_waits_for_its_retry_does_not_run_beside_another() -> None:
    """U2: its time comes while the other runs, and it waits for that."""
    broker, gate, at_once = MemoryBroker(), anyio.Event(), Counter[str]()
    for body in (b"fails once", b"long"):
        broker.publish("orders", body)
    await deliver_often(broker, SUSPECT_AFTER)

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"fails once" and message.attempt == 1:
            raise Retry(0.05)
        at_once["now"] += 1
        at_once["most"] = max(at_once["most"], at_once["now"])
        if message.raw == b"long":
            await gate.wait()
        at_once["now"] -= 1

    async with running(handler, broker=broker, order="none") as bench:
        await bench.until(
            lambda: at_once["now"] and bench.engine.scheduler.ready, "one runs, the other is due"
        )
        await anyio.wait_all_tasks_blocked()
        assert at_once["most"] == 1
        gate.set()
        await bench.until_settled(2)


async def test_a_stop_while_a_suspect_runs_counts_nothing() -> None:
    """It is waited for; one that had not begun goes back as if it had never been delivered."""
    broker, gate = MemoryBroker(), anyio.Event()
    for body in (b"1", b"2"):
        broker.publish("orders", body)
    await deliver_often(broker, SUSPECT_AFTER)

    async def handler(message: Message[Any]) -> None:
        await gate.wait()

    seen = Seen(handler)
    async with running(seen, broker=broker) as bench:
        await bench.until(lambda: seen, "one runs")
        bench.engine.stop()
        await anyio.wait_all_tasks_blocked()
        gate.set()
        await bench.ended()
        assert len(bench.settled) == 1
    deliveries: list[int | None] = []

    async def look(message: Message[Any]) -> None:
        deliveries.append(message.deliveries)

    async with running(look, broker=broker) as bench:
        await bench.until_settled(2)
        assert deliveries == [SUSPECT_AFTER + 1]


async def test_a_lost_subscription_ends_the_turn_alone() -> None:
    """U4: the suspect comes again by the next one, which runs it alone as well."""
    broker, gates = MemoryBroker(), [anyio.Event(), anyio.Event()]
    broker.publish("orders", b"old")
    await deliver_often(broker, SUSPECT_AFTER)
    count = 0

    async def handler(message: Message[Any]) -> None:
        nonlocal count
        count += 1
        await gates[count - 1].wait()

    async with running(handler, broker=broker) as bench:
        await bench.until(lambda: count == 1, "it runs")
        broker.fail_next("fetch")
        await bench.until(lambda: bench.engine.stats.subscriptions == 2, "it has subscribed anew")
        gates[0].set()
        gates[1].set()
        bench.send(b"1", b"2")
        gates.extend(gates[1:] * 5)
        await bench.until_settled(3)
        assert bench.engine.health().reasons == ()
