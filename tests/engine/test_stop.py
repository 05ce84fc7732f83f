"""The graceful stop: nothing is lost, nothing is done twice, and it ends by its deadline, whatever hangs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import Message, Refusals, Settlement
from pythia_core.engine.engine import Engine
from pythia_core.engine.health import Exit
from pythia_core.errors import Retry
from pythia_core.settings import Settings
from tests.engine.bench import Seen, make, running
from tests.engine.scripted import Scripted
from tests.waiting import eventually

ACKS = pytest.mark.parametrize("ack", ["individual", "cumulative", "both"])


class Gate(Seen):
    """A handler that waits at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = anyio.Event()
        self.finished: list[bytes] = []

    async def __call__(self, message: Message[Any]) -> None:
        self.append(message.raw)
        await self.gate.wait()
        self.finished.append(message.raw)


@ACKS
async def test_a_stop_finishes_what_runs_and_gives_back_the_rest(ack: str) -> None:
    """What ran is settled, what did not is delivered to the next one as never tried, and nothing is done twice."""
    handler = Gate()
    async with running(handler, *[b"%d" % n for n in range(6)], ack=ack, max_concurrent_tasks=2) as bench:
        await bench.until(lambda: len(handler) == 2, "two are running")
        bench.engine.stop()
        await bench.until(lambda: not bench.engine.health().ready, "it is not ready any more")
        await anyio.wait_all_tasks_blocked()
        assert bench.exits == []
        assert any("stopping" in reason for reason in bench.engine.health().reasons)
        handler.gate.set()
        assert await bench.ended() == Exit.CLEAN
        assert sorted(bench.settled) == [b"0", b"1"] == sorted(handler.finished)
        rest = bench.broker.waiting("orders")
        assert sorted(record.value for record in rest) == [b"2", b"3", b"4", b"5"]
        assert bench.engine.stats.in_flight == 0
        second = Seen()
        async with running(second, broker=bench.broker, ack=ack) as next_bench:
            await next_bench.until_settled(6)
            assert sorted(second) == [b"2", b"3", b"4", b"5"]


async def test_what_is_given_back_has_not_failed() -> None:
    """The broker does not count the delivery of a message that was not started, or was parked."""
    deliveries: list[int | None] = []

    async def park(message: Message[Any]) -> None:
        raise Retry(3600)

    async def note(message: Message[Any]) -> None:
        deliveries.append(message.deliveries)

    broker = MemoryBroker()
    async with running(park, b"1", b"2", broker=broker, order="partition") as bench:
        await bench.until(lambda: bench.parked == 1, "one is parked and the other behind it")
        bench.engine.stop()
        await bench.ended()
    async with running(note, broker=broker) as bench:
        await bench.until_settled(2)
        assert deliveries == [1, 1]


async def test_a_stop_does_not_wait_for_parked_messages() -> None:
    """They are given back."""

    async def park(message: Message[Any]) -> None:
        raise Retry(3600)

    async with running(park, b"1", drain_timeout=60.0) as bench:
        await bench.until(lambda: bench.parked, "it is parked")
        bench.engine.stop()
        await bench.ended(seconds=5)
        assert bench.engine.stats.released == 1


async def test_outputs_are_confirmed_before_a_stop_ends() -> None:
    """They belong to the work that was started."""
    broker = MemoryBroker()
    broker.hold("write", confirm := anyio.Event(), topic="out")

    async def echo(message: Message[Any]) -> bytes:
        return message.raw

    async with (
        MemoryProducer("out", broker=broker) as out,
        running(echo, b"1", broker=broker, sink=out) as bench,
    ):
        await bench.until(lambda: bench.writing, "the output is on its way")
        bench.engine.stop()
        await anyio.wait_all_tasks_blocked()
        assert bench.exits == []
        confirm.set()
        await bench.ended()
        assert bench.settled == [b"1"]


async def test_a_failure_during_a_stop_is_given_back() -> None:
    """There is no time left to try again, and the next worker has it."""
    gate = anyio.Event()

    async def handler(message: Message[Any]) -> None:
        await gate.wait()
        raise ValueError

    seen = Seen(handler)
    async with running(seen, b"1", b"2", keys=["a", "a"], order="key") as bench:
        await bench.until(lambda: seen, "it runs")
        bench.engine.stop()
        await anyio.wait_all_tasks_blocked()
        gate.set()
        await bench.ended()
        assert [record.value for record in bench.broker.waiting("orders")] == [b"1", b"2"]
        assert bench.engine.stats.in_flight == 0


async def test_a_handler_that_does_not_end_is_cut_off_at_the_deadline() -> None:
    """E2, O5: run returns by drain_timeout; what was done by then is settled, the rest is not."""

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"slow":
            await anyio.sleep_forever()

    async with running(handler, b"quick", b"slow", drain_timeout=0.3, batch_timeout=60.0) as bench:
        await bench.until(lambda: bench.engine.stats.finished == 1, "one is done")
        began = anyio.current_time()
        bench.engine.stop()
        assert await bench.ended() == Exit.CLEAN
        assert anyio.current_time() - began < 0.3 + 0.7
        assert bench.settled == [b"quick"]


