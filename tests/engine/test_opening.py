"""Openings: what ends its process at once is counted too, since nothing is fetched before the broker has the note."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from pythia_core.contracts import SUSPECT_AFTER, Assignment, Capabilities, Refusals, Settlement
from pythia_core.engine.engine import Engine
from pythia_core.settings import Settings
from tests.engine.bench import Seen
from tests.engine.scripted import Scripted
from tests.engine.test_suspects import World
from tests.waiting import eventually

NOTED = Capabilities(ack="cumulative", order_scope="partition", notes=True)


class Slow:
    """Holds up a call of the broker for a moment."""

    async def wait(self) -> None:
        """Return a little later than a fetch and a handler would."""
        await anyio.sleep(0.05)


class AtOnce(World):
    """Processes of which a message is the end before its handler has waited for anything, on a slow broker."""

    async def handle(self, messages: Any) -> None:
        """Die at once, or work."""
        if messages.raw == b"kill":
            self.deaths += 1
            self.death.cancel()
            await anyio.sleep_forever()
        await super().handle(messages)

    async def live(self, done: int) -> bool:
        """Let the first settlement of the process take its time."""
        self.broker.heal()
        self.broker.hold("settle", Slow())
        return await super().live(done)


async def test_a_message_that_ends_its_process_at_once_is_counted_each_time() -> None:
    """F1: it is found as soon as one that leaves the broker time to hear of the assignment."""
    world = AtOnce(b"1", b"kill", b"2", ack="cumulative", notes=True)
    await world.last(3, SUSPECT_AFTER + 4)
    assert world.dead == [b"kill"]
    assert world.deaths == SUSPECT_AFTER + 3


async def test_a_partition_waits_for_its_own_note_only() -> None:
    """F1, F2: it is asked for when the broker has confirmed it; the others are meanwhile. Ids may be shared, as generations are."""
    gates, under_way = {0: anyio.Event(), 1: anyio.Event()}, list[Any]()

    async def settle(settlements: Sequence[Settlement]) -> Refusals:
        for settlement in settlements:
            under_way.append(settlement.partition)
            await gates[settlement.partition].wait()  # type: ignore[index]
        return ()

    source = Scripted(NOTED, {0: Assignment("generation 7", 3)}, on_settle=settle)
    engine = Engine(source, Seen(), Settings())
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: len(source.rooms) > 1, "it looks in")
        assert source.rooms == [{}] * len(source.rooms)
        gates[0].set()
        await eventually(lambda: set(source.rooms[-1]) == {0}, "it asks for the first")
        gates[0] = anyio.Event()
        source.deliver(b"1", b"2", first=3)
        await eventually(lambda: under_way == [0, 0], "the first is settled again")
        source.owner.assigned({1: Assignment("generation 7", 9)})
        count = len(source.rooms)
        gates[0].set()
        await eventually(lambda: under_way[-1] == 1, "the second is settled")
        await eventually(lambda: len(source.rooms) > count + 1, "it goes on", seconds=20)
        assert all(set(room) == {0} for room in source.rooms[count:])
        gates[1].set()
        await eventually(lambda: set(source.rooms[-1]) == {0, 1}, "it asks for both")
        engine.force()


@pytest.mark.parametrize("revoked", [False, True])
def test_a_broker_that_takes_no_settlements_stops_nothing(revoked: bool) -> None:
    """F2: after five seconds work goes on, unless the partition has gone by then."""

    async def settle(settlements: Sequence[Settlement]) -> Refusals:
        raise ConnectionError("not now")

    seen = Seen()

    async def main() -> Scripted:
        source = Scripted(NOTED, {0: Assignment(1, 3)}, on_settle=settle)
        engine = Engine(source, seen, Settings())
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run)
            await anyio.sleep(4.9)
            assert source.rooms and not any(source.rooms)
            if revoked:
                await source.owner.revoked([0], anyio.current_time())
            await anyio.sleep(0.6)
            engine.force()
        return source

    source = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.001))
    assert any(source.rooms) != revoked


async def test_without_notes_all_is_asked_for_at_once() -> None:
    """F1: there is nothing to say first."""
    source, seen = Scripted(Capabilities(ack="cumulative"), {0: Assignment(1, 3)}), Seen()
    engine = Engine(source, seen, Settings())
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        engine.force()
    assert set(source.rooms[0]) == {0}
