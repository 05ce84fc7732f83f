"""What lies in partitions besides plain messages, and what is not there any more."""

import logging
from typing import Any

import anyio
import anyio.to_thread
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from pythia_core import Message, SubscriptionLost
from pythia_kafka import KafkaAdmin, KafkaProducer
from tests.kafka.driving import MakeTopic, Member, Members, Publisher, committed, read
from tests.kafka.engines import ends, make_engine, running
from tests.servers.fixtures import OwnKafka
from tests.servers.kafka import KafkaServer
from tests.waiting import eventually


async def test_aborted_transactions_are_left_out_and_passed(
    kafka_server: KafkaServer, make_topic: MakeTopic, admin: KafkaAdmin
) -> None:
    """What was aborted is never handed over, and the position goes past it and past the markers.

    So does what the engine commits, behind the last message too: neither the admin nor Kafka's own tool sees a lag.
    """
    topic = await make_topic()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_server.address, transactional_id=f"{topic}-t")
    await producer.start()
    for number in range(4):
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"%d" % number)
        await (producer.abort_transaction() if number % 2 else producer.commit_transaction())
    await producer.stop()
    async with Member.join(topic, bootstrap_servers=kafka_server.address) as member:
        bodies, positions = [], [0]
        with anyio.fail_after(15):
            while positions[-1] < 8:
                for chunk in await member.chunks():
                    bodies += [message.raw for message in chunk.messages]
                    positions.append(chunk.position or 0)
        assert bodies == [b"0", b"2"]
    done: list[bytes] = []

    async def work(message: Message[Any]) -> None:
        done.append(message.raw)

    async with running(make_engine(kafka_server.address, topic, work)):
        with anyio.fail_after(30):
            while await ends(kafka_server.address, topic) != {0: 8}:  # noqa: ASYNC110 - the broker is asked
                await anyio.sleep(0.05)
    assert done == [b"0", b"2"]
    assert await admin.get_consumer_lag(f"{topic}-workers", topic) == 0
    (row,) = await anyio.to_thread.run_sync(kafka_server.describe_group, f"{topic}-workers")
    assert row["LAG"] == "0"
    async with Member.join(
        topic,
        bootstrap_servers=kafka_server.address,
        isolation_level="read_uncommitted",
        consumer_group=f"{topic}-x",
    ) as member:
        assert [message.raw for message in await member.receive(4)] == [b"0", b"1", b"2", b"3"]


async def test_a_compacted_topic_has_gaps(
    kafka_server: KafkaServer, make_topic: MakeTopic, publisher: Publisher
) -> None:
    """Offsets jump; what is handed over is what is there, in order, tombstones included."""
    topic = await make_topic(
        cleanup_policy="compact",
        segment_ms="100",
        min_cleanable_dirty_ratio="0.01",
        max_compaction_lag_ms="100",
    )
    for number in range(20):
        await publisher.producer.send_and_wait(topic, b'{"n": %d}' % number, key=b"same", partition=0)
    await anyio.sleep(0.2)  # for the segment's age, which is counted by records' times
    await publisher.producer.send_and_wait(topic, None, key=b"gone", partition=0)
    found: list[Message[Any]] = []
    positions: list[int] = []
    with anyio.fail_after(60):
        while len(positions) != 2:  # the cleaner runs each 15 s
            async with Member.join(topic, bootstrap_servers=kafka_server.address) as member:
                found = await member.fetch(wait=0.3) + await member.fetch(wait=0.3)
                positions = [message.position for message in found]
            await anyio.sleep(1)
    assert positions == [19, 20]
    assert found[1].raw == b""


@pytest.mark.parametrize("reset", ["earliest", "latest"])
async def test_what_was_removed_unread_is_told_and_passed(
    members: Members,
    make_topic: MakeTopic,
    publisher: Publisher,
    admin: KafkaAdmin,
    caplog: pytest.LogCaptureFixture,
    reset: str,
) -> None:
    """DeleteRecords or retention beyond the committed offset: go on with the first that is there, by every policy."""
    topic = await make_topic()
    await publisher.publish(topic, 10)
    async with Member.join(topic, bootstrap_servers=publisher.address) as member:
        await member.receive(10)
        await member.commit(2)
    await admin._topics().delete_records({TopicPartition(topic, 0): 6})
    with caplog.at_level(logging.ERROR, "pythia.kafka"):
        member = await members(topic, offset_reset=reset)
        assert [message.position for message in await member.receive(4)] == [6, 7, 8, 9]
    assert f"{topic}-0: offset 2 is not there, only 6 to 10: 4 message(s)" in caplog.text
    assert member.owner.resets == 1
    assert member.owner.told == ["assigned", "lost", "assigned"]
    assert await member.commit(10) == []
    assert await committed(publisher.address, f"{topic}-workers") == {0: (10, "")}