async def test_force_skips_the_drain() -> None:
    """A second signal does not wait for the handler."""
    handler = Gate()
    async with running(handler, b"1", drain_timeout=60.0) as bench:
        await bench.until(lambda: handler, "it runs")
        bench.engine.stop()
        await anyio.wait_all_tasks_blocked()
        bench.engine.force()
        await bench.ended(seconds=5)
        assert bench.settled == []


async def test_force_does_not_wait_for_a_broker_that_is_gone() -> None:
    """A drain that can settle nothing ends soon after force, not at its own deadline."""
    broker = MemoryBroker()
    broker.fail_next("settle", times=1_000_000)
    async with running(Seen(), b"1", broker=broker, drain_timeout=60.0) as bench:
        await bench.until(lambda: bench.engine.stats.finished, "it is done")
        bench.engine.stop()
        await anyio.wait_all_tasks_blocked()
        bench.engine.force()
        await bench.ended(seconds=5)
        assert bench.settled == []


async def test_force_does_not_wait_for_a_client_that_hangs() -> None:
    """``stop_fetching`` may never return."""
    source = Scripted(on_stop_fetching=anyio.sleep_forever)
    engine = Engine(source, Seen(), Settings(drain_timeout=60.0))
    exits = []

    async def run() -> None:
        exits.append(await engine.run())

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await eventually(lambda: source.rooms, "it fetches")
        engine.stop()
        await anyio.wait_all_tasks_blocked()
        engine.force()
        await eventually(lambda: exits, "it has ended", seconds=5)
    assert source.closed == 1


async def test_a_stop_that_the_client_fails_still_drains() -> None:
    """``stop_fetching`` raises because the broker is gone: what runs is finished, and settled if that works."""

    async def refuse() -> None:
        raise ConnectionError("gone")

    source, handler = Scripted(on_stop_fetching=refuse), Gate()
    engine = Engine(source, handler, Settings())
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"1")
        await eventually(lambda: handler, "it runs")
        engine.stop()
        await anyio.wait_all_tasks_blocked()
        handler.gate.set()
    assert source.done == {0}


async def test_nothing_is_released_before_the_client_has_stopped_to_fetch() -> None:
    """O3: what is released earlier comes straight back; what waits behind a message that fails is not forgotten."""
    stopped, fail = anyio.Event(), anyio.Event()

    async def handler(message: Message[Any]) -> None:
        await fail.wait()
        raise ValueError

    source, seen = Scripted(on_stop_fetching=stopped.wait), Seen(handler)
    engine = Engine(source, seen, Settings(order="key", batch_timeout=0.01))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"1", b"2", b"3", keys=["a", "a", "b"])
        await eventually(lambda: engine.stats.received == 3, "they are there")
        engine.stop()
        await anyio.wait_all_tasks_blocked()
        fail.set()
        source.deliver(b"4", first=3)
        await eventually(lambda: engine.stats.failures >= 2, "both keys have failed")
        assert source.released == []
        stopped.set()
    assert sorted(set(source.released)) == [0, 1, 2, 3]
    assert b"4" not in seen, "what arrives after a stop has begun is not run"
    assert engine.stats.in_flight == 0


@pytest.mark.parametrize("order", ["key", "none"])
async def test_nothing_is_started_while_the_client_hangs(order: Any) -> None:
    """O6: neither what is queued, nor what waits for its key, nor what is parked and comes due; and all are given back."""
    stopped, gate, slow = anyio.Event(), anyio.Event(), anyio.Event()

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"parked":
            raise Retry(0.02)
        await (slow if message.raw == b"slow" else gate).wait()
        if message.raw == b"fails":
            raise ValueError

    bodies = [b"parked", b"works", b"fails", b"slow", b"behind", b"behind", b"other"]
    source, seen = Scripted(on_stop_fetching=stopped.wait), Seen(handler)
    engine = Engine(source, seen, Settings(order=order, max_concurrent_tasks=3, batch_timeout=0.01))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(*bodies, keys=["p", "w", "f", "s", "w", "s", "x"])
        await eventually(lambda: engine.stats.retried, "one is parked")
        await eventually(lambda: len(seen) >= 4, "three are at work")
        started = list(seen)
        engine.stop()
        await anyio.wait_all_tasks_blocked()
        in_flight = engine.stats.in_flight
        gate.set()
        await eventually(lambda: engine.stats.in_flight < in_flight, "one is done")
        with anyio.move_on_after(0.3):  # the policy's first delay is 0.2 s at most
            await eventually(lambda: seen != started, "something was started")
        assert seen == started
        assert source.released == []
        stopped.set()
        await eventually(lambda: source.released, "they are given back")
        slow.set()
    assert sorted(source.released) == [0, 2, 4, 5, 6]
    assert (source.done, engine.stats.in_flight, engine.stats.released) == ({1, 3}, 0, 5)


