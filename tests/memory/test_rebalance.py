"""Partitions come and go: eagerly, incrementally, not at all, and by force."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from pythia_core.brokers.memory import MemoryBroker
from pythia_core.brokers.memory.balance import balance
from pythia_core.contracts import Partition, Refused, Settlement
from tests.memory.reader import ManualClock, fill, reading, up_to
from tests.waiting import eventually

ACKS: list[dict[str, Any]] = [
    {"ack": "cumulative"},
    {"ack": "individual", "order_scope": "partition"},
    {"ack": "both", "order_scope": "partition"},
]
each_ack = pytest.mark.parametrize("ack", ACKS, ids=lambda ack: ack["ack"])


@each_ack
async def test_incremental_moves_only_what_must_move(ack: dict[str, Any]) -> None:
    """The first keeps half of its partitions, under the same assignments, and goes on reading them."""
    broker = MemoryBroker(partitions=4)
    async with reading(broker, rebalances="incremental", **ack) as one:
        ids = {partition: assignment.id for partition, assignment in one.owner.held.items()}
        async with reading(broker, rebalances="incremental", **ack) as two:
            assert two.partitions == []
            await one.fetch()
            assert one.owner.calls == [("assigned", [0, 1, 2, 3]), ("revoked", [2, 3])]
            assert (one.partitions, two.partitions) == ([0, 1], [2, 3])
            assert {partition: one.owner.held[partition].id for partition in (0, 1)} == {0: ids[0], 1: ids[1]}
            assert not {assignment.id for assignment in two.owner.held.values()} & set(ids.values())
        assert one.partitions == [0, 1, 2, 3]
        assert one.owner.names() == ["assigned", "revoked", "assigned"]


@each_ack
async def test_eager_moves_everything(ack: dict[str, Any]) -> None:
    """All members give up all they have, nobody has anything until all have done so, and every id is new."""
    broker = MemoryBroker(partitions=4)
    async with reading(broker, rebalances="eager", **ack) as one:
        async with reading(broker, rebalances="eager", **ack) as two:
            await one.fetch()
            assert one.owner.calls == [
                ("assigned", [0, 1, 2, 3]),
                ("revoked", [0, 1, 2, 3]),
                ("assigned", [0, 2]),
            ]
            async with reading(broker, rebalances="eager", **ack) as three:
                await one.fetch()
                assert (one.partitions, two.partitions, three.partitions) == ([], [1, 3], [])
                await two.fetch()
                assert [len(reader.partitions) for reader in (one, two, three)] == [2, 1, 1]
        ids = [assignment.id for reader in (one, two, three) for assignment in reader.owner.held.values()]
        assert len(set(ids)) == len(ids)


@each_ack
async def test_work_that_ends_within_the_revoke_is_not_repeated(ack: dict[str, Any]) -> None:
    """While the owner drains, settlements of the partitions it gives up are taken; the next reads on after them."""
    broker = MemoryBroker()
    fill(broker, 4)

    async def drain(partitions: Sequence[Partition]) -> None:
        assert await one.settle(**up_to(messages, ack["ack"])) == []

    async with (
        reading(broker, rebalances="eager", on_revoked=drain, **ack) as one,
    ):
        messages = await one.fetch(3)
        async with reading(broker, rebalances="eager", **ack) as two:
            assert await one.values() + await two.values() == [b"3"]


@each_ack
async def test_work_that_does_not_end_is_repeated_and_its_late_word_refused(ack: dict[str, Any]) -> None:
    """What is settled after the revoke was settled for another owner, or for nobody."""
    broker = MemoryBroker(partitions=2)
    fill(broker, 2, partition=0)
    fill(broker, 2, partition=1)
    async with reading(broker, rebalances="incremental", **ack) as one:
        messages = [message for message in await one.fetch() if message.partition == 1]
        id = one.owner.held[1].id
        late = Settlement(1, id, **up_to(messages, ack["ack"]))
        async with reading(broker, rebalances="incremental", **ack) as two:
            await one.fetch()
            assert await one.subscription.settle([late]) == [Refused(1, id, None)]
            assert await two.values() == [b"0", b"1"]
            assert await one.subscription.settle([late]) == [Refused(1, id, None)]


async def test_without_rebalances_partitions_stay_where_they_are() -> None:
    """A second member stands by and takes over when the first one goes."""
    broker = MemoryBroker(partitions=2)
    async with reading(broker, ack="cumulative") as two:
        async with reading(broker, ack="cumulative", consumer_group="other"):
            pass
        async with reading(broker, ack="cumulative") as one:
            await two.fetch()
            assert (two.partitions, one.partitions) == ([0, 1], [])
            await two.subscription.aclose()
            assert one.partitions == [0, 1]
            assert one.owner.names() == ["assigned"]


async def test_the_owner_is_told_how_long_it_has() -> None:
    """The deadline is on the event loop's clock, and a little before the member is expired."""
    broker = MemoryBroker()
    async with reading(broker, ack="cumulative", rebalances="eager", revoke_seconds=20) as one:
        async with reading(broker, ack="cumulative", rebalances="eager", revoke_seconds=20):
            start = anyio.current_time()
            await one.fetch()
        assert start + 17 < one.owner.deadlines[0] < anyio.current_time() + 20


