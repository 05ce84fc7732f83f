"""When the broker is told what was done, one call at a time, and what its answers mean. All in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from pythia_core.contracts import Assignment, Capabilities, Message, Partition, Refusals, Refused, Settlement
from pythia_core.engine.engine import Engine
from pythia_core.errors import Retry
from pythia_core.settings import Settings
from tests.engine.bench import Seen
from tests.engine.scripted import Scripted

BUSY = b"busy"
LEASED = Capabilities(lease_seconds=30.0)


class Broker(Scripted):
    """A source that writes down when it was told what."""

    def __init__(
        self,
        capabilities: Capabilities | None = None,
        on_settle: Callable[[Sequence[Settlement]], Coroutine[Any, Any, Refusals]] | None = None,
        partitions: int = 1,
    ) -> None:
        assignments: dict[Partition, Assignment] = {number: Assignment(1) for number in range(partitions)}
        super().__init__(capabilities or Capabilities(), assignments, on_settle=on_settle)
        self.began = 0.0
        self.told: list[tuple[Any, Any, Any]] = []  # when, what was done, what renewed

    async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
        """Write down, then do it."""
        now = round(trio.current_time() - self.began, 2)
        self.told += [(now, settlement.beyond, settlement.renewed) for settlement in settlements]
        return await super().settle(settlements)

    @property
    def times(self) -> list[Any]:
        """When it was told anything."""
        return [when for when, _, _ in self.told]


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test in which an hour takes no time."""
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0.001))


@asynccontextmanager
async def working(
    source: Broker, script: Callable[[Message[Any]], Coroutine[Any, Any, None]], **settings: Any
) -> AsyncIterator[Engine]:
    """Run an engine on a source; the times of what it is told count from here."""
    engine = Engine(source, Seen(script), Settings(drain_timeout=1.0, **settings))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await trio.sleep(0.01)
        source.began = trio.current_time()
        yield engine
        engine.force()


async def busy_or_done(message: Message[Any]) -> None:
    """Keep a worker at work for ever with one body; be done at once with all others."""
    if message.raw == BUSY:
        await trio.sleep_forever()


# -- when ------------------------------------------------------------------------------------------------------------


def test_what_is_done_is_settled_every_batch_timeout() -> None:
    """While there is something to do, calls are made by the clock, however much is done between two of them."""
    source = Broker()

    async def main() -> None:
        async with working(source, busy_or_done, batch_timeout=1.0):
            source.deliver(BUSY)
            for number in range(1, 40):
                await trio.sleep(0.1)
                source.deliver(b"x", first=number)
        assert source.times[:3] == [0.99, 1.99, 2.99]
        assert len(source.told[1][1]) == 10

    in_virtual_time(main)


def test_five_thousand_done_are_settled_at_once() -> None:
    """C3: they do not wait for the clock."""
    source = Broker()

    async def main() -> None:
        async with working(source, busy_or_done, batch_timeout=60.0):
            source.deliver(BUSY, *[b"x"] * 4999)
            await trio.sleep(0.5)
            assert source.told == []
            source.deliver(b"x", first=5000)
            await trio.sleep(0.5)
            assert source.times == [0.5]
            assert len(source.done) == 5000

    in_virtual_time(main)


def test_half_of_the_sources_window_is_settled_at_once() -> None:
    """C3: a source that hands out so many unsettled messages and no more is never made to wait for the clock."""
    source = Broker(Capabilities(window=10))

    async def main() -> None:
        async with working(source, busy_or_done, batch_timeout=60.0):
            source.deliver(BUSY, *[b"x"] * 4)
            await trio.sleep(0.5)
            assert source.told == []
            source.deliver(b"x", first=5)
            await trio.sleep(0.5)
            assert (source.times, source.done) == ([0.5], {1, 2, 3, 4, 5})

    in_virtual_time(main)


def test_what_is_done_is_settled_when_idle() -> None:
    """Nothing is left to do, so nothing is waited for."""
    source = Broker()

    async def main() -> None:
        async with working(source, busy_or_done, batch_timeout=60.0):
            source.deliver(b"x")
            await trio.sleep(0.5)
            assert (len(source.told), source.done) == (1, {0})

    in_virtual_time(main)


# -- leases ----------------------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_at_a_third_of_it() -> None:
    """Of all that is open: what is parked, what runs and what waits for its turn. What is done needs none."""
    source = Broker(LEASED)

    async def script(message: Message[Any]) -> None:
        if message.raw == b"parked":
            raise Retry(1000)
        await busy_or_done(message)

    async def main() -> None:
        async with working(source, script, batch_timeout=60.0, max_concurrent_tasks=1):
            source.deliver(b"done", b"parked", BUSY, b"waits")
            await trio.sleep(65)
        assert [(when, renewed) for when, _, renewed in source.told[:6]] == [
            (pytest.approx(10.0 * third, abs=0.1), (1, 2, 3)) for third in range(1, 7)
        ]

    in_virtual_time(main)


def test_a_renewal_that_fails_is_made_again_before_the_lease_ends() -> None:
    """C2: not after another third, since two thirds may be over by then."""

    async def fail_once(settlements: Sequence[Settlement]) -> Refusals:
        if len(source.told) == 1:
            raise ConnectionError("try again")
        return ()

    source = Broker(LEASED, fail_once)

    async def main() -> None:
        async with working(source, busy_or_done, batch_timeout=60.0):
            source.deliver(BUSY)
            await trio.sleep(14)
        (first, _, _), (again, _, renewed), *_ = source.told  # and at the end what is given back
        assert (first, renewed) == (pytest.approx(10.0, abs=0.1), (0,))
        assert again <= 12.0

    in_virtual_time(main)


