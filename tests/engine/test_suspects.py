"""A message that kills its process is found by running alone, and its neighbours have nothing held against them.

A process that dies is an engine that is cancelled: nothing more is settled, and the broker takes everything back.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import SUSPECT_AFTER, Assignment, Capabilities, Chunk, Message
from pythia_core.engine.engine import Engine
from pythia_core.engine.ledger import DONE
from pythia_core.engine.noted_ledger import NotedLedger
from pythia_core.engine.notes import Note, read, write
from pythia_core.errors import Retry
from pythia_core.settings import BrakePolicy, RetryPolicy, Settings
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
        self.most = 0  # that ran at once in the latest process
        self.engine: Engine | None = None

    async def handle(self, messages: Any) -> None:
        """Work, or die."""
        batch = messages if isinstance(messages, list) else [messages]
        bodies = [message.raw for message in batch]
        self.now |= set(bodies)
        self.most = max(self.most, len(self.now))
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
        self.now, self.most = set(), 0
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


async def test_a_broker_that_counts_less_exactly_asks_for_more_deaths() -> None:
    """U3: how many deaths alone make a cause of a suspect is for the broker to say."""
    world = World(b"1", b"kill", b"2", solo_crashes=5)
    await world.last(3, SUSPECT_AFTER + 6)
    assert (world.dead, world.deaths) == ([b"kill"], SUSPECT_AFTER + 5)


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
    """U2: nor does it wait here: it is given back before the other runs, and comes again."""
    broker, gate, at_once = MemoryBroker(), anyio.Event(), Counter[str]()
    for body in (b"fails once", b"long"):
        broker.publish("orders", body)
    await deliver_often(broker, SUSPECT_AFTER)

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"fails once" and message.attempt == 1:
            at_once["first attempts"] += 1
            raise Retry(0.05)
        at_once["now"] += 1
        at_once["most"] = max(at_once["most"], at_once["now"])
        if message.raw == b"long":
            await gate.wait()
        at_once["now"] -= 1

    async with running(handler, broker=broker, order="none") as bench:
        await bench.until(lambda: at_once["now"], "one runs")
        await anyio.wait_all_tasks_blocked()
        assert bench.engine.stats.in_flight == 1
        assert at_once["most"] == 1
        gate.set()
        await bench.until_settled(2)
        assert at_once["first attempts"] == 1


async def test_the_retry_of_a_suspect_runs_alone_too() -> None:
    """U2: what came meanwhile is given back first, and goes on when it has run."""
    broker, gate = MemoryBroker(), anyio.Event()
    broker.publish("orders", b"old")
    await deliver_often(broker, SUSPECT_AFTER)
    beside: list[int] = []

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"old" and message.attempt == 1:
            raise Retry(1.2)
        if message.raw == b"old":
            await anyio.sleep(0.05)
            beside.append(bench.engine.stats.in_flight)
        elif not gate.is_set():
            await gate.wait()

    async with running(handler, broker=broker, max_concurrent_tasks=2) as bench:
        await bench.until(lambda: bench.parked, "it is parked")
        await bench.until(lambda: not bench.engine.pool.paused, "all goes on")
        bench.send(*[b"%d" % n for n in range(5)])
        await bench.until(lambda: len(bench.engine.pool.running) == 2, "others run")
        await bench.until(lambda: bench.engine.pool.paused, "its time has come")
        await anyio.wait_all_tasks_blocked()
        assert beside == []
        gate.set()
        await bench.until_settled(6)
        assert beside == [1]
        assert bench.engine.health().reasons == ()


@pytest.mark.parametrize("order", ["none", "key"])
async def test_a_suspect_that_waits_for_its_retry_is_not_counted_with_a_killer(order: Any) -> None:
    """U2: it is given back before the other runs, and keeps its attempts and its time though it comes again."""
    world = Retries(b"fails", b"kill", b"1", order=order, retry=RetryPolicy(attempts=3, base=0.0, cap=0.0))
    await world.last(3, SUSPECT_AFTER + 4)
    assert world.dead == [b"kill"]
    assert max(world.deliveries) == SUSPECT_AFTER + 1
    assert world.attempts[-3:] == [1, 2, 3]


class Retries(World):
    """Processes with a message that fails twice; it asks for time, in which the killer runs."""

    def __init__(self, *bodies: bytes, **options: Any) -> None:
        super().__init__(*bodies, **options)
        self.deliveries: list[int] = []
        self.attempts: list[int] = []

    async def handle(self, messages: Any) -> None:
        """Fail, work, or die a little later."""
        if messages.raw == b"fails":
            self.deliveries.append(messages.deliveries)
            self.attempts.append(messages.attempt)
            if messages.attempt < 3:
                raise Retry(0.1)
        if messages.raw == b"kill":
            await anyio.sleep(0.03)
        await super().handle(messages)


async def test_a_suspect_that_waits_is_not_counted_with_a_killer_that_is_none_yet() -> None:
    """U2: nor is the one behind it of its key: both are given back, and come with others, which the broker does not count."""
    world = Waits(order="key", retry=RetryPolicy(attempts=100, base=0.2, cap=0.2))
    for body, key in ((b"fails", "a"), (b"behind", "a")):
        world.broker.publish("orders", body, key=key)
    await deliver_often(world.broker, SUSPECT_AFTER)
    world.broker.publish("orders", b"kill")
    await world.last(3, SUSPECT_AFTER + 4)
    assert world.dead == [b"kill"]


class Waits(World):
    """Processes with a message that fails until the killer is found."""

    async def handle(self, messages: Any) -> None:
        """Fail, work, or die."""
        if messages.raw == b"fails" and not self.dead:
            raise Retry(0.2)
        await super().handle(messages)


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


# -- sources that commit positions, with a note beside them ----------------------------------------------------------

LOG: dict[str, Any] = {"ack": "cumulative", "notes": True}


@pytest.mark.parametrize("order", ["none", "key"])
@pytest.mark.parametrize("batch", [False, True])
async def test_a_killer_among_a_hundred_of_a_log(order: Any, batch: bool) -> None:
    """V1 to V3: three assignments make suspects, three deaths alone a dead letter; no neighbour ever is one."""
    bodies = [b"%d" % n for n in range(100)]
    once = 0.01 if batch else 60.0  # were the position to move before a death, the count would begin anew
    world = World(*bodies[:50], b"kill", *bodies[50:], order=order, batch=batch, batch_timeout=once, **LOG)
    await world.last(101, SUSPECT_AFTER + 4)
    assert world.dead == [b"kill"]
    assert world.deaths == SUSPECT_AFTER + 3
    assert world.beside[SUSPECT_AFTER:] == [{b"kill"}] * 3
    (letter,) = world.broker.dead_letters("orders")
    assert letter.headers["pythia-error"] == "pythia_core.engine.outcomes.Crashed"
    assert "3 times while it ran alone" in str(letter.headers["pythia-error-message"])
    assert set(world.started) == {*bodies, b"kill"}


async def test_once_the_cause_is_found_the_others_run_side_by_side() -> None:
    """V5: they do not pay for it, one after the other, as far as the range goes."""
    world = World(b"kill", *[b"%d" % n for n in range(30)], **LOG)
    await world.last(31, SUSPECT_AFTER + 4)
    assert world.dead == [b"kill"]
    assert world.most > 1


async def test_two_killers_of_a_log() -> None:
    """V3: the first is settled as a dead letter before anything else runs, or it would be found again for ever."""
    world = World(b"1", b"kill a", b"2", b"kill b", b"3", **LOG)
    await world.last(5, 2 * (SUSPECT_AFTER + 3) + 1)
    assert world.dead == [b"kill a", b"kill b"]
    assert world.deaths <= 2 * (SUSPECT_AFTER + 3)


async def test_one_that_has_survived_alone_is_not_blamed_for_what_runs_next() -> None:
    """V2: the killer lies past the suspicious range, and ends the process before anything is settled."""
    world = World(b"survives", b"kill", span=1, batch_timeout=60.0, **LOG)
    await die(world.broker, SUSPECT_AFTER, span=1)
    await world.last(2, 2 * (SUSPECT_AFTER + 3) + 1)
    assert world.dead == [b"kill"]


async def test_the_retry_of_a_suspect_of_a_log_runs_alone_too() -> None:
    """V2: and the broker's note names it, though the range is through and others are at work."""
    broker, gate = log_of(b"0", b"old"), anyio.Event()
    await die(broker, SUSPECT_AFTER)
    beside: list[int] = []

    async def script(message: Message[Any]) -> None:
        if message.raw == b"old" and message.attempt == 1:
            raise Retry(0.5)
        if message.raw == b"old":
            beside.append(len(bench.engine.pool.at_work))
        elif message.raw == b"1":
            await gate.wait()

    handler = Alone(broker, script)
    async with running(handler, broker=broker, span=2, **LOG) as bench:
        await bench.until(lambda: bench.parked, "it is parked")
        bench.send(b"1")
        await bench.until(lambda: handler.now == 1, "another runs")
        await bench.until(lambda: bench.engine.pool.paused, "its time has come")
        await anyio.wait_all_tasks_blocked()
        assert beside == []
        gate.set()
        await bench.until_settled(3)
        assert beside == [1]
        assert handler.solos[-1] == (1, 1)
        assert bench.engine.health().reasons == ()


