"""Partitions come and go: what was drained is done once, what was not changes nothing, and no key runs twice at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import Assignment, Capabilities, Message, Refusals, Refused, Settlement
from pythia_core.engine.engine import Engine
from pythia_core.errors import Reject
from pythia_core.settings import Settings
from tests.engine.bench import Seen, running
from tests.engine.scripted import Scripted
from tests.engine.test_stop import Gate
from tests.waiting import PATIENCE, eventually

CUMULATIVE = Capabilities(ack="cumulative", order_scope="partition")


@pytest.mark.parametrize("rebalances", ["eager", "incremental"])
@pytest.mark.parametrize("ack", ["cumulative", "individual"])
async def test_a_rebalance_repeats_nothing(ack: str, rebalances: str) -> None:
    """A second worker joins while the first is at work: what runs is finished and settled, and runs nowhere else."""
    broker = MemoryBroker(partitions=4)
    options: dict[str, Any] = {"ack": ack, "order_scope": "partition", "rebalances": rebalances}
    first = Gate()
    async with running(first, broker=broker, max_concurrent_tasks=4, **options) as one:
        for number in range(40):
            one.send(b"%d" % number, partition=number % 4)
        await one.until(lambda: len(first) == 4, "four are running")
        second = Seen()
        async with running(second, broker=broker, **options) as two:
            await anyio.wait_all_tasks_blocked()
            first.gate.set()
            await two.until_settled(40)
            assert second
            assert sorted([*first, *second], key=int) == [b"%d" % n for n in range(40)]


async def test_a_revoke_ends_by_its_deadline_and_a_late_result_changes_nothing() -> None:
    """O4, O5, S5: a handler that ignores its cancellation ends later; its partition has moved on, its key waits for it."""
    ended = anyio.Event()

    async def stubborn(message: Message[Any]) -> None:
        with anyio.CancelScope(shield=True):
            await ended.wait()

    source = Scripted(CUMULATIVE, {0: Assignment("a", 0)})
    seen = Seen(stubborn)
    engine = Engine(source, seen, Settings(batch_timeout=0.01))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"1", b"2", keys=["k", "k"])
        await eventually(lambda: seen, "it runs")
        began = anyio.current_time()
        with anyio.fail_after(5):
            await source.owner.revoked([0], began + 0.2)
        assert anyio.current_time() - began < 0.2 + 0.5
        source.owner.assigned({0: Assignment("b", 0)})
        source.deliver(b"1 again", b"other", keys=["k", "l"])
        await eventually(lambda: b"other" in seen, "another key runs at once")
        await anyio.wait_all_tasks_blocked()
        assert b"1 again" not in seen
        assert source.settlements == []
        ended.set()
        await eventually(lambda: b"1 again" in seen, "the key is open again")
        await eventually(lambda: source.settlements, "it is settled")
        assert {settlement.assignment for settlement in source.settlements} == {"b"}
        engine.force()


async def test_a_handler_is_cancelled_at_the_deadline_of_a_revoke() -> None:
    """The message is run again by whoever has the partition then; here it has not failed."""
    cancelled = anyio.Event()

    async def handler(message: Message[Any]) -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            cancelled.set()
            raise

    source = Scripted(CUMULATIVE, {0: Assignment("a", 0)})
    seen = Seen(handler)
    engine = Engine(source, seen, Settings())
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"1")
        await eventually(lambda: seen, "it runs")
        await source.owner.revoked([0], anyio.current_time() + 0.1)
        with anyio.fail_after(5):
            await cancelled.wait()
        await eventually(lambda: engine.stats.in_flight == 0, "it has ended")
        assert (engine.stats.failures, source.settlements) == (0, [])
        engine.force()


def test_a_tenth_of_a_revoke_is_left_for_settling() -> None:
    """O5: a handler that does not end does not use up the time in which the broker is told what others have done."""

    async def slow(settlements: Sequence[Settlement]) -> Refusals:
        await trio.sleep(0.9)
        return ()

    async def handler(message: Message[Any]) -> None:
        if message.raw == b"endless":
            await trio.sleep_forever()

    async def main() -> None:
        source = Scripted(CUMULATIVE, {0: Assignment("a", 0)}, on_settle=slow)
        engine = Engine(source, handler, Settings(batch_timeout=60.0))
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run)
            await trio.sleep(1)
            source.deliver(b"done", b"endless")
            await trio.sleep(1)
            assert source.settlements == []
            await source.owner.revoked([0], trio.current_time() + 10)
            assert [settlement.through for settlement in source.settlements] == [1]
            engine.force()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.001))


async def test_a_revoke_waits_for_outputs_and_settles_what_they_belong_to() -> None:
    """O5: a message whose handler has returned is started work; what is confirmed by then is settled, and not given back."""
    broker = MemoryBroker()
    broker.hold("write", confirm := anyio.Event(), topic="out")

    async def echo(message: Message[Any]) -> bytes:
        return message.raw

    source, seen = Scripted(CUMULATIVE, {0: Assignment("a", 0)}), Seen(echo)
    async with MemoryProducer("out", broker=broker) as out:
        engine = Engine(source, seen, Settings(batch_timeout=60.0), sink=out)
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run)
            await eventually(lambda: source.rooms, "it fetches")
            source.deliver(b"1", b"2")
            await eventually(lambda: len(seen) == 2, "both have been handled")
            with anyio.fail_after(30):
                async with anyio.create_task_group() as revoking:
                    revoking.start_soon(source.owner.revoked, [0], anyio.current_time() + 60.0)
                    await anyio.wait_all_tasks_blocked()
                    assert source.settlements == []
                    confirm.set()
            assert [settlement.through for settlement in source.settlements] == [2]
            assert engine.stats.released == 0
            engine.force()


async def test_a_revoke_ends_by_its_deadline_though_the_broker_does_not_answer() -> None:
    """O5: what is done and could not be settled comes again; the group is not kept waiting for it."""

    async def hang(settlements: Sequence[Settlement]) -> Refusals:
        await anyio.sleep_forever()
        return ()

    source = Scripted(CUMULATIVE, {0: Assignment("a", 0)}, on_settle=hang)
    engine = Engine(source, Seen(), Settings(batch_timeout=60.0))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"1")
        await eventually(lambda: engine.stats.finished, "it is done")
        with anyio.fail_after(PATIENCE):
            await source.owner.revoked([0], anyio.current_time() + 0.2)
        assert engine.stats.revoked == 1
        engine.force()


async def test_a_lost_partition_settles_nothing() -> None:
    """O4: what was done and not settled yet is somebody else's, as is what still runs."""
    source, handler = Scripted(CUMULATIVE, {0: Assignment("a", 0)}), Gate()
    engine = Engine(source, handler, Settings(batch_timeout=60.0))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"1", b"2")
        await eventually(lambda: len(handler) == 2, "both run")
        source.owner.lost([0])
        handler.gate.set()
        await eventually(lambda: engine.stats.in_flight == 0, "both have ended")
        engine.stop()
    assert source.settlements == []


