"""Producing: each output accounted for by a deadline, order per key, and a new client after every failure."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from pythia_core import NotOpenError, Output, WriteError
from pythia_kafka import KafkaAdmin, KafkaConsumer, KafkaProducer
from tests.kafka.driving import MakeTopic, read
from tests.servers.fixtures import OwnKafka
from tests.servers.kafka import KafkaServer


@pytest.fixture
async def topic(make_topic: MakeTopic) -> str:
    """A topic of one partition."""
    return await make_topic()


@pytest.fixture
async def producer(kafka_server: KafkaServer, topic: str) -> AsyncIterator[KafkaProducer]:
    """A producer for it."""
    async with KafkaProducer(topic, bootstrap_servers=kafka_server.address) as producer:
        yield producer


async def test_an_output_arrives_as_it_was_sent(
    producer: KafkaProducer, kafka_server: KafkaServer, topic: str
) -> None:
    """Body, key and headers, duplicates, binary, empty and missing values included; None with a key is a tombstone."""
    await producer.send({"a": 1}, key="ü", headers=[("x", "1"), ("x", b"\xff"), ("y", None)])
    await producer.send(b"raw", key=b"\xff", headers={"content-type": "text/csv"})
    await producer.send(None, key="gone")
    first, second, third = await read(kafka_server.address, topic, 3)
    assert (first.value, first.key) == (b'{"a":1}', "ü".encode())
    assert first.headers == (("x", b"1"), ("x", b"\xff"), ("y", None), ("content-type", b"application/json"))
    assert (second.value, second.key, second.headers) == (b"raw", b"\xff", (("content-type", b"text/csv"),))
    assert (third.value, third.key, third.headers) == (None, b"gone", ())


async def test_a_batch_is_written_in_order(
    producer: KafkaProducer, kafka_server: KafkaServer, topic: str
) -> None:
    """All of it confirmed; it takes about as many requests as batches."""
    result = await producer.write([Output(None, {"n": n}, key=f"k{n % 7}") for n in range(5_000)])
    assert sorted(result.confirmed) == list(range(5_000))
    assert [record.value for record in await read(kafka_server.address, topic, 5_000)] == [
        b'{"n":%d}' % n for n in range(5_000)
    ]


async def test_confirmed_means_by_all_replicas_and_numbered(producer: KafkaProducer) -> None:
    """The client's own defaults are one replica, and no numbers by which the broker knows a repetition."""
    client = producer._opened()._line
    assert client is not None
    assert client.producer._sender._acks == -1
    assert client.producer._txn_manager is not None


async def test_what_cannot_be_written_fails_alone(
    producer: KafkaProducer, kafka_server: KafkaServer, topic: str
) -> None:
    """And for good; only later outputs of its key wait, since they would overtake it."""
    outputs = [
        Output(None, b"0", key="a"),
        Output(None, b"x" * (2 << 20), key="a"),
        Output(None, b"2", key="a"),
        Output(None, b"3", key="b"),
        Output(None, object()),
        Output(None, b"5", headers={"x": 1}),  # type: ignore[dict-item]
        Output(None, object(), key="c"),
        Output(None, b"7", key="c"),
    ]
    result = await producer.write(outputs)
    assert sorted(result.confirmed) == [0, 3]
    permanent = {index: error.permanent for index, error in result.errors.items()}
    assert permanent == {1: True, 2: False, 4: True, 5: True, 6: True, 7: False}
    assert [record.value for record in await read(kafka_server.address, topic, 2)] == [b"0", b"3"]


async def test_a_refusal_by_the_broker_is_survived(kafka_server: KafkaServer, make_topic: MakeTopic) -> None:
    """It leaves a hole in the numbers, after which the broker would refuse everything: the client is made anew."""
    topic = await make_topic(max_message_bytes="1000")
    async with KafkaProducer(topic, bootstrap_servers=kafka_server.address) as producer:
        await producer.send(b"first")
        old = producer._opened()._line
        with pytest.raises(WriteError) as caught:
            await producer.send(b"x" * 2_000)
        assert caught.value.permanent
        await producer.send(b"second")
        assert producer._opened()._line is not old
    assert [r.value for r in await read(kafka_server.address, topic, 2)] == [b"first", b"second"]


async def test_a_topic_that_is_not_there_is_an_error(kafka_server: KafkaServer) -> None:
    """By a deadline, and not for good: somebody may make it."""
    options: dict[str, Any] = {"bootstrap_servers": kafka_server.address, "delivery_timeout": 0.5}
    async with KafkaProducer("never-made", **options) as producer:
        with pytest.raises(WriteError) as caught:
            await producer.send(b"x")
        assert not caught.value.permanent
        with pytest.raises(WriteError, match="has no topic 'never-made'"):
            await producer.check()