async def die(broker: MemoryBroker, times: int, **options: Any) -> None:
    """Let processes begin on a log and die of something else, so often, each after its note was written."""

    async def hang(message: Message[Any]) -> None:
        await anyio.sleep_forever()

    for _ in range(times):
        before = broker.note("orders") if broker.topic("orders").groups else None
        engine = make(broker, hang, dead_letter=None, **LOG, **options)
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run)
            await eventually(lambda: engine.stats.received, "it has all")  # noqa: B023
            await eventually(lambda: broker.note("orders") != before, "its note is written")  # noqa: B023
            group.cancel_scope.cancel()


def log_of(*records: bytes | tuple[bytes, str]) -> MemoryBroker:
    """Return a broker with these bodies, some of them with a key."""
    broker = MemoryBroker()
    for record in records:
        body, key = (record, None) if isinstance(record, bytes) else record
        broker.publish("orders", body, key=key)
    return broker


class Alone(Seen):
    """A handler that says how many ran at once, and what the note then said."""

    def __init__(self, broker: MemoryBroker, script: Any = None) -> None:
        super().__init__(script)
        self.broker, self.now, self.most = broker, 0, 0
        self.solos: list[tuple[int, int] | None] = []

    async def __call__(self, message: Message[Any]) -> object:
        """Look, then do what the script says."""
        self.now += 1
        self.most = max(self.most, self.now)
        note = read(self.broker.note("orders"), self.broker.committed("orders"))
        self.solos.append(None if note is None else note.solo)
        try:
            await anyio.lowlevel.checkpoint()
            return await super().__call__(message)
        finally:
            self.now -= 1