async def test_a_partition_lost_during_its_revoke_is_not_waited_for() -> None:
    """O5: there is nothing left to settle."""
    source, handler = Scripted(CUMULATIVE, {0: Assignment("a", 0)}), Gate()
    engine = Engine(source, handler, Settings())
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"1")
        await eventually(lambda: handler, "it runs")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as revoking:
                revoking.start_soon(source.owner.revoked, [0], anyio.current_time() + 60.0)
                await anyio.wait_all_tasks_blocked()
                source.owner.lost([0])
        engine.force()


async def test_two_revokes_at_a_time_both_return_when_they_are_done() -> None:
    """C3: neither takes the other's news away."""
    source, handler = Scripted(CUMULATIVE, {n: Assignment(n, 0) for n in (0, 1)}), Gate()
    engine = Engine(source, handler, Settings(batch_timeout=60.0))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"1", partition=0)
        source.deliver(b"2", partition=1)
        await eventually(lambda: len(handler) == 2, "both run")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as revoking:
                for partition in (0, 1):
                    revoking.start_soon(source.owner.revoked, [partition], anyio.current_time() + 60.0)
                    await anyio.wait_all_tasks_blocked()
                handler.gate.set()
        assert {(s.partition, s.through) for s in source.settlements} == {(0, 1), (1, 1)}
        engine.force()