async def test_a_subscription_that_does_not_close_has_a_second() -> None:
    """E2: also where the drain has used up all its time."""
    source, handler = Scripted(on_close=anyio.sleep_forever), Gate()
    engine = Engine(source, handler, Settings(drain_timeout=0.2))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"1")
        await eventually(lambda: handler, "it runs")
        began = anyio.current_time()
        engine.stop()
    assert 1.0 <= anyio.current_time() - began < 0.2 + 1.0 + 0.8


async def test_force_does_not_wait_for_a_lost_subscription_to_close() -> None:
    """E2: it may be closing because its broker has gone."""

    class Breaks(Scripted):
        async def fetch(self, *arguments: Any) -> Any:
            raise ConnectionError("gone")

    source = Breaks(on_close=anyio.sleep_forever)
    engine = Engine(source, Seen(), Settings())
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.closed, "it is being closed")
        began = anyio.current_time()
        engine.force()
    assert anyio.current_time() - began < 3


async def test_a_stop_before_the_start_ends_at_once() -> None:
    """Nothing is subscribed to."""
    broker = MemoryBroker()
    engine = make(broker, Seen(), dead_letter=None)
    engine.stop()
    engine.stop("again")
    assert await engine.run() == Exit.CLEAN
    assert engine.stats.subscriptions == 0


async def test_a_stop_ends_a_subscribe_that_hangs() -> None:
    """The broker may not answer at all."""
    broker = MemoryBroker()
    broker.hold("subscribe", anyio.Event())
    async with running(Seen(), broker=broker) as bench:
        await anyio.wait_all_tasks_blocked()
        bench.engine.stop()
        assert await bench.ended(seconds=5) == Exit.CLEAN


async def test_a_stop_ends_the_wait_before_the_next_subscribe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker is down and stays so."""
    monkeypatch.setattr("pythia_core.engine.engine.full_jitter", lambda *arguments: 3600.0)
    broker = MemoryBroker()
    broker.fail_next("subscribe", times=1_000_000)
    async with running(Seen(), broker=broker) as bench:
        await bench.until(lambda: "refused" in str(bench.engine.health().reasons), "it has failed")
        bench.engine.stop()
        assert await bench.ended() == Exit.CLEAN


async def test_a_settle_that_hangs_does_not_outlast_the_deadline() -> None:
    """O5: the deadline ends the waiting, not the call."""

    async def hang(settlements: Sequence[Settlement]) -> Refusals:
        await anyio.sleep_forever()
        return ()

    source = Scripted(on_settle=hang)
    engine = Engine(source, Seen(), Settings(drain_timeout=0.2))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run)
            await eventually(lambda: source.rooms, "it fetches")
            source.deliver(b"1")
            await eventually(lambda: engine.stats.finished, "it is done")
            engine.stop()
    assert source.closed == 1


async def test_calls_of_a_client_are_made_as_it_was_promised() -> None:
    """O1, O2, C1: what a fetch brings is entered before anything else runs, no fetch is cut off, settle is serial."""
    busy: list[str] = []
    entered: list[int] = []
    engine: Engine

    class Strict(Scripted):
        async def fetch(self, *arguments: Any) -> Any:
            try:
                chunks = await super().fetch(*arguments)
            except anyio.get_cancelled_exc_class():
                assert self.closed, "a fetch was cancelled before aclose"
                raise
            before = engine.stats.received
            tasks.start_soon(self.look, before + sum(len(chunk.messages) for chunk in chunks))
            return chunks

        async def look(self, expected: int) -> None:
            entered.append(engine.stats.received - expected)

        async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
            assert not busy, "settle was called while it was under way"
            busy.append("settle")
            await anyio.sleep(0.02)
            busy.clear()
            return await super().settle(settlements)

    source = Strict()
    engine = Engine(source, Seen(), Settings(batch_timeout=0.005))
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as group:
        group.start_soon(engine.run)
        for number in range(10):
            count = len(source.rooms)
            source.deliver(b"x", first=number)
            await eventually(lambda: len(source.rooms) > count, "it was fetched")  # noqa: B023
        engine.stop()
    assert len(entered) >= 10
    assert set(entered) == {0}
    assert source.done == set(range(10))


@pytest.mark.parametrize("fault", ["fail_next", "drop_reply"])
async def test_a_stop_settles_again_what_the_broker_did_not_take(fault: str) -> None:
    """C2, C3: a drain ends when all that is done is settled, not when it was tried."""
    broker, handler = MemoryBroker(), Gate()
    async with running(handler, b"1", broker=broker, ack="cumulative") as bench:
        await bench.until(lambda: handler, "it runs")
        bench.engine.stop()
        await anyio.wait_all_tasks_blocked()
        getattr(broker, fault)("settle", times=2)
        handler.gate.set()
        await bench.ended()
        assert bench.settled == [b"1"]
        assert bench.engine.stats.settled == 1