async def test_three_ordinary_crashes_punish_nobody() -> None:
    """V2, V5: each runs alone, once, named by the broker's note; then all goes on side by side."""
    bodies = [b"%d" % n for n in range(30)]
    broker, gate = log_of(*bodies), anyio.Event()
    await die(broker, SUSPECT_AFTER)
    handler = Alone(
        broker, lambda message: gate.wait() if message.raw == b"new" else anyio.lowlevel.checkpoint()
    )
    async with running(handler, broker=broker, **LOG) as bench:
        await bench.until_settled(30)
        assert handler == bodies
        assert handler.most == 1
        assert handler.solos == [(n, 1) for n in range(30)]
        (ledger,) = bench.engine.ledgers
        await bench.until(lambda: not ledger.suspicious, "it is suspicious no more")
        bench.send(*[b"new"] * 20)
        await bench.until(lambda: handler.now == 20, "new ones run side by side")
        assert bench.engine.health().reasons == ()
        gate.set()
        await bench.until_settled(50)
        assert bench.dead == []


async def test_two_crashes_make_no_suspects() -> None:
    """V5: nothing is slowed down before the third."""
    broker, gate = log_of(b"1", b"2", b"3"), anyio.Event()
    await die(broker, SUSPECT_AFTER - 1)
    handler = Alone(broker, lambda message: gate.wait())
    async with running(handler, broker=broker, **LOG) as bench:
        await bench.until(lambda: handler.now == 3, "they run side by side")
        gate.set()
        await bench.until_settled(3)


async def test_what_lies_beyond_the_range_waits_and_then_runs_as_ever() -> None:
    """V1, V5: it keeps its place behind those of its key, and runs beside others."""
    broker, gate = log_of(*[(b"%d" % n, f"k{n % 4}") for n in range(8)]), anyio.Event()
    await die(broker, SUSPECT_AFTER, span=4)

    async def script(message: Message[Any]) -> None:
        if message.position >= 4:
            await gate.wait()

    handler = Alone(broker, script)
    async with running(handler, broker=broker, span=4, **LOG) as bench:
        await bench.until(lambda: handler.now == 4, "those beyond run side by side")
        assert handler[:4] == [b"0", b"1", b"2", b"3"]
        gate.set()
        await bench.until_settled(8)


