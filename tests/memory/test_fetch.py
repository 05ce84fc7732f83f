"""What a fetch brings, how long it waits, and what ends it."""

from typing import Any

import anyio
import pytest

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.errors import SubscriptionLost
from tests.memory.reader import PLENTY, ManualClock, Reader, fill, positions, reading
from tests.waiting import eventually

LONG = 30.0  # seconds; a test that waits so long has failed


async def asleep(broker: MemoryBroker) -> None:
    """Return once somebody sleeps on the topic."""
    await eventually(lambda: broker.topic("orders").sleepers, "a fetch waits")


async def test_room_and_limit_bound_a_fetch() -> None:
    """Each partition gets what it has room for, all together what the limit says, in the order of ``room``."""
    broker = MemoryBroker(partitions=3)
    for partition in range(3):
        fill(broker, 10, partition=partition)
    async with reading(broker, ack="cumulative") as reader:
        chunks = await reader.subscription.fetch({0: 2, 2: 3}, PLENTY, PLENTY, 0)
        assert {chunk.partition: len(chunk.messages) for chunk in chunks} == {0: 2, 2: 3}
        assert {chunk.partition: chunk.position for chunk in chunks} == {0: 2, 2: 3}
        for order in ((2, 0, 1), (1, 2, 0)):
            (chunk,) = await reader.subscription.fetch(dict.fromkeys(order, 9), 1, PLENTY, 0)
            assert chunk.partition == order[0]


async def test_max_bytes_is_a_hint() -> None:
    """A fetch stops at it, but brings at least one message, however large."""
    broker = MemoryBroker()
    for ack in ("cumulative", "individual"):
        broker.publish(ack, b"x" * 1000)
        broker.publish(ack, b"x" * 10)
        broker.publish(ack, b"x" * 10)
        async with reading(broker, ack, ack=ack) as reader:
            assert [m.size for m in await reader.fetch(max_bytes=20)] == [1000]
            assert [m.size for m in await reader.fetch(max_bytes=20)] == [10, 10]


async def test_max_bytes_is_for_all_partitions_together() -> None:
    """What one partition brought leaves less for the next."""
    broker = MemoryBroker(partitions=3)
    for _ in range(6):
        broker.publish("orders", b"x" * 10)
    async with reading(broker, ack="cumulative") as reader:
        assert len(await reader.fetch(max_bytes=20)) == 2
        assert len(await reader.fetch(max_bytes=30)) == 3


async def test_partitions_of_one_queue_take_turns() -> None:
    """A busy partition does not keep the members of a shared queue from the others."""
    broker = MemoryBroker(partitions=3)
    for _ in range(9):
        broker.publish("orders", b"")
    async with reading(broker) as reader:
        assert {(await reader.fetch(1))[0].id.split("-")[1] for _ in range(3)} == {"0", "1", "2"}


async def test_max_bytes_holds_for_what_comes_back() -> None:
    """Messages delivered again are bounded like new ones."""
    broker = MemoryBroker()
    for _ in range(3):
        broker.publish("orders", b"x" * 10)
    async with reading(broker) as reader:
        await reader.settle(released=positions(await reader.fetch()))
        assert len(await reader.fetch(max_bytes=20)) == 2


async def test_a_publish_wakes_a_waiting_fetch() -> None:
    """Nothing is polled: the message is there as soon as it is published."""
    broker = MemoryBroker()
    async with reading(broker) as reader, anyio.create_task_group() as group:

        async def publish() -> None:
            await asleep(broker)
            broker.publish("orders", b"new")

        group.start_soon(publish)
        with anyio.fail_after(5):
            assert await reader.values(wait=LONG) == [b"new"]


async def test_a_fetch_waits_no_longer_than_it_should() -> None:
    """An empty topic gives an empty fetch after ``wait`` seconds."""
    broker = MemoryBroker()
    async with reading(broker) as reader:
        start = anyio.current_time()
        assert await reader.fetch(wait=0.05) == []
        assert 0.05 <= anyio.current_time() - start < 5
    assert not broker.topic("orders").sleepers