@pytest.mark.parametrize("ack", [ACKS[0], {**ACKS[1], "lease_seconds": 1000.0}], ids=["log", "leases"])
async def test_a_member_that_does_not_fetch_is_expired_after_revoke_seconds(ack: dict[str, Any]) -> None:
    """A waiting joiner gets the partitions as soon as they are due; the other joins again at its next fetch."""
    broker = MemoryBroker()
    fill(broker, 1)
    settings: dict[str, Any] = {"rebalances": "eager", "revoke_seconds": 0.1, **ack}
    async with reading(broker, **settings) as wedged:
        await wedged.fetch()
        async with reading(broker, **settings) as joiner:
            with anyio.fail_after(5):
                assert await joiner.fetch(wait=30.0) == []
            assert joiner.partitions == [0]
            assert wedged.owner.names() == ["assigned", "lost"]
            assert wedged.member not in broker.members("orders")
            await wedged.fetch()
            assert wedged.member in broker.members("orders")


async def test_a_waiting_fetch_returns_when_what_is_held_has_changed() -> None:
    """The room it was given knows nothing of the new partition, so waiting on would leave it unread."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with (
        reading(broker, ack="cumulative") as one,
        reading(broker, ack="cumulative") as two,
        anyio.create_task_group() as group,
    ):

        async def leave() -> None:
            await eventually(lambda: broker.topic("orders").sleepers, "a fetch waits")
            await one.subscription.aclose()

        group.start_soon(leave)
        with anyio.fail_after(5):
            assert await two.fetch(wait=30.0) == []
            assert await two.values(wait=30.0) == [b"0"]


async def test_what_was_assigned_after_an_expiry_is_not_given_up_by_an_older_revoke() -> None:
    """A drain that outlives its session ends in nothing: the partition it was about has been assigned anew."""
    broker = MemoryBroker()
    drained = anyio.Event()
    async with (
        anyio.create_task_group() as group,
        reading(broker, ack="cumulative", on_revoked=lambda _: drained.wait()) as one,
    ):
        group.start_soon(broker.revoke, one.member)
        await eventually(lambda: "revoked" in one.owner.names(), "it drains")
        broker.expire(one.member)
        await one.fetch()
        id = one.member.held[0]
        drained.set()
        await anyio.wait_all_tasks_blocked()
        assert one.member.held == {0: id}


async def test_an_owner_that_drains_too_long_is_expired() -> None:
    """Others get its partitions though it is still in ``revoked``; when it comes back it has lost them."""
    broker = MemoryBroker(clock=(clock := ManualClock()))
    release = anyio.Event()
    settings: dict[str, Any] = {"ack": "cumulative", "rebalances": "eager", "revoke_seconds": 5}
    async with (
        anyio.create_task_group() as group,
        reading(broker, on_revoked=lambda _: release.wait(), **settings) as slow,
        reading(broker, **settings) as joiner,
    ):
        group.start_soon(slow.serve, [])
        await eventually(lambda: "revoked" in slow.owner.names(), "the slow one drains")
        clock.now += 5
        await joiner.fetch()
        assert joiner.partitions == [0]
        assert slow.owner.names() == ["assigned", "revoked", "lost"]
        release.set()
        await eventually(lambda: slow.member in broker.members("orders"), "it joins again")
        assert joiner.partitions == [0]
        group.cancel_scope.cancel()


@each_ack
@pytest.mark.parametrize("rebalances", [None, "eager", "incremental"])
async def test_an_expired_member_loses_everything_and_joins_again(
    ack: dict[str, Any], rebalances: str | None
) -> None:
    """It is told at once, nothing of it is settled, and the same subscription is assigned anew at its next fetch."""
    broker = MemoryBroker(partitions=2)
    fill(broker, 4)
    async with reading(broker, rebalances=rebalances, **ack) as reader:
        assert len(await reader.fetch()) == 4
        broker.expire(reader.member)
        assert reader.owner.calls[-1] == ("lost", [0, 1])
        assert broker.members("orders") == ()
        await reader.fetch()
        assert len(await reader.fetch()) == 4 or len(broker.pending("orders")) == 4
        assert reader.owner.names() == ["assigned", "lost", "assigned"]


async def test_a_member_of_a_queue_can_be_expired_too() -> None:
    """What it had out goes to others and counts as failed."""
    broker = MemoryBroker()
    fill(broker, 1)
    async with reading(broker) as one, reading(broker) as two:
        await one.fetch()
        broker.expire(one.member)
        (message,) = await two.fetch()
        assert message.deliveries == 2
        await one.fetch()
        assert one.owner.names() == ["assigned", "lost", "assigned"]


@each_ack
async def test_a_partition_can_come_back_before_its_drain_has_ended(ack: dict[str, Any]) -> None:
    """It is revoked to the end and then assigned again, to the same member, under a new id."""
    broker = MemoryBroker(partitions=2)
    fill(broker, 2, partition=1)
    drained = anyio.Event()

    async def drain(_: Any) -> None:
        await drained.wait()

    async with (
        anyio.create_task_group() as group,
        reading(broker, rebalances="incremental", on_revoked=drain, **ack) as one,
    ):
        old = one.owner.held[1].id
        async with reading(broker, rebalances="incremental", **ack):
            received: list[bytes] = []
            group.start_soon(one.serve, received)
            await eventually(lambda: "revoked" in one.owner.names(), "it drains")
        drained.set()
        await eventually(lambda: one.owner.calls[2:] == [("assigned", [1])], "it has it back")
        assert one.owner.held[1].id != old
        await eventually(lambda: received == [b"0", b"1"], "it reads on")
        group.cancel_scope.cancel()


async def test_a_test_can_revoke_by_hand_also_during_a_stop() -> None:
    """``broker.revoke`` runs in the test's task, so it works though the member fetches no more."""
    broker = MemoryBroker(partitions=2)
    async with reading(broker, ack="cumulative", rebalances="incremental") as one:
        await one.subscription.stop_fetching()
        old = one.owner.held[1].id
        await broker.revoke(one.member, 1)
        assert one.owner.calls[1:] == [("revoked", [1]), ("assigned", [1])]
        assert one.owner.held[1].id != old


