"""The line of suspects of a log, line by line: what each of its steps is there for, seen from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.contracts import SUSPECT_AFTER, Assignment, Capabilities, Message
from pythia_core.engine.engine import Engine
from pythia_core.engine.notes import Note, read, write
from pythia_core.engine.suspects import REASON
from pythia_core.errors import Retry
from pythia_core.settings import Limits, Settings
from tests.engine.bench import running
from tests.engine.scripted import Scripted
from tests.engine.test_suspects import LOG, Alone, die, log_of
from tests.waiting import eventually

NOTED = Capabilities(ack="cumulative", order_scope="partition", notes=True)
CRASHED = write(Note(0, opened=SUSPECT_AFTER))


def solo(broker: MemoryBroker) -> tuple[int, int] | None:
    """Return which message the broker's note names."""
    note = read(broker.note("orders"), broker.committed("orders"))
    return None if note is None else note.solo


class Told(Scripted):
    """A log of which a test says what comes, and in what fetch."""

    @property
    def solo(self) -> tuple[int, int] | None:
        """Which message the latest note names."""
        if not self.settlements:
            return None
        note = read(self.settlements[-1].note, self.settlements[-1].through)
        return None if note is None else note.solo


@asynccontextmanager
async def log_with(note: str, script: Any, **settings: Any) -> AsyncIterator[tuple[Told, Engine]]:
    """Run an engine on a log whose position 0 has a note."""
    source = Told(NOTED, {0: Assignment("a", 0, note)})
    engine = Engine(source, script, Settings(batch_timeout=0.01, **settings))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: any(source.rooms), "it asks for something")
        yield source, engine
        engine.force()


async def fetches_nothing(source: Told) -> None:
    """Wait until two fetches have brought nothing."""
    for _ in range(2):
        count = len(source.rooms)
        source.news()
        await eventually(lambda: len(source.rooms) > count, "it has fetched again")  # noqa: B023