async def test_what_was_removed_ends_it_where_that_is_wanted(
    members: Members, make_topic: MakeTopic, publisher: Publisher, admin: KafkaAdmin
) -> None:
    """With `fail` nothing is passed."""
    topic = await make_topic()
    await publisher.publish(topic, 10)
    async with Member.join(topic, bootstrap_servers=publisher.address) as member:
        await member.commit(2)
    await admin._topics().delete_records({TopicPartition(topic, 0): 6})
    member = await members(topic, offset_reset="fail")
    with pytest.raises(SubscriptionLost, match="offset 2 is not there"):
        await member.fetch_until(lambda: False, "it failed")


async def test_a_topic_made_anew_is_read_from_its_start(
    members: Members, make_topic: MakeTopic, publisher: Publisher, admin: KafkaAdmin
) -> None:
    """While it is gone the subscription ends, and cannot begin again; the new one's first message is not skipped."""
    topic = await make_topic()
    await publisher.publish(topic, 10)
    member = await members(topic)
    await member.receive(10)
    await member.commit(10)
    await admin.delete_topic(topic)
    member.subscription._client._consumer._client.force_metadata_update()  # due each 30 s
    with pytest.raises(SubscriptionLost, match="has not been there"):
        await member.fetch_until(lambda: False, "it was noticed")
    await member.subscription.aclose()
    with pytest.raises(SubscriptionLost, match="has no topic"):
        await members(topic)
    await admin.create_topic(topic, partitions=1)
    async with Publisher.connected(publisher.address) as later:
        await later.publish(topic, 12)
    again = await members(topic)
    assert [message.position for message in await again.receive(12)] == list(range(12))


async def test_a_record_larger_than_a_fetch_comes_alone(members: Members, make_topic: MakeTopic) -> None:
    """It is for the engine to refuse it, by its own limit; the partition does not stand still."""
    topic = await make_topic(max_message_bytes="5000000")
    options: dict[str, Any] = {"max_request_size": 5 << 20}
    member = await members(topic, max_partition_fetch_bytes=10_000)
    async with Publisher.connected(member.source.bootstrap_servers or "", **options) as large:
        await large.producer.send_and_wait(topic, b"x" * 3_000_000)
        await large.producer.send_and_wait(topic, b"y")
    assert [message.size for message in await member.receive(2)] == [3_000_000, 1]


async def test_a_corrupt_record_is_never_passed_in_silence(
    own_kafka: OwnKafka, caplog: pytest.LogCaptureFixture
) -> None:
    """What is before it is handed over and committed; the subscription ends, each time, with its place. Or by dead letters."""
    server = own_kafka()
    async with KafkaAdmin(bootstrap_servers=server.address) as admin:
        await admin.create_topic("orders")
    for start in (0, 5):
        async with Publisher.connected(server.address) as publisher:
            await publisher.publish("orders", 5, start=start)
    await anyio.to_thread.run_sync(server.stop)
    log = server.folder / "data" / "orders-0" / f"{0:020d}.log"
    log.write_bytes(log.read_bytes().replace(b'{"n": 7}', b'{"n": 8}'))
    await anyio.to_thread.run_sync(server.start)
    for first in (0, 5):
        async with Member.join("orders", bootstrap_servers=server.address) as member:
            found: list[int] = []
            with (
                pytest.raises(
                    SubscriptionLost, match=r"orders-0 at offset 5 or behind: .*CRC.*'dead_letter'"
                ),
                anyio.fail_after(20),
            ):
                while True:
                    found += [message.position for message in await member.fetch()]
            assert found[: 5 - first] == list(range(first, 5))
            await member.commit(5)
    async with Publisher.connected(server.address) as publisher:
        await publisher.publish("orders", 3, start=10)
    await passed_over(server.address)
    assert caplog.text.count("it is passed over, as a dead letter") == 5


async def passed_over(address: str) -> None:
    """See what follows a damaged batch done, and each of its records a dead letter that names its place."""
    done: list[int] = []

    async def work(message: Message[Any]) -> None:
        done.append(message.body["n"])

    async with KafkaProducer("orders.dlq", create_topic=True, bootstrap_servers=address) as letters:
        await letters.check()
        engine = make_engine(address, "orders", work, dead_letter=letters, corrupt_records="dead_letter")
        async with running(engine):
            await eventually(lambda: engine.stats.settled == 8, "all were settled", seconds=30)
    assert done == [10, 11, 12]
    headers = [dict(letter.headers) for letter in await read(address, "orders.dlq", 5)]
    assert sorted(header["pythia-position"] for header in headers) == [b"5", b"6", b"7", b"8", b"9"]
    assert all(b"CRC" in header["pythia-error-message"] for header in headers)
    assert await ends(address, "orders") == {0: 13}
