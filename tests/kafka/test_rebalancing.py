"""Partitions come and go: what is let go of in time, what is not, and members that the group has given up."""

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from pythia_core import Settlement
from pythia_kafka.client import Client
from tests.kafka.driving import QUICK, MakeTopic, Member, Members, Publisher, committed
from tests.servers.kafka import KafkaServer
from tests.waiting import eventually


async def fetch_all(*members: Member) -> None:
    """Fetch for members until cancelled, as engines do, and forget what comes."""

    async def fetch(member: Member) -> None:
        while True:
            await member.fetch()

    async with anyio.create_task_group() as group:
        for member in members:
            group.start_soon(fetch, member)


async def test_what_is_let_go_of_is_committed_first(
    members: Members, make_topic: MakeTopic, publisher: Publisher, kafka_server: KafkaServer
) -> None:
    """The old member commits while the group waits for it, and the new one begins behind that: nothing comes twice."""
    topic = await make_topic(2)
    for partition in (0, 1):
        await publisher.publish(topic, 10, partition=partition)
    first = await members(topic)
    first.owner.drained = anyio.Event()
    await first.receive(20)
    async with anyio.create_task_group() as group:
        group.start_soon(fetch_all, first)
        second = await members(topic, assigned=False)
        await first.owner.draining.wait()
        for partition in (0, 1):
            assert await first.commit(10, partition=partition) == []
        first.owner.drained.set()
        await eventually(lambda: second.partitions and first.partitions, "both had a share", seconds=20)
        assert await second.fetch(wait=0.3) == []
        group.cancel_scope.cancel()
    assert {a.position for m in (first, second) for a in m.owner.assignments.values()} == {10}
    assert first.partitions | second.partitions == {0, 1}
    assert first.owner.told == ["assigned", "revoked", "assigned"]
    assert set(await committed(kafka_server.address, f"{topic}-workers")) == {0, 1}