class AtOnce:
    """A handler that says how many run at once, and waits for a gate."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.now = self.most = 0
        self.gate = anyio.Event()

    async def __call__(self, message: Message[Any]) -> None:
        """Run until the gate is open."""
        self.seen.append(message.raw)
        self.now += 1
        self.most = max(self.most, self.now)
        await self.gate.wait()
        self.now -= 1


async def test_while_a_suspect_runs_nothing_is_fetched_and_health_says_why() -> None:
    """V2: what came in would wait in memory, and be there when the process ends."""
    handler = AtOnce()
    async with log_with(CRASHED, handler) as (source, engine):
        source.deliver(b"0")
        await eventually(lambda: handler.now, "it runs")
        await fetches_nothing(source)
        assert source.rooms[-1] == {}
        assert engine.health().reasons == (f"intake stopped: {REASON}",)
        handler.gate.set()
        await eventually(lambda: source.rooms[-1], "it asks for more")
        assert engine.health().reasons == ()


async def test_what_waits_behind_a_suspect_that_has_failed_runs_alone_too() -> None:
    """V2, V4: of its key nothing is handed over before it is its turn, and each is named by the note while it runs."""
    broker = log_of((b"bad", "a"), (b"a2", "a"), (b"b1", "b"), (b"a3", "a"))
    await die(broker, SUSPECT_AFTER)

    async def script(message: Message[Any]) -> None:
        if message.raw == b"bad" and message.attempt == 1:
            raise Retry(0.2)

    handler = Alone(broker, script)
    async with running(handler, broker=broker, **LOG) as bench:
        await bench.until_settled(4)
        assert handler == [b"bad", b"b1", b"bad", b"a2", b"a3"]
        assert handler.solos == [(0, 1), (2, 1), (0, 1), (1, 1), (3, 1)]


async def test_beyond_the_range_only_what_waits_for_its_key_waits() -> None:
    """V4, V5: one of another key does not wait for the range to be through."""
    seen: list[bytes] = []

    async def script(message: Message[Any]) -> None:
        seen.append(message.raw)
        if message.raw == b"bad" and b"other" not in seen:
            raise Retry(0.02)

    async with log_with(CRASHED, script, limits=Limits(span=2)) as (source, engine):
        source.deliver(b"bad", b"behind", b"other", keys=["a", "a", "b"])
        await eventually(lambda: engine.stats.finished == 3, "all have run")
        assert seen[-1] == b"behind"


async def test_a_partition_whose_range_is_through_is_suspicious_no_more() -> None:
    """V5: what is let go is not taken in again, and what comes later runs as ever."""
    handler = AtOnce()
    async with log_with(CRASHED, handler, limits=Limits(span=2)) as (source, engine):
        handler.gate.set()
        source.deliver(b"0")
        await eventually(lambda: handler.seen == [b"0"], "it has run")
        (ledger,) = engine.ledgers
        assert ledger.suspicious
        source.deliver(b"2", first=2)
        await eventually(lambda: len(handler.seen) == 2, "it has run too")
        assert not ledger.suspicious


async def test_a_fetch_that_brings_nothing_before_anything_came_ends_no_suspicion() -> None:
    """V5: a broker may answer late; what ended the processes is still to come."""
    handler = AtOnce()
    async with log_with(CRASHED, handler) as (source, engine):
        await fetches_nothing(source)
        source.deliver(b"0", b"1")
        await eventually(lambda: handler.now, "one runs")
        await anyio.wait_all_tasks_blocked()
        assert (handler.most, source.solo) == (1, (0, 1))
        handler.gate.set()
        await eventually(lambda: engine.stats.finished == 2, "both have run")
        assert handler.most == 1


async def test_a_fetch_that_brings_nothing_while_a_suspect_is_parked_ends_no_suspicion() -> None:
    """V1: what comes later of its key would overtake what waits here."""
    seen: list[bytes] = []

    async def script(message: Message[Any]) -> None:
        seen.append(message.raw)
        if message.raw == b"bad" and message.attempt == 1:
            raise Retry(0.7)

    async with log_with(CRASHED, script) as (source, engine):
        source.deliver(b"bad", b"2", keys=["a", "a"])
        await eventually(lambda: len(engine.parking), "it is parked")
        await fetches_nothing(source)
        source.deliver(b"3", first=2, keys=["a"])
        await eventually(lambda: engine.stats.finished == 3, "all have run")
        assert seen == [b"bad", b"bad", b"2", b"3"]


async def test_a_suspect_that_has_survived_is_named_no_more() -> None:
    """A5, V3: though it failed and waits for its retry; that one is its first time alone."""
    named: list[tuple[int, int] | None] = []
    free = anyio.Event()

    async def script(message: Message[Any]) -> None:
        named.append(source.solo)
        if message.attempt == 1:
            raise Retry(0.3)
        await free.wait()

    async with log_with(write(Note(0, opened=1, solo=(0, 2))), script) as (source, engine):
        source.deliver(b"bad")
        await eventually(lambda: len(engine.parking), "it is parked")
        await eventually(lambda: source.solo is None, "the note names nobody")
        await eventually(lambda: len(named) == 2, "it runs again")
        assert named == [(0, 3), (0, 1)]
        free.set()
        await eventually(lambda: engine.stats.finished == 1, "it is done")


async def test_nobody_is_named_while_others_are_at_work() -> None:
    """V2: a process that ends by what is still at work would be one more crash of the suspect."""
    broker, gate = log_of(b"0", b"old"), anyio.Event()
    await die(broker, SUSPECT_AFTER)

    async def script(message: Message[Any]) -> None:
        if message.raw == b"old" and message.attempt == 1:
            raise Retry(0.5)
        if message.raw == b"1":
            await gate.wait()

    handler = Alone(broker, script)
    async with running(handler, broker=broker, span=2, **LOG) as bench:
        await bench.until(lambda: bench.parked, "it is parked")
        bench.send(b"1")
        await bench.until(lambda: handler.now == 1, "another runs")
        await bench.until(lambda: bench.engine.pool.paused, "its time has come")
        await anyio.wait_all_tasks_blocked()
        assert solo(broker) is None
        gate.set()
        await bench.until_settled(3)
        assert handler.solos[-1] == (1, 1)