async def test_a_suspect_that_fails_holds_up_its_key_only() -> None:
    """V1, V4: it is parked as ever, others go on, and what comes later of its key stays behind it."""
    broker = log_of((b"bad", "a"), (b"a2", "a"), (b"b1", "b"), (b"a3", "a"))
    await die(broker, SUSPECT_AFTER)

    async def script(message: Message[Any]) -> None:
        if message.raw == b"bad" and message.attempt == 1:
            raise Retry(0.2)

    handler = Alone(broker, script)
    async with running(handler, broker=broker, **LOG) as bench:
        await bench.until_settled(4)
        assert handler == [b"bad", b"b1", b"bad", b"a2", b"a3"]
        assert bench.dead == []
        await bench.until(lambda: not bench.engine.health().reasons, "all goes on")


async def test_what_a_note_says_is_done_is_not_run_again_alone() -> None:
    """V1: of a suspicious range only what is open runs."""
    broker = log_of(b"0", b"1", b"2")

    async def park_one(message: Message[Any]) -> None:
        if message.raw == b"1":
            raise Retry(3600)

    async with running(Seen(park_one), broker=broker, **LOG) as bench:
        await bench.until_settled(1)
        await bench.until(lambda: (note := read(broker.note("orders"), 1)) and any(note.done), "2 is noted")
        (ledger,) = bench.engine.ledgers  # a process that is killed: nothing is written in good order
        bench.engine.session.lost([ledger.partition])  # type: ignore[union-attr]
    await die(broker, SUSPECT_AFTER - 1)
    handler = Alone(broker)
    async with running(handler, broker=broker, **LOG) as bench:
        await bench.until_settled(3)
        assert handler == [b"1"]
        assert handler.solos == [(1, 1)]


async def test_a_stop_in_the_middle_counts_nothing() -> None:
    """V2: what runs is waited for, what waits is given back, and a stop in good order makes nobody a suspect."""
    broker, gate = log_of(b"1", b"2", b"3"), anyio.Event()
    await die(broker, SUSPECT_AFTER)
    handler = Alone(broker, lambda message: gate.wait())
    async with running(handler, broker=broker, **LOG) as bench:
        await bench.until(lambda: handler.now, "one runs")
        bench.engine.stop()
        await anyio.wait_all_tasks_blocked()
        assert len(bench.engine.line.take(bench.engine.session.ledgers.values())) == 0  # type: ignore[union-attr]
        gate.set()
        await bench.ended()
        assert handler == [b"1"]
        assert bench.settled == [b"1"]
    assert broker.note("orders") is None


async def test_a_stop_that_cuts_a_suspect_off_is_no_crash_of_it() -> None:
    """A5: the last note names what it named before."""
    broker = log_of(b"1", b"2")
    await die(broker, SUSPECT_AFTER)
    handler = Alone(broker, lambda message: anyio.sleep_forever())
    async with running(handler, broker=broker, drain_timeout=0.2, **LOG) as bench:
        await bench.until(lambda: handler.now, "one runs")
        assert handler.solos == [(0, 1)]
        bench.engine.stop()
        await bench.ended()
    assert broker.note("orders") is None


async def test_a_suspect_that_goes_on_though_cut_off_is_named_no_more() -> None:
    """A5: it may never end, and the stop is no crash of it all the same."""
    broker, gate = log_of(b"1", b"2"), anyio.Event()
    await die(broker, SUSPECT_AFTER)

    async def stubborn(message: Message[Any]) -> None:
        with anyio.CancelScope(shield=True):
            await gate.wait()

    handler = Alone(broker, stubborn)
    async with running(handler, broker=broker, drain_timeout=0.2, **LOG) as bench:
        await bench.until(lambda: handler.now, "one runs")
        assert broker.note("orders") is not None
        bench.engine.stop()
        await bench.until(lambda: broker.note("orders") is None, "the last note names nobody")
        gate.set()
        await bench.ended()


async def test_a_lost_partition_leaves_the_line() -> None:
    """Nothing of it is run any more, and the others go on; what comes with the next assignment runs alone again."""
    broker, gate = log_of(b"1", b"2"), anyio.Event()
    await die(broker, SUSPECT_AFTER)
    handler = Alone(broker, lambda message: gate.wait())
    async with running(handler, broker=broker, **LOG) as bench:
        await bench.until(lambda: handler.now, "one runs")
        broker.fail_next("fetch")
        await bench.until(lambda: bench.engine.stats.subscriptions == 2, "it has subscribed anew")
        gate.set()
        await bench.until_settled(2)
        assert handler.most == 1
        assert bench.dead == []
        await bench.until(lambda: not bench.engine.health().reasons, "all goes on")
        assert bench.engine.stats.in_flight == 0