async def test_an_empty_room_brings_nothing_and_waits() -> None:
    """It asks for nothing, even if there is something."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with reading(broker) as reader:
        start = anyio.current_time()
        assert await reader.subscription.fetch({}, PLENTY, PLENTY, 0.05) == []
        assert anyio.current_time() - start >= 0.05
        assert broker.pending("orders") == []


async def test_an_empty_room_raises_what_the_client_has_stored() -> None:
    """A fetch that only waits learns at once that the connection is gone."""
    broker = MemoryBroker()
    async with reading(broker) as reader, anyio.create_task_group() as group:

        async def break_it() -> None:
            await asleep(broker)
            broker.fail_next("fetch")

        group.start_soon(break_it)
        with anyio.fail_after(5), pytest.raises(ConnectionError):
            await reader.subscription.fetch({}, 0, 0, LONG)


async def test_nothing_is_delivered_after_stop_fetching() -> None:
    """A waiting fetch returns empty, later ones wait and bring nothing, and what is released stays released."""
    broker = MemoryBroker()
    async with reading(broker) as reader:
        fill(broker, 1)
        p = positions(await reader.fetch())
        result: list[Any] = []
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:

                async def fetch() -> None:
                    result.append(await reader.fetch(wait=LONG))

                group.start_soon(fetch)
                await asleep(broker)
                await reader.subscription.stop_fetching()
        assert result == [[]]
        await reader.settle(released=p)
        fill(broker, 3)
        start = anyio.current_time()
        assert await reader.fetch(wait=0.05) == []
        assert anyio.current_time() - start >= 0.05
        assert reader.member in broker.members("orders")


async def test_aclose_ends_a_waiting_fetch_and_may_be_called_twice() -> None:
    """The fetch returns empty, the owner is told nothing, and a closed subscription fetches no more."""
    broker = MemoryBroker()
    async with reading(broker) as reader:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(expect_nothing, reader)
                await asleep(broker)
                await reader.subscription.aclose()
                await reader.subscription.aclose()
        assert reader.owner.names() == ["assigned"]
        assert broker.members("orders") == ()
        with pytest.raises(SubscriptionLost, match="closed"):
            await reader.fetch()
    assert not broker.topic("orders").sleepers


async def test_aclose_ends_a_fetch_that_waits_during_a_stop() -> None:
    """The last fetch of a drain does not hold up the end."""
    broker = MemoryBroker()
    async with reading(broker) as reader, anyio.create_task_group() as group:
        await reader.subscription.stop_fetching()
        with anyio.fail_after(5):
            group.start_soon(expect_nothing, reader)
            await asleep(broker)
            await reader.subscription.aclose()


async def expect_nothing(reader: Reader) -> None:
    """Wait for messages that do not come."""
    assert await reader.fetch(wait=LONG) == []


async def test_a_lease_that_runs_out_wakes_a_waiting_fetch() -> None:
    """The other reader need not be asked again for the message to arrive."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with reading(broker, lease_seconds=0.05) as slow, reading(broker, lease_seconds=0.05) as quick:
        await slow.fetch()
        with anyio.fail_after(5):
            assert await quick.values(wait=LONG) == [b"0"]


async def test_an_expired_lease_that_another_reader_notices_wakes_a_waiting_fetch() -> None:
    """Whoever sweeps first tells the others, whose own sleep may end later."""
    broker = MemoryBroker(clock=(clock := ManualClock()))
    async with (
        reading(broker, lease_seconds=10) as slow,
        reading(broker, lease_seconds=10) as quick,
        anyio.create_task_group() as group,
    ):
        received: list[bytes] = []

        async def fetch() -> None:
            received.extend(await quick.values(wait=LONG))

        fill(broker, 1)
        await slow.fetch()
        group.start_soon(fetch)
        await asleep(broker)
        clock.now += 10
        with anyio.fail_after(5):
            assert await slow.settle() == []
            await eventually(lambda: received == [b"0"], "it has the message")


async def test_a_release_wakes_a_waiting_fetch() -> None:
    """What one reader gives back, another gets at once."""
    broker = MemoryBroker(clock=ManualClock())
    fill(broker, 1)
    async with reading(broker) as one, reading(broker) as two, anyio.create_task_group() as group:
        p = positions(await one.fetch())

        async def release() -> None:
            await asleep(broker)
            await one.settle(released=p)

        group.start_soon(release)
        with anyio.fail_after(5):
            assert await two.values(wait=LONG) == [b"0"]


async def test_a_reader_that_goes_wakes_the_others() -> None:
    """What it had out is theirs at once."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with reading(broker) as one, reading(broker) as two, anyio.create_task_group() as group:
        await one.fetch()

        async def leave() -> None:
            await asleep(broker)
            await one.subscription.aclose()

        group.start_soon(leave)
        with anyio.fail_after(5):
            assert await two.values(wait=LONG) == [b"0"]


async def test_the_event_loop_runs_between_two_fetches() -> None:
    """A fetch that has something to bring lets other tasks run too: a busy topic must not stop the heartbeats."""
    broker = MemoryBroker()
    fill(broker, 10)
    turns = 0
    async with reading(broker) as reader, anyio.create_task_group() as group:

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.lowlevel.checkpoint()

        group.start_soon(count)
        for _ in range(10):
            await reader.fetch(1, wait=LONG)
        group.cancel_scope.cancel()
    assert turns >= 5


def test_a_broker_outlives_an_event_loop() -> None:
    """What was published and settled under one loop is there under the next, of either kind."""
    broker = MemoryBroker()
    fill(broker, 2)

    async def take_one() -> list[bytes]:
        async with reading(broker) as reader:
            messages = await reader.fetch(1)
            await reader.settle(beyond=positions(messages))
            return [message.raw for message in messages]

    assert anyio.run(take_one, backend="asyncio") == [b"0"]
    assert anyio.run(take_one, backend="trio") == [b"1"]