def test_a_renewal_that_is_refused_is_somebody_elses_work() -> None:
    """C4: what runs goes on and its result is ignored; what waits is never run; neither is named again."""
    ended = trio.Event()

    async def refuse(settlements: Sequence[Settlement]) -> Refusals:
        return [Refused(0, 1, (0, 1))] if settlements[0].renewed == (0, 1, 2) else ()

    async def script(message: Message[Any]) -> None:
        if message.raw == BUSY:
            await ended.wait()

    source = Broker(LEASED, refuse)

    async def main() -> None:
        async with working(source, script, batch_timeout=60.0, max_concurrent_tasks=1) as engine:
            source.deliver(BUSY, b"waits", b"ours")
            await trio.sleep(25)
            assert engine.stats.refused == 2
            assert [renewed for _, _, renewed in source.told] == [(0, 1, 2), (2,)]
            ended.set()
            await trio.sleep(1)
            assert (source.done, engine.stats.finished, engine.stats.in_flight) == ({2}, 3, 0)

    in_virtual_time(main)


# -- answers ---------------------------------------------------------------------------------------------------------


def test_settle_calls_are_serial() -> None:
    """C1: one that takes long is neither cut off nor overtaken, though a drain has given up waiting for it."""
    calls: list[str] = []

    async def slow(settlements: Sequence[Settlement]) -> Refusals:
        calls.append("begins")
        await trio.sleep(20)
        calls.append("ends")
        return ()

    source = Broker(on_settle=slow)

    async def main() -> None:
        async with working(source, busy_or_done, batch_timeout=1.0) as engine:
            source.deliver(b"1")
            await trio.sleep(2)
            source.deliver(b"2", first=1)
            await trio.sleep(2)
            assert engine.session is not None
            assert not await engine.session.committer.flush(trio.current_time() + 5)
            await trio.sleep(50)
        assert calls == ["begins", "ends"] * 2
        assert [done for _, done, _ in source.told] == [(0,), (1,)]

    in_virtual_time(main)


def test_what_no_answer_came_for_is_settled_again() -> None:
    """C2: nobody knows whether it was done, so it is said again, with what is done by then."""

    async def script(message: Message[Any]) -> None:
        if message.raw == BUSY:
            await trio.sleep(5)

    async def lose_the_answer(settlements: Sequence[Settlement]) -> Refusals:
        if len(source.told) == 1:
            await trio.sleep(10)
            raise TimeoutError("no answer")
        return ()

    source = Broker(on_settle=lose_the_answer)

    async def main() -> None:
        async with working(source, script, batch_timeout=1.0) as engine:
            source.deliver(b"done", BUSY)
            await trio.sleep(30)
            assert [done for _, done, _ in source.told] == [(0,), (0, 1)]
            assert engine.stats.settled == 2

    in_virtual_time(main)


def test_a_late_answer_changes_nothing_in_a_closed_ledger() -> None:
    """C6, E1: what it confirms or refuses was taken from us meanwhile and counted as gone then."""
    answer = trio.Event()

    async def late(settlements: Sequence[Settlement]) -> Refusals:
        if len(source.told) > 1:
            return ()
        await answer.wait()
        return [Refused(0, 1, (1, 2))]

    source = Broker(LEASED, late)

    async def main() -> None:
        async with working(source, busy_or_done, batch_timeout=10.0, max_concurrent_tasks=1) as engine:
            source.deliver(b"done", BUSY, b"waits")
            await trio.sleep(11)
            assert source.told == [(pytest.approx(10.0, abs=0.1), (0,), (1, 2))]
            source.owner.assigned({0: Assignment(2)})
            source.deliver(BUSY, b"waits")
            await trio.sleep(1)
            answer.set()
            await trio.sleep(1)
            stats = engine.stats
            assert (stats.settled, stats.refused) == (0, 0)
            assert stats.in_flight == 3, "the handler that has lost its message, and what came after"

    in_virtual_time(main)


def test_what_is_refused_is_struck_out_before_anything_else_is_settled() -> None:
    """C4: it is in no later settlement, whatever was refused of it: a lease, an acknowledgement, all that was assigned."""
    refusals = [Refused(0, 1, (0,)), Refused(1, 1)]

    async def refuse(settlements: Sequence[Settlement]) -> Refusals:
        answer, refusals[:] = list(refusals), []
        return answer

    source = Broker(on_settle=refuse, partitions=2)

    async def main() -> None:
        async with working(source, busy_or_done, batch_timeout=1.0) as engine:
            source.deliver(b"1")
            source.deliver(b"2", partition=1)
            await trio.sleep(2)
            assert {settlement.partition for settlement in source.settlements} == {0, 1}
            del source.settlements[:]
            source.deliver(b"3", first=1)
            source.deliver(b"4", first=1, partition=1)
            await trio.sleep(2)
            assert [(s.partition, s.beyond) for s in source.settlements] == [(0, (1,))]
            assert (engine.stats.received, engine.stats.in_flight) == (3, 0)

    in_virtual_time(main)
