"""How far groups have got: told by our admin and inspector, and the same by Kafka's own tool."""

from typing import Any

import anyio.to_thread
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from pythia_core import Backlog, NotOpenError, Start
from pythia_kafka import KafkaAdmin, KafkaConsumer
from pythia_kafka.topics import NotThere
from tests.kafka.driving import MakeTopic, Member, Members, Publisher
from tests.servers.kafka import KafkaServer


def inspector(server: KafkaServer, topic: str, **options: Any) -> Any:
    """Return an inspector of the group that members of a topic are in."""
    options = {"consumer_group": f"{topic}-workers", **options}
    source = KafkaConsumer(topic, bootstrap_servers=server.address, **options)
    return source.resolve(Start(worker="w")).inspect()


async def lag(server: KafkaServer, group: str) -> list[int]:
    """Return the lag of each partition by Kafka's own tool."""
    return [int(row["LAG"]) for row in await anyio.to_thread.run_sync(server.describe_group, group)]


async def test_what_is_not_committed_is_left(
    kafka_server: KafkaServer,
    make_topic: MakeTopic,
    publisher: Publisher,
    members: Members,
    admin: KafkaAdmin,
) -> None:
    """In all, by partition, and how old the oldest of it is."""
    topic = await make_topic(2)
    await publisher.publish(topic, 10)
    await publisher.publish(topic, 5, partition=1)
    member = await members(topic)
    await member.receive(15)
    await member.commit(4)
    await member.commit(5, partition=1)
    assert await admin.get_consumer_lag(f"{topic}-workers", topic) == 6
    assert await lag(kafka_server, f"{topic}-workers") == [6, 0]
    async with inspector(kafka_server, topic) as inspecting:
        backlog: Backlog = await inspecting.backlog()
    assert (backlog.waiting, backlog.at_least, backlog.in_flight) == (6, False, None)
    assert {str(p): b.waiting for p, b in backlog.by_partition.items()} == {f"{topic}-0": 6, f"{topic}-1": 0}
    assert backlog.oldest_age_seconds is not None
    assert 0 <= backlog.oldest_age_seconds < 60
    assert [b.oldest_age_seconds is None for b in backlog.by_partition.values()] == [False, True]


async def test_a_partition_without_a_commit_is_left_whole(
    make_topic: MakeTopic, publisher: Publisher, members: Members, admin: KafkaAdmin
) -> None:
    """From the first message that is there."""
    topic = await make_topic(2)
    await publisher.publish(topic, 3)
    await publisher.publish(topic, 4, partition=1)
    member = await members(topic)
    await member.receive(7)
    await member.commit(3)
    assert await admin.get_consumer_lag(f"{topic}-workers", topic) == 4


async def test_a_group_with_members_and_no_commit_is_known(
    make_topic: MakeTopic, publisher: Publisher, members: Members, admin: KafkaAdmin
) -> None:
    """It has everything to do."""
    topic = await make_topic()
    await publisher.publish(topic, 3)
    await members(topic)
    assert await admin.get_consumer_lag(f"{topic}-workers", topic) == 3


async def test_removed_messages_are_not_left(
    make_topic: MakeTopic, publisher: Publisher, members: Members, admin: KafkaAdmin
) -> None:
    """Nobody can do them any more; Kafka's own tool counts them."""
    topic = await make_topic()
    await publisher.publish(topic, 10)
    member = await members(topic)
    await member.receive(10)
    await member.commit(2)
    await admin._topics().delete_records({TopicPartition(topic, 0): 7})
    assert await admin.get_consumer_lag(f"{topic}-workers", topic) == 3


async def test_markers_of_transactions_are_not_left_behind(
    kafka_server: KafkaServer, make_topic: MakeTopic, admin: KafkaAdmin
) -> None:
    """They take offsets and are no messages: a group that has done everything has no lag, by Kafka's tool either."""
    topic = await make_topic()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_server.address, transactional_id=f"{topic}-t")
    await producer.start()
    for number in range(3):
        async with producer.transaction():
            await producer.send_and_wait(topic, b"%d" % number)
    await producer.stop()
    async with Member.join(topic, bootstrap_servers=kafka_server.address) as member:
        position: Any = 0
        for _ in range(50):
            for chunk in await member.chunks():
                position = chunk.position
        await member.commit(position)
    assert position == 6
    assert await admin.get_consumer_lag(f"{topic}-workers", topic) == 0
    assert await lag(kafka_server, f"{topic}-workers") == [0]


async def test_what_is_not_known_is_an_error(
    make_topic: MakeTopic, members: Members, admin: KafkaAdmin
) -> None:
    """Never a zero, which would look like a job well done."""
    topic = await make_topic()
    with pytest.raises(NotThere, match="no consumer group 'nobody'"):
        await admin.get_consumer_lag("nobody", topic)
    member = await members(topic)
    await member.commit(0)
    with pytest.raises(NotThere, match="no topic never-made"):
        await admin.get_consumer_lag(f"{topic}-workers", "never-made")


async def test_a_group_that_is_not_there_yet_has_everything_to_do(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """So that a fleet of none is scaled up; what it will begin at the end of is not known before."""
    topic = await make_topic()
    await publisher.publish(topic, 5)
    async with inspector(kafka_server, topic) as inspecting:
        assert (await inspecting.backlog()).waiting == 5
    async with inspector(kafka_server, topic, offset_reset="latest") as inspecting:
        assert await inspecting.backlog() == Backlog()


async def test_a_pattern_counts_what_it_matches(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher, admin: KafkaAdmin
) -> None:
    """And not its dead letters."""
    topic = await make_topic()
    await admin.create_topic(f"{topic}.dlq", partitions=1)
    async with Publisher.connected(kafka_server.address) as later:
        await later.publish(topic, 2)
        await later.publish(f"{topic}.dlq", 1)
    source = KafkaConsumer(
        pattern=f"{topic}.*", consumer_group=f"{topic}-p", bootstrap_servers=kafka_server.address
    )
    async with source.resolve(Start(worker="w")).inspect() as inspecting:
        assert (await inspecting.backlog()).waiting == 2


async def test_topics_are_made_and_removed(admin: KafkaAdmin) -> None:
    """As often as one likes; the broker's defaults are its own business."""
    await admin.create_topic("made", partitions=3)
    await admin.create_topic("made", partitions=5)
    await admin.add_partitions("made", 4)
    await admin.create_topic("made-2")
    topics = await admin.topics()
    assert (topics["made"], topics["made-2"]) == (4, 1)
    for name in ("made", "made-2"):
        await admin.delete_topic(name)
    with pytest.raises(NotThere):
        await admin.delete_topic("made")


async def test_an_admin_is_used_open() -> None:
    """It may be made anywhere, and says what to do."""
    with pytest.raises(NotOpenError, match="async with"):
        await KafkaAdmin().topics()