async def test_a_dead_letter_topic_is_made_at_the_start(
    kafka_server: KafkaServer, topic: str, admin: KafkaAdmin
) -> None:
    """Where brokers make none by themselves, as they should not."""
    place = KafkaConsumer(topic, bootstrap_servers=kafka_server.address).dead_letters()
    assert place is not None
    async with place[0] as sink:
        await sink.check()
        await sink.check()
        await sink.send(b"x")
    assert (await admin.topics())[f"{topic}.dlq"] == 1


async def test_a_silent_broker_does_not_hold_a_writer(own_kafka: OwnKafka) -> None:
    """All that is in doubt is reported so; later writes work again, and nothing old is written behind their back."""
    server = own_kafka()
    options: dict[str, Any] = {"bootstrap_servers": server.address, "delivery_timeout": 2.0}
    async with KafkaAdmin(bootstrap_servers=server.address) as admin:
        await admin.create_topic("orders")
    async with KafkaProducer("orders", **options) as producer:
        await producer.send(b"first")
        await anyio.to_thread.run_sync(server.kill)
        results: list[Any] = []

        async def write(body: bytes) -> None:
            results.append(await producer.write([Output(None, body)]))

        with anyio.fail_after(8):
            async with anyio.create_task_group() as group:
                group.start_soon(write, b"lost 1")
                group.start_soon(write, b"lost 2")
        assert [(list(result.confirmed), len(result.errors)) for result in results] == [([], 1)] * 2
        await anyio.to_thread.run_sync(server.start)
        with anyio.fail_after(20):
            while (await producer.write([Output(None, b"second")])).errors:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.1)
    assert [r.value for r in await read(server.address, "orders", 2)] == [b"first", b"second"]


async def test_opening_to_nobody_raises() -> None:
    """A wrong address is found at the start, and told."""
    with pytest.raises(WriteError, match=r"127\.0\.0\.1:1"):
        await KafkaProducer("orders", bootstrap_servers="127.0.0.1:1").open()


async def test_a_producer_may_be_made_anywhere_and_is_used_open(
    kafka_server: KafkaServer, topic: str
) -> None:
    """A class attribute needs no event loop; using it too early says what to do. Each worker opens a copy."""
    made = await anyio.to_thread.run_sync(
        lambda: KafkaProducer(topic, bootstrap_servers=kafka_server.address)
    )
    with pytest.raises(NotOpenError, match="async with"):
        await made.send(b"x")
    async with made.fresh() as first, made.fresh() as second:
        await first.send(b"x")
        await second.send(b"y")
    await made.aclose()


async def test_a_sources_counterpart_writes_where_it_reads(kafka_server: KafkaServer, topic: str) -> None:
    """That is how messages are sent for load tests and replayed."""
    async with KafkaConsumer(topic, bootstrap_servers=kafka_server.address).counterpart() as sink:
        await sink.send(b"x")
    assert [record.value for record in await read(kafka_server.address, topic, 1)] == [b"x"]


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_written_and_read(
    kafka_server: KafkaServer, topic: str, compression: Any, members: Any
) -> None:
    """What one compresses, the others can read."""
    options: dict[str, Any] = {"bootstrap_servers": kafka_server.address, "compression": compression}
    async with KafkaProducer(topic, **options) as producer:
        await producer.write([Output(None, b"x" * 500) for _ in range(100)])
    assert [record.value for record in await read(kafka_server.address, topic, 100)] == [b"x" * 500] * 100
    member = await members(topic)
    assert [message.raw for message in await member.receive(100)] == [b"x" * 500] * 100


async def test_kafka_holds_nothing_back(
    producer: KafkaProducer, kafka_server: KafkaServer, topic: str
) -> None:
    """It has no way to; what asks for it fails for good, says what to do, and what is beside it is written."""
    assert not producer.delays
    with pytest.raises(WriteError, match=r"KafkaProducer cannot hold an output back.*Retry\(delay\)"):
        await producer.send(b"1", delay=1)
    result = await producer.write([Output(producer, b"2", delay=1), Output(producer, b"3")])
    assert list(result.confirmed) == [1]
    error = result.error(0)
    assert error is not None and error.permanent
    (record,) = await read(kafka_server.address, topic, 1)
    assert record.value == b"3"
