"""A subscription by itself: what it hands over, what it commits, and what it refuses."""

import logging
from typing import Any

import anyio
import pytest
from aiokafka.structs import TopicPartition

from pythia_core import Settlement, SubscriptionLost
from pythia_kafka import KafkaAdmin
from pythia_kafka.message import Partition
from tests.kafka.driving import MakeTopic, Member, Members, Publisher, committed
from tests.servers.kafka import KafkaServer
from tests.waiting import eventually


async def test_messages_come_with_all_that_belongs_to_them(
    members: Members, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """Body, key, headers in their order, time, partition and offset."""
    topic = await make_topic()
    await publisher.producer.send_and_wait(
        topic, b'{"n": 1}', key=b"k", headers=[("a", b"1"), ("a", b"2"), ("b", None), ("c", b"\xff")]
    )
    member = await members(topic)
    (message,) = await member.receive()
    assert (message.raw, message.key) == (b'{"n": 1}', "k")
    assert message.headers.items_all() == (("a", "1"), ("a", "2"), ("b", None), ("c", b"\xff"))
    assert (str(message.partition), message.position, message.id) == (f"{topic}-0", 0, f"{topic}-0@0")
    assert message.timestamp is not None
    assert message.deliveries is None


async def test_a_group_reads_on_where_it_committed(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """What was committed does not come again, what was only handed over does; the text beside it is kept."""
    topic = await make_topic()
    await publisher.publish(topic, 10)
    async with Member.join(topic, bootstrap_servers=kafka_server.address) as member:
        await member.receive(7)
        assert await member.commit(4, note="done: 6") == []
    assert await committed(kafka_server.address, f"{topic}-workers") == {0: (4, "done: 6")}
    async with Member.join(topic, bootstrap_servers=kafka_server.address) as member:
        (assignment,) = member.owner.assignments.values()
        assert (assignment.position, assignment.note) == (4, "done: 6")
        assert [message.position for message in await member.receive(6)] == [4, 5, 6, 7, 8, 9]


async def test_a_note_alone_is_committed_too(
    members: Members, make_topic: MakeTopic, publisher: Publisher, kafka_server: KafkaServer
) -> None:
    """It stands beside the committed offset, which does not move."""
    topic = await make_topic()
    await publisher.publish(topic, 3)
    member = await members(topic)
    await member.receive(3)
    (partition,) = member.owner.assignments
    await member.commit(2)
    await member.settle(Settlement(partition, member.owner.assignments[partition].id, note="opened"))
    assert await committed(kafka_server.address, f"{topic}-workers") == {0: (2, "opened")}


async def test_a_note_that_the_broker_finds_too_long_is_left_out(
    members: Members, make_topic: MakeTopic, publisher: Publisher, kafka_server: KafkaServer
) -> None:
    """Better an offset without a note than none: brokers may be set to less than 4,096 characters."""
    topic = await make_topic()
    await publisher.publish(topic, 3)
    member = await members(topic)
    await member.receive(3)
    assert await member.commit(3, note="x" * 5_000) == []
    assert await committed(kafka_server.address, f"{topic}-workers") == {0: (3, "")}


async def test_only_partitions_with_room_are_asked(
    members: Members, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """What is left out loses nothing and holds up nobody, and an empty room asks for nothing (getmany() means all)."""
    topic = await make_topic(2)
    for partition in (0, 1):
        await publisher.publish(topic, 20, partition=partition)
    member = await members(topic)
    first, second = sorted(member.owner.assignments, key=str)
    assert await member.chunks(room={}, wait=0.2) == ()
    with anyio.fail_after(10):
        found: list[int] = []
        while len(found) < 20:
            for chunk in await member.chunks(room={second: 3}):
                assert chunk.partition == second
                assert len(chunk.messages) <= 3
                found += [message.position for message in chunk.messages]
    assert found == list(range(20))
    assert [message.position for message in await member.receive(20)] == list(range(20))
    assert {first, second} == set(member.owner.assignments)


async def test_partitions_are_read_in_the_order_of_the_room(
    members: Members, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """The engine puts first what has waited longest; the client's own order would read one partition empty first."""
    topic = await make_topic(3)
    for partition in range(3):
        await publisher.publish(topic, 30, partition=partition)
    member = await members(topic)
    await eventually(lambda: len(member.subscription._client.ready()) == 3, "all had something")
    for order in ((2, 0, 1), (1, 2, 0), (0, 1, 2)):
        room: dict[Any, int] = {Partition(topic, number): 5 for number in order}
        chunks = await member.chunks(10, room=room)
        assert [chunk.partition for chunk in chunks] == list(room)[:2]


async def test_the_limit_is_kept_over_all_partitions(
    members: Members, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """However many have something."""
    topic = await make_topic(3)
    for partition in range(3):
        await publisher.publish(topic, 20, partition=partition)
    member = await members(topic)
    await eventually(lambda: len(member.subscription._client.ready()) == 3, "all had something")
    assert len(await member.fetch(50)) == 50


async def test_it_is_known_whether_more_is_coming(
    members: Members, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """As long as the broker had more in any partition than was handed over, when it last answered."""
    topic = await make_topic(2)
    for partition in (0, 1):
        await publisher.publish(topic, 3, partition=partition)
    member = await members(topic)
    told = [member.subscription.more_is_coming]
    for count in (4, 2):
        await member.receive(count)
        told.append(member.subscription.more_is_coming)
    assert told == [False, True, False]


async def test_a_partition_is_asked_for_more_while_another_waits_to_be_taken(
    members: Members, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """As long as there is known to be more: a request that finds nothing would keep the others waiting."""
    topic = await make_topic(2)
    for partition in (0, 1):
        for start in range(0, 200, 10):  # a batch is sent whole
            await publisher.publish(topic, 10, start=start, partition=partition)
    member = await members(topic, max_partition_fetch_bytes=1_000)
    fetcher = member.subscription._client._consumer._fetcher
    first, other = (Partition(topic, number) for number in (0, 1))
    await eventually(lambda: set(fetcher._records) == {first, other}, "something of both had come")
    fetcher._prefetch_backoff = 60.0  # how long the client by itself would wait for the other
    for answer in fetcher._records.values():
        answer._backoff = 60.0
    found: list[int] = []
    with anyio.fail_after(20):
        while len(found) < 200:
            chunks = await member.chunks(room={first: 500})
            found += [message.position for chunk in chunks for message in chunk.messages]
    assert found == list(range(200))
    assert [answer._backoff for answer in fetcher._records.values()] == [60.0]


async def test_a_partition_is_asked_for_more_as_soon_as_another_has_answered(
    members: Members, make_topic: MakeTopic, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ran dry while the broker was occupied; what the other has got must not be taken first."""
    topic = await make_topic(2)
    for partition in (0, 1):
        for start in range(0, 60, 10):
            await publisher.publish(topic, 10, start=start, partition=partition)
    member = await members(topic, max_partition_fetch_bytes=1_000)
    fetcher = member.subscription._client._consumer._fetcher
    first, other = (Partition(topic, number) for number in (0, 1))
    await eventually(lambda: set(fetcher._records) == {first, other}, "something of both had come")
    fetcher._prefetch_backoff = 60.0
    for answer in fetcher._records.values():
        answer._backoff = 60.0
    ask, gate = fetcher._proc_fetch_request, anyio.Event()

    async def ask_later(*args: Any) -> Any:
        await gate.wait()
        return await ask(*args)

    monkeypatch.setattr(fetcher, "_proc_fetch_request", ask_later)
    await member.chunks(room={first: 500})
    await eventually(lambda: fetcher._in_flight, "the broker was to be asked for the first")
    await member.chunks(room={other: 500})
    gate.set()
    await eventually(lambda: set(fetcher._records) == {first}, "it had answered for that alone")
    await member.chunks(room={first: 1})
    await eventually(lambda: set(fetcher._records) == {first, other}, "it was asked for the other")


async def test_a_broker_that_was_taken_for_occupied_is_asked_soon(
    members: Members, make_topic: MakeTopic, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's task looked around in the very turn in which a request ended, asked nobody, and went to sleep."""
    topic = await make_topic()
    await publisher.publish(topic, 1)
    member = await members(topic)
    fetcher = member.subscription._client._consumer._fetcher
    await eventually(lambda: fetcher._records and not fetcher._in_flight, "it had come")
    look, blind = fetcher._get_actions_per_node, True

    def look_in_vain_once(assignment: Any) -> Any:
        nonlocal blind
        if not blind or fetcher._records:
            return look(assignment)
        blind = False
        return [], {}, 60.0, False, []

    monkeypatch.setattr(fetcher, "_get_actions_per_node", look_in_vain_once)
    assert len(await member.fetch()) == 1
    assert await member.fetch() == []  # nor anything left of the answer
    await eventually(lambda: not blind, "it had looked around")
    await publisher.publish(topic, 1)
    await member.receive(1)


async def test_the_bytes_of_an_answer_are_at_hand_for_its_checksums(
    members: Members, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """As long as some of it is left, and no longer; of each partition, its own."""
    pytest.importorskip("google_crc32c")
    topic = await make_topic(2)
    for partition in (0, 1):
        await publisher.publish(topic, 3, partition=partition)
    member = await members(topic)
    fetcher = member.subscription._client._consumer._fetcher
    await eventually(lambda: len(fetcher._records) == 2, "both had come")
    for partition in fetcher._records:
        await member.chunks(1, room={Partition(*partition): 1})
    sent = [answer._partition_records._sent for answer in fetcher._records.values()]
    assert all(sent)
    assert len({id(each) for each in sent}) == 2
    assert member.subscription._client._sent._records == {}


async def test_settlements_of_another_assignment_are_refused(
    members: Members, make_topic: MakeTopic, publisher: Publisher, kafka_server: KafkaServer
) -> None:
    """An assignment is the fence: nothing that was read under another one is committed."""
    topic = await make_topic()
    await publisher.publish(topic, 3)
    member = await members(topic)
    await member.receive(3)
    (partition,) = member.owner.assignments
    (refused,) = await member.settle(Settlement(partition, "another", through=3))
    assert refused.positions is None
    assert await committed(kafka_server.address, f"{topic}-workers") == {}


async def test_a_committed_offset_never_goes_back(
    members: Members, make_topic: MakeTopic, publisher: Publisher, kafka_server: KafkaServer
) -> None:
    """Not even if that is asked for, under the same assignment."""
    topic = await make_topic()
    await publisher.publish(topic, 3)
    member = await members(topic)
    await member.receive(3)
    await member.commit(3)
    assert await member.commit(1) == []
    assert await committed(kafka_server.address, f"{topic}-workers") == {0: (3, "")}


async def test_nothing_comes_after_a_stop(
    members: Members, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """A fetch that waits ends soon, with nothing; the member stays one and may commit."""
    topic = await make_topic()
    member = await members(topic)
    results: list[int] = []

    async def fetch() -> None:
        results.append(len(await member.fetch(wait=0.5)))

    async with anyio.create_task_group() as group:
        group.start_soon(fetch)
        await eventually(lambda: member.subscription._client._waiter is not None, "it waited")
        await member.subscription.stop_fetching()
        await publisher.publish(topic, 5)
    assert results == [0]
    for _ in range(5):
        assert await member.fetch() == []
    assert await member.commit(0) == []


async def test_several_topics_are_read_by_one_member(
    members: Members, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """Each partition of each is its own."""
    first, second = await make_topic(2), await make_topic()
    await publisher.publish(first, 4, partition=1)
    await publisher.publish(second, 3)
    member = await members(None, topics=(first, second), consumer_group=f"{first}-several")
    assert {str(partition) for partition in member.owner.assignments} == {
        f"{first}-0",
        f"{first}-1",
        f"{second}-0",
    }
    assert {message.id for message in await member.receive(7)} == {
        *(f"{first}-1@{n}" for n in range(4)),
        *(f"{second}-0@{n}" for n in range(3)),
    }


async def test_a_pattern_never_matches_dead_letters(
    members: Members, make_topic: MakeTopic, admin: KafkaAdmin, publisher: Publisher
) -> None:
    """Whole names match, and what was dead-lettered is not read as if it were new."""
    topic = await make_topic()
    for suffix in (".dlq", ".x", ".x.dlq"):
        await admin.create_topic(topic + suffix, partitions=1)
    member = await members(None, pattern=rf"{topic}.*", consumer_group=f"{topic}-pattern")
    await eventually(lambda: len(member.owner.assignments) == 2, "both were assigned")
    assert {str(partition) for partition in member.owner.assignments} == {f"{topic}-0", f"{topic}.x-0"}


async def test_a_topic_that_is_not_there_ends_the_start(members: Members) -> None:
    """With an error that names it; the client itself would wait for it, or make it."""
    with pytest.raises(SubscriptionLost, match="has no topic never-made"):
        await members("never-made")


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "sticky"])
async def test_every_strategy_shares_the_partitions_out(
    members: Members, make_topic: MakeTopic, strategy: str
) -> None:
    """Two members in one process; the client's sticky one would keep what both know in one place."""
    topic = await make_topic(4)
    first = await members(topic, partition_assignment_strategy=strategy)
    second = await members(topic, partition_assignment_strategy=strategy)
    await eventually(
        lambda: len(first.partitions) == len(second.partitions) == 2, "each had a half", seconds=20
    )
    assert first.partitions | second.partitions == {0, 1, 2, 3}


async def test_a_latest_group_begins_at_the_end_once(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher, admin: KafkaAdmin
) -> None:
    """What is published after its first start is never skipped: not behind a restart, nor in a partition added later."""
    topic = await make_topic(2)
    await publisher.publish(topic, 5)
    options = {"bootstrap_servers": kafka_server.address, "offset_reset": "latest"}
    async with Member.join(topic, **options) as member:
        assert await member.fetch(wait=0.3) == []
    await publisher.publish(topic, 2, start=5)
    await publisher.publish(topic, 1, start=7, partition=1)
    await admin.add_partitions(topic, 3)
    async with Publisher.connected(kafka_server.address) as later:
        await later.publish(topic, 1, start=8, partition=2)
    async with Member.join(topic, **options) as member:
        found = {message.id for message in await member.receive(4)}
    assert found == {f"{topic}-0@5", f"{topic}-0@6", f"{topic}-1@0", f"{topic}-2@0"}


@pytest.mark.parametrize(("reset", "first"), [("earliest", 4), ("latest", 6)])
async def test_every_reset_is_counted_and_logged_with_its_range(
    kafka_server: KafkaServer,
    make_topic: MakeTopic,
    publisher: Publisher,
    admin: KafkaAdmin,
    caplog: pytest.LogCaptureFixture,
    reset: str,
    first: int,
) -> None:
    """A group that has committed nothing is told where it begins, once for each partition; one that has is not."""
    topic = await make_topic(2)
    await publisher.publish(topic, 6)
    await admin._topics().delete_records({TopicPartition(topic, 0): 4})
    options = {"bootstrap_servers": kafka_server.address, "offset_reset": reset}
    with caplog.at_level(logging.INFO, "pythia.kafka"):
        async with Member.join(topic, **options) as member:
            assert member.owner.resets == 2
            for partition in (0, 1):
                await member.commit(first if partition == 0 else 0, partition=partition)
        said = f"{topic}-0: group {topic}-workers has committed nothing, beginning at {first} of 4 to 6"
        assert said in caplog.text
        async with Member.join(topic, **options) as member:
            assert member.owner.resets == 0
    assert caplog.text.count("has committed nothing") == 2


async def test_a_group_that_must_not_guess_fails(members: Members, make_topic: MakeTopic) -> None:
    """With the policy `fail`, nothing committed is an error that says what to do."""
    topic = await make_topic()
    member = await members(topic, offset_reset="fail", assigned=False)
    with pytest.raises(SubscriptionLost, match=r"has committed nothing of .*'earliest' or 'latest'"):
        await member.fetch_until(lambda: False, "it failed")