@pytest.mark.parametrize(("done", "named"), [((), (6, 2)), ((6,), None), ((5, 6), None), ((5,), (6, 2))])
def test_a_note_names_a_suspect_until_it_is_done(done: Sequence[int], named: object) -> None:
    """A5: before the position or beyond it, what is done made no crash, and makes no suspects any more."""
    assignment = Assignment("a", 5, write(Note(5, opened=1, solo=(6, 2))))
    ledger = NotedLedger(0, assignment, lambda message: message.raw)
    messages = [Message[Any](b"", position=position) for position in (5, 6, 7)]
    ledger.admit(messages, None)
    for number, message in enumerate(messages):
        message._sequence = number
        if message.position in done:
            ledger.mark(message, DONE)
    settlement = ledger.settlement()
    assert settlement is not None
    note = read(settlement.note, settlement.through)
    assert (None if note is None else note.solo) == named


# -- beside the brake ------------------------------------------------------------------------------------------------


class Outage(World):
    """A process in virtual time with suspects, and a handler that fails while ``down``; what is called bad always fails."""

    def __init__(self, *suspects: bytes, ack: Any) -> None:
        super().__init__()
        self.broker = MemoryBroker(clock=trio.current_time)
        self.suspects, self.down = suspects, True
        self.options = {"ack": ack, "notes": ack == "cumulative", "brake": BrakePolicy(window=8)}
        self.options["retry"] = RetryPolicy(attempts=3, base=3.0, cap=3.0)
        self.bench: Any = None
        self.wrong: list[bytes] = []

    async def handle(self, message: Any) -> None:
        """Fail or not, in no time."""
        self.now.add(message.raw)
        if message.raw in self.suspects and not self.runs_alone(message):
            self.wrong.append(message.raw)
        await trio.sleep(0.01)
        self.now.discard(message.raw)
        if self.down or message.raw.startswith(b"bad"):
            raise ConnectionError

    def runs_alone(self, message: Message[Any]) -> bool:
        """Tell whether it has nothing beside it, and the broker knows that it runs, and of nothing else."""
        note = read(self.broker.note("orders"), self.broker.committed("orders"))
        named = note is not None and note.solo is not None and note.solo[0] == message.position
        counted = named if self.options["notes"] else self.bench.engine.stats.in_flight == 1
        return counted and self.now == {message.raw}

    def run(self, then: Any) -> None:
        """Make the suspects what they are, run an engine, and do something meanwhile."""

        async def main() -> None:
            for body in self.suspects:
                self.broker.publish("orders", body)
            await (die if self.options["notes"] else deliver_often)(self.broker, SUSPECT_AFTER)
            async with running(self.handle, broker=self.broker, **self.options) as bench:
                self.bench = bench
                await then(bench)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        assert self.wrong == []


@pytest.mark.parametrize("ack", ["individual", "cumulative"])
def test_suspects_that_fail_do_not_keep_the_brake_engaged(ack: Any) -> None:
    """K6, U5, V6: they wait while others probe, and are dead letters for their own attempts when it is released."""
    world = Outage(b"bad 1", b"bad 2", b"bad 3", ack=ack)

    async def then(bench: Any) -> None:
        bench.send(*[b"good %d" % n for n in range(30)])
        await trio.sleep(30)
        assert bench.engine.brake.engaged and bench.dead == []
        world.down = False
        bench.send(*[b"good"] * 40)
        await trio.sleep(60)
        assert len(bench.settled) == 73
        assert not bench.engine.brake.engaged
        assert {letter.value for letter in bench.dead} == set(world.suspects)
        assert bench.engine.health().reasons == ()

    world.run(then)


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("ack", ["individual", "cumulative"])
def test_with_nothing_but_suspects_the_brake_is_released(
    ack: Any, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K6, U5, V6: each probes in its turn, alone; one that fails for ever does not take the turn of the others."""
    monkeypatch.setattr(
        random, "random", lambda: 1.0
    )  # so that the one that failed is due again when one may probe
    suspects = [b"good %d" % n for n in range(20)]
    suspects.insert(place, b"bad")  # whichever of them it is that probed last when the outage ends
    world = Outage(*suspects, ack=ack)

    async def then(bench: Any) -> None:
        await trio.sleep(30)
        assert bench.engine.brake.engaged and bench.dead == []
        world.down = False
        await trio.sleep(90)
        assert len(bench.settled) == 21
        assert [letter.value for letter in bench.dead] == [b"bad"]
        assert bench.engine.health().reasons == ()

    world.run(then)