async def test_an_owner_that_does_not_finish_is_not_waited_for(
    members: Members, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """It has half of the rebalance timeout. What it says later names an assignment that is over, and changes nothing."""
    topic = await make_topic()
    await publisher.publish(topic, 10)
    first = await members(topic, rebalance_timeout=4.0)
    first.owner.drained = anyio.Event()
    await first.receive(10)
    (partition,) = first.owner.assignments
    late = Settlement(partition, first.owner.assignments[partition].id, through=10)
    before = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(fetch_all, first)
        await members(topic, rebalance_timeout=4.0)
        await eventually(lambda: "revoked" in first.owner.told, "it was asked")
        assert first.owner.deadline - before < 2.0 + 3.5  # noticed by a heartbeat, each 2 s
        (refused,) = await first.settle(late)
        assert refused.positions is None
        group.cancel_scope.cancel()


async def test_a_late_completion_cannot_rewind_a_partition_that_came_back(
    members: Members, make_topic: MakeTopic, publisher: Publisher, kafka_server: KafkaServer
) -> None:
    """A-B-A: the client would commit anything for a partition that is ours now, whoever's it was meanwhile."""
    topic = await make_topic()
    await publisher.publish(topic, 10)
    first = await members(topic)
    await first.receive(10)
    (partition,) = first.owner.assignments
    old = first.owner.assignments[partition].id
    async with anyio.create_task_group() as group:
        group.start_soon(fetch_all, first)
        async with Member.join(topic, bootstrap_servers=kafka_server.address, assigned=False) as second:
            await eventually(
                lambda: second.owner.told and first.owner.told.count("assigned") == 2, "both had an answer"
            )
            owner = second if second.owner.assignments else first
            await owner.commit(8)
        await eventually(lambda: first.owner.told.count("assigned") == 3, "it came back", seconds=20)
        (refused,) = await first.settle(Settlement(partition, old, through=3))
        assert refused.assignment == old
        group.cancel_scope.cancel()
    assert await committed(kafka_server.address, f"{topic}-workers") == {0: (8, "")}


async def test_a_commit_carries_the_generation_it_was_read_under(
    members: Members, make_topic: MakeTopic, publisher: Publisher, kafka_server: KafkaServer
) -> None:
    """Also where the group moved on between the look at the assignment and the sending: the broker refuses it then."""
    topic = await make_topic()
    await publisher.publish(topic, 10)
    member = await members(topic)
    await member.receive(10)
    member.subscription._client._consumer._coordinator.generation -= 1
    member.subscription._generation -= 1
    (partition,) = member.owner.assignments
    (refused,) = await member.settle(Settlement(partition, member.owner.assignments[partition].id, through=5))
    assert refused.positions is None
    assert await committed(kafka_server.address, f"{topic}-workers") == {}


async def test_a_member_that_was_put_out_loses_its_partitions(
    members: Members, make_topic: MakeTopic, publisher: Publisher, kafka_server: KafkaServer
) -> None:
    """Its generation is -1 then, with which Kafka takes any offset from anybody: nothing is settled, all of it is lost."""
    topic = await make_topic()
    await publisher.publish(topic, 10)
    member = await members(topic)
    await member.receive(10)
    (partition,) = member.owner.assignments
    mine = Settlement(partition, member.owner.assignments[partition].id, through=7)
    coordinator = member.subscription._client._consumer._coordinator
    coordinator.reset_generation()
    (refused,) = await member.settle(mine)
    assert refused.positions is None
    async with anyio.create_task_group() as group:
        group.start_soon(fetch_all, member)
        await eventually(lambda: member.owner.told.count("assigned") == 2, "it was let in again", seconds=20)
        group.cancel_scope.cancel()
    assert member.owner.told == ["assigned", "lost", "assigned"]
    assert await committed(kafka_server.address, f"{topic}-workers") == {}


async def test_a_member_that_is_put_out_while_it_takes_over_is_let_in_again(
    members: Members, make_topic: MakeTopic, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was about to commit where it begins, the end: nothing fails, and it begins with the next assignment."""
    commit, put_out = Client.commit, 0

    async def late(client: Client, *arguments: Any) -> None:
        nonlocal put_out
        if not put_out:
            put_out += 1
            client._consumer._coordinator.reset_generation()
        await commit(client, *arguments)

    monkeypatch.setattr(Client, "commit", late)
    topic = await make_topic()
    await publisher.publish(topic, 4)
    member = await members(topic, offset_reset="latest")
    assert put_out == 1
    assert [assignment.position for assignment in member.owner.assignments.values()] == [4]
    assert await member.fetch() == []
    assert member.owner.told == ["assigned"]


async def test_an_empty_group_takes_nothing_from_a_member_that_left(
    members: Members, make_topic: MakeTopic, publisher: Publisher, kafka_server: KafkaServer
) -> None:
    """Of an empty group Kafka takes any offset under the generation -1, also an older one: it is not even asked."""
    topic = await make_topic()
    await publisher.publish(topic, 10)
    member = await members(topic)
    await member.receive(10)
    await member.commit(9)
    (partition,) = member.owner.assignments
    member.subscription._held[partition].committed = 0
    late = Settlement(partition, member.owner.assignments[partition].id, through=3)
    await member.subscription._client._consumer._coordinator._maybe_leave_group()
    (refused,) = await member.settle(late)
    assert refused.positions is None
    assert await committed(kafka_server.address, f"{topic}-workers") == {0: (9, "")}


async def test_a_fetch_never_waits_for_a_rebalance(
    members: Members, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """The client's own would wait as long as the slowest member drains, with whatever is stored for us unheard."""
    topic = await make_topic()
    first = await members(topic)
    first.owner.drained = anyio.Event()
    room = dict.fromkeys(first.owner.assignments, 10)
    async with anyio.create_task_group() as group:
        group.start_soon(fetch_all, first)
        await members(topic, assigned=False)
        await first.owner.draining.wait()
        group.cancel_scope.cancel()
    await publisher.publish(topic, 5)
    for _ in range(5):
        with anyio.fail_after(1.0):
            assert await first.chunks(room=room, wait=0.1) == ()
    first.owner.drained.set()


async def test_closing_does_not_wait_for_a_drain(
    kafka_server: KafkaServer, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's stop waits for our listener, which waits for the owner: a stop in a rebalance would never end."""
    monkeypatch.setattr("pythia_kafka.client.LEAVE_SECONDS", 60.0)
    topic = await make_topic()
    async with Member.join(topic, bootstrap_servers=kafka_server.address, rebalance_timeout=60.0) as first:
        first.owner.drained = anyio.Event()
        async with Member.join(topic, bootstrap_servers=kafka_server.address, assigned=False):
            await first.owner.draining.wait()
            began = anyio.current_time()
            await first.subscription.aclose()  # shielded, so that no deadline around it would end it
            assert anyio.current_time() - began < 10


async def test_leaving_tells_the_group(
    members: Members, make_topic: MakeTopic, kafka_server: KafkaServer
) -> None:
    """Whoever stops is not waited for until its session ends, not even where it was just joining."""
    topic = await make_topic()
    async with Member.join(topic, bootstrap_servers=kafka_server.address, session_timeout=45.0):
        pass
    with anyio.fail_after(5):
        member = await members(topic)
    assert member.partitions == {0}


async def test_new_partitions_are_read_from_their_start(
    members: Members,
    make_topic: MakeTopic,
    publisher: Publisher,
    admin: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was published before the group noticed them is not skipped."""
    topic = await make_topic()
    member = await members(topic)
    await admin.add_partitions(topic, 2)
    async with Publisher.connected(publisher.address) as later:
        await later.publish(topic, 3, partition=1)
    member.subscription._client._consumer._client.force_metadata_update()  # due each 30 s
    await member.fetch_until(lambda: member.partitions == {0, 1}, "the new one is ours")
    assert [message.id for message in await member.receive(3)] == [f"{topic}-1@{n}" for n in range(3)]


async def test_a_static_member_that_comes_back_moves_nothing(
    kafka_server: KafkaServer, make_topic: MakeTopic
) -> None:
    """Within its session: the others are not even asked to let go."""
    topic = await make_topic(2)
    options: Mapping[str, Any] = {"bootstrap_servers": kafka_server.address, **QUICK}
    async with Member.join(topic, **options) as other, anyio.create_task_group() as group:
        group.start_soon(fetch_all, other)
        async with Member.join(topic, group_instance_id="pod", **options) as pod:
            await eventually(lambda: len(other.partitions) == 1, "the other has a half", seconds=20)
            mine, told = pod.partitions, len(other.owner.told)
        async with Member.join(topic, group_instance_id="pod", **options) as pod:
            assert pod.partitions == mine
            assert len(other.owner.told) == told
        group.cancel_scope.cancel()


async def test_a_cut_stop_leaves_no_member_behind(
    kafka_server: KafkaServer, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that is cut short would leave a task that keeps our membership, and our partitions, for ever."""
    monkeypatch.setattr("pythia_kafka.client.LEAVE_SECONDS", 0.0)
    topic = await make_topic()
    async with Member.join(topic, bootstrap_servers=kafka_server.address, session_timeout=45.0) as first:
        client: Client = first.subscription._client
    coordinator = client._consumer._coordinator
    assert coordinator._coordination_task.done()
    assert coordinator._heartbeat_task.done()
    monkeypatch.undo()
    with anyio.fail_after(5):
        async with Member.join(topic, bootstrap_servers=kafka_server.address) as second:
            assert second.partitions == {0}