async def test_what_is_refused_is_ignored_if_it_runs_and_dropped_if_it_waits() -> None:
    """C4: a lease that was lost is somebody else's work; what comes behind it goes on."""
    refuse = [(0, 1)]

    async def settle(settlements: Sequence[Settlement]) -> Refusals:
        return [Refused(0, 1, refuse.pop())] if refuse else ()

    source, handler = Scripted(Capabilities(lease_seconds=0.15), on_settle=settle), Gate()
    engine = Engine(source, handler, Settings(order="key", batch_timeout=0.02, max_concurrent_tasks=2))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"1", b"2", b"3", keys=["k", "k", "k"])
        await eventually(lambda: engine.stats.refused == 2, "two are refused")
        assert handler == [b"1"]
        handler.gate.set()
        await eventually(lambda: source.done == {2}, "the third is settled")
        assert handler == [b"1", b"3"]
        assert engine.stats.in_flight == 0
        engine.force()


async def test_an_assignment_that_is_refused_is_lost() -> None:
    """The broker knows better whose it is."""

    async def settle(settlements: Sequence[Settlement]) -> Refusals:
        return [Refused(0, "a")]

    source = Scripted(CUMULATIVE, {0: Assignment("a", 0)}, on_settle=settle)
    engine = Engine(source, Seen(), Settings(batch_timeout=0.02))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        source.deliver(b"1")
        await eventually(lambda: source.settlements and source.rooms[-1] == {}, "nothing more is asked for")
        engine.force()


@pytest.mark.parametrize("ack", ["individual", "cumulative", "both"])
@pytest.mark.parametrize("fault", ["fail_next", "drop_reply"])
async def test_a_settle_that_raises_is_made_again(ack: str, fault: str) -> None:
    """C2: whether it was executed or not; nothing is run twice and nothing stays unsettled."""
    broker, seen = MemoryBroker(), Seen()
    getattr(broker, fault)("settle", times=3)
    async with running(seen, b"1", b"2", broker=broker, ack=ack) as bench:
        await bench.until(lambda: bench.engine.stats.settled == 2, "both are settled")
        assert (sorted(bench.settled), sorted(seen)) == ([b"1", b"2"], [b"1", b"2"])


async def test_outputs_of_a_lost_partition_are_not_written() -> None:
    """P5, D4: neither what is queued, nor the result, nor a dead letter of what ends later."""
    broker, fail = MemoryBroker(), anyio.Event()
    broker.hold("write", write := anyio.Event(), topic="out")

    async def handler(message: Message[Any]) -> bytes:
        if message.raw in (b"late", b"fails"):
            await fail.wait()
        if message.raw == b"fails":
            raise Reject
        return message.raw

    source, seen = Scripted(CUMULATIVE, {0: Assignment("a", 0)}), Seen(handler)
    async with MemoryProducer("out", broker=broker) as out, MemoryProducer("dlq", broker=broker) as dlq:
        engine = Engine(source, seen, Settings(batch_size=1), sink=out, dead_letter=dlq)
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run)
            await eventually(lambda: source.rooms, "it fetches")
            source.deliver(b"first", b"queued", b"late", b"fails")
            await eventually(lambda: len(seen) == 4, "all have started")
            await anyio.wait_all_tasks_blocked()
            source.owner.lost([0])
            fail.set()
            write.set()
            await eventually(lambda: engine.stats.in_flight == 0, "all have ended")
            await anyio.wait_all_tasks_blocked()
            engine.force()
    assert [record.value for record in broker.records("out")] == [b"first"]  # it was being written already
    assert (broker.records("dlq"), source.settlements) == ([], [])


async def test_how_long_a_rebalance_takes_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """From partitions being asked back until the next come, if none: scaling waits for three of those after a change."""
    now = 0.0
    monkeypatch.setattr("pythia_core.engine.engine.loop_clock", lambda: lambda: now)
    source = Scripted(CUMULATIVE, {0: Assignment("a", 0)})
    engine = Engine(source, Seen(), Settings())
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run)
        await eventually(lambda: source.rooms, "it fetches")
        assert engine.stats.rebalances == 0 and engine.figures()["rebalance"] is None, "a first one is none"
        await source.owner.revoked([0], 10.0)
        now = 3.0
        source.owner.assigned({})
        now = 9.0
        source.owner.assigned({1: Assignment("b", 0)})
        assert engine.stats.rebalances == 1 and engine.figures()["rebalance"] == 3.0
        engine.force()