async def test_a_rebalance_goes_on_during_a_stop() -> None:
    """A member that fetches with nothing to bring still gives up what it is asked for."""
    broker = MemoryBroker(partitions=2)
    async with reading(broker, ack="cumulative", rebalances="incremental") as one:
        await one.subscription.stop_fetching()
        async with reading(broker, ack="cumulative", rebalances="incremental") as two:
            await one.fetch()
            assert two.partitions == [1]


async def test_partitions_that_are_asked_back_bring_nothing() -> None:
    """Between being asked and giving up, nothing more is delivered of a partition that is about to go."""
    broker = MemoryBroker(partitions=2)
    drained = anyio.Event()
    async with (
        anyio.create_task_group() as group,
        reading(broker, ack="cumulative", on_revoked=lambda _: drained.wait()) as one,
    ):
        group.start_soon(broker.revoke, one.member, 1)
        await eventually(lambda: "revoked" in one.owner.names(), "it drains")
        fill(broker, 1, partition=0)
        fill(broker, 1, partition=1)
        assert [message.partition for message in await one.fetch()] == [0]
        drained.set()


async def test_added_partitions_are_read_from_the_start() -> None:
    """A topic that grows is shared out again; the new partition loses nothing."""
    broker = MemoryBroker(partitions=1)
    async with reading(broker, ack="cumulative", rebalances="incremental") as reader:
        broker.topic("orders", 2)
        fill(broker, 2, partition=1)
        assert reader.partitions == [0, 1]
        assert await reader.values() == [b"0", b"1"]


@pytest.mark.parametrize("rebalances", ["eager", "incremental"])
@each_ack
async def test_a_storm_of_rebalances_loses_nothing(ack: dict[str, Any], rebalances: str) -> None:
    """Members come and go fifty times while one stays, and that one has everything in the end."""
    broker = MemoryBroker(partitions=4)
    received: list[bytes] = []
    async with (
        anyio.create_task_group() as group,
        reading(broker, rebalances=rebalances, **ack) as steady,
    ):
        group.start_soon(steady.serve, received)
        for number in range(50):
            async with reading(broker, rebalances=rebalances, **ack) as guest:
                broker.publish("orders", b"%d" % number)
                await guest.fetch(wait=0.002)
        await eventually(lambda: len(steady.partitions) == 4, "it has all partitions")
        await eventually(lambda: not broker.waiting("orders"), "nothing waits")
        assert {int(body) for body in received} == set(range(50))
        assert not any(name == "lost" for name in steady.owner.names())
        group.cancel_scope.cancel()


def test_balance_moves_as_little_as_possible() -> None:
    """Shares differ by one at most, nobody who has no more than a share loses any, and without ``move`` nobody does."""
    held: dict[str, set[Partition]] = {"a": {0, 1, 2, 3, 4}, "b": {5}, "c": set()}
    assert balance(range(7), held, move=True) == {"a": {0, 1, 2}, "b": {5, 4}, "c": {3, 6}}
    assert balance(range(7), held, move=False) == {"a": {0, 1, 2, 3, 4}, "b": {5}, "c": {6}}
    assert balance(range(3), {}, move=True) == {}
