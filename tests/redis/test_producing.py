"""Producing: one round trip, each output accounted for, order per key, and nothing written twice by itself."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import redis

from pythia_core import JSON, ConfigError, HeaderValue, NotOpenError, Output, WriteError
from pythia_redis import RedisStreamsConsumer, RedisStreamsProducer
from pythia_redis.connection import ConnectionLost
from tests.redis.driving import Members
from tests.servers.fixtures import OwnRedis
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.waiting import eventually


@pytest.fixture
async def producer(redis_server: RedisServer) -> AsyncIterator[RedisStreamsProducer]:
    """A producer for the stream `events` of the shared server."""
    async with RedisStreamsProducer("events", url=redis_server.url) as producer:
        yield producer


def bodies(client: redis.Redis) -> list[str]:
    """Return what is in the stream `events`."""
    entries: Any = client.xrange("events")
    return [fields["body"] for _, fields in entries]


def outputs(count: int, *, key: str | None = None, size: int = 1) -> list[Output]:
    """Return outputs whose bodies are their indexes."""
    return [Output(None, str(index).encode().rjust(size), key=key) for index in range(count)]


async def test_an_output_arrives_as_it_was_sent(producer: RedisStreamsProducer, members: Members) -> None:
    """Body, key and headers, duplicates, binary, empty and missing values included."""
    headers: list[tuple[str, HeaderValue]] = [
        ("a", "1"),
        ("a", "2"),
        ("bytes", b"\xff\x00"),
        ("empty", ""),
        ("none", None),
        ("é", "ü"),
    ]
    await producer.send({"n": 1}, key="customer-7", headers=headers)
    (message,) = await (await members()).receive()
    assert JSON.decode(message.raw) == {"n": 1}
    assert message.key == "customer-7"
    assert message.headers.items_all() == (*headers, ("content-type", "application/json"))
    assert message.headers["a"] == "2"
    assert message.id == message.position
    assert message.timestamp is not None


async def test_bytes_are_sent_as_they_are(producer: RedisStreamsProducer, members: Members) -> None:
    """No codec touches them, so nothing is said of their content type, and a header of the caller's stands."""
    await producer.send(b"\x00\xff", key=b"\xfe", headers={"content-type": "image/png"})
    await producer.send(b"")
    first, second = await (await members()).receive(2)
    assert first.raw == b"\x00\xff"
    assert first.key == b"\xfe"
    assert dict(first.headers) == {"content-type": "image/png"}
    assert (second.raw, second.key, dict(second.headers)) == (b"", None, {})


async def test_a_batch_is_written_in_order(producer: RedisStreamsProducer, client: redis.Redis) -> None:
    """Also one of several round trips."""
    result = await producer.write(outputs(2_500))
    assert list(result.confirmed) == list(range(2_500))
    assert not result.errors
    assert bodies(client) == [str(index) for index in range(2_500)]


async def test_what_cannot_be_encoded_fails_alone(
    producer: RedisStreamsProducer, client: redis.Redis
) -> None:
    """And for good; only later outputs of its key wait, since they would overtake it."""
    batch = [
        Output(None, object(), key="a"),
        Output(None, b"other", key="b"),
        Output(None, b"later", key="a"),
        Output(None, b"x", headers={"bad": object()}),  # type: ignore[dict-item]
        Output(None, b"x", headers={"bad": "\ud800"}),
    ]
    result = await producer.write(batch)
    assert list(result.confirmed) == [1]
    assert [result.errors[index].permanent for index in (0, 2, 3, 4)] == [True, False, True, True]
    assert bodies(client) == ["other"]


async def test_a_body_that_redis_never_takes_fails_for_good(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    """Sent, it would cost the connection, and everything beside it would be in doubt."""
    client.config_set("proto-max-bulk-len", 1 << 20)
    try:
        async with RedisStreamsProducer("events", url=redis_server.url) as producer:
            result = await producer.write(
                [Output(None, b"a"), Output(None, b"x" * (2 << 20)), Output(None, b"b")]
            )
    finally:
        client.config_set("proto-max-bulk-len", 512 << 20)
    assert list(result.confirmed) == [0, 2]
    assert result.errors[1].permanent
    assert bodies(client) == ["a", "b"]


async def test_outputs_of_one_key_are_written_together_or_not_at_all(
    producer: RedisStreamsProducer, client: redis.Redis
) -> None:
    """Else a later one could be written where an earlier one was refused, in the moment when memory became free."""
    used: Any = client.info("memory")
    client.config_set("maxmemory", used["used_memory"] + (1 << 20))
    try:
        result = await producer.write(outputs(900, key="a", size=4_000))
    finally:
        client.config_set("maxmemory", 0)
    assert not result.confirmed
    assert len(result.errors) == 900
    assert client.xlen("events") == 0


async def test_after_a_refusal_no_later_round_trip_is_made(
    producer: RedisStreamsProducer, client: redis.Redis
) -> None:
    """What is written next must not overtake what was refused."""
    client.set("events", "text")
    result = await producer.write(outputs(2_500))
    assert "earlier one failed" in str(result.errors[2_499])
    assert len(result.errors) == 2_500


async def test_a_server_without_memory_refuses_without_harm(
    producer: RedisStreamsProducer, client: redis.Redis, members: Members
) -> None:
    """Each output is a failure that may be tried again; reading and settling go on, or nothing would become free."""
    await producer.send(b"before")
    await members()
    client.config_set("maxmemory", 1)
    try:
        result = await producer.write([*outputs(2), *outputs(2, key="a")])
        assert not result.confirmed
        assert {error.permanent for error in result.errors.values()} == {False}
        assert "maxmemory" in str(result.errors[0])
        with pytest.raises(WriteError, match="maxmemory"):
            await producer.check()
        member = await members()  # a worker that comes now may help
        assert await member.settle(done=await member.receive()) == []
    finally:
        client.config_set("maxmemory", 0)
    assert (await producer.write(outputs(1))).confirmed


async def test_an_answer_that_is_lost_is_not_asked_for_again(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """redis-py would write it twice. Whether to try again is for the caller to decide, who is told it is in doubt."""
    async with (
        Proxy.before(redis_server.port) as proxy,
        RedisStreamsProducer("events", url=proxy.redis_url) as producer,
    ):
        proxy.lose_answer_to("XADD")
        with pytest.raises(WriteError, match="perhaps written, perhaps not") as caught:
            await producer.send(b"once")
        assert not caught.value.permanent
        assert bodies(client) == ["once"]
        await producer.send(b"again")  # over a new connection
    assert bodies(client) == ["once", "again"]


async def test_a_silent_server_does_not_hold_a_writer(own_redis: OwnRedis) -> None:
    """Every output of the batch is in doubt after the deadline."""
    server = own_redis()
    async with RedisStreamsProducer("events", url=server.url) as producer:
        server.pause()
        try:
            with anyio.fail_after(8):
                result = await producer.write(outputs(3))
        finally:
            server.resume()
    assert len(result.errors) == 3


async def test_a_producer_may_be_made_anywhere_and_is_used_open(redis_server: RedisServer) -> None:
    """A class attribute needs no event loop; using it too early says what to do. Each worker opens a copy."""
    producer = RedisStreamsProducer("events", url=redis_server.url)
    with pytest.raises(NotOpenError, match="open"):
        await producer.send(b"x")
    async with producer.fresh() as copy:
        await copy.send(b"x")
    with pytest.raises(NotOpenError):
        await copy.send(b"x")
    await copy.aclose()


async def test_opening_to_nobody_raises() -> None:
    """A wrong address is found at the start."""
    with pytest.raises(ConnectionLost, match="localhost:1"):
        await RedisStreamsProducer("events", url="redis://localhost:1").open()


async def test_a_check_writes_nothing(producer: RedisStreamsProducer, client: redis.Redis) -> None:
    """It finds out all the same whether somebody could write."""
    await producer.check()
    assert client.keys() == []
    client.set("events", "text")
    with pytest.raises(WriteError, match="it is a string"):
        await producer.check()


async def test_only_maxlen_trims(client: redis.Redis, redis_server: RedisServer) -> None:
    """A work queue must not be trimmed by what comes in; where it is asked for, it is."""
    async with RedisStreamsProducer("events", url=redis_server.url) as producer:
        await producer.write(outputs(1_000))
    assert client.xlen("events") == 1_000
    async with RedisStreamsProducer("events", url=redis_server.url, maxlen=100) as producer:
        await producer.send(b"x")
    assert int(client.xlen("events")) < 300


async def test_replicas_confirm_or_it_is_not_confirmed(own_redis: OwnRedis) -> None:
    """With `replicas` an output that a failover would lose is reported as failed."""
    primary = own_redis()
    replica = own_redis()
    async with RedisStreamsProducer("events", url=primary.url, replicas=1, replica_timeout=0.1) as producer:
        with pytest.raises(WriteError, match="not on 1 replica"):
            await producer.send(b"alone")
        with redis.Redis(port=primary.port) as client:
            client.config_set("repl-diskless-sync-delay", 0)
        with redis.Redis(port=replica.port) as client:
            client.replicaof("127.0.0.1", str(primary.port))

            def in_step() -> bool:
                info: Any = client.info("replication")
                return bool(info["master_link_status"] == "up")

            await eventually(in_step, "the replica was in step")
        with anyio.fail_after(10):
            while (await producer.write(outputs(2, key="a"))).errors:
                pass


async def test_a_replica_is_no_place_to_write(own_redis: OwnRedis) -> None:
    """After a failover the old primary says READONLY: the connection is given up, since the address may have moved."""
    server = own_redis()
    async with RedisStreamsProducer("events", url=server.url) as producer:
        with redis.Redis(port=server.port) as client:
            client.replicaof("127.0.0.1", "1")
            with pytest.raises(WriteError, match="read only replica"):
                await producer.send(b"x")
            assert producer._wire is not None
            assert producer._wire._connection is None
            client.replicaof("NO", "ONE")
        await producer.send(b"x")


async def test_a_sources_counterpart_writes_where_it_reads(
    redis_server: RedisServer, members: Members
) -> None:
    """That is how messages are sent for load tests and replayed."""
    source = RedisStreamsConsumer("events", consumer_group="g", url=redis_server.url)
    async with source.counterpart() as producer:
        await producer.send(b"x")
    assert [message.raw for message in await (await members()).receive()] == [b"x"]


@pytest.mark.parametrize("options", [{"maxlen": 0}, {"replicas": -1}, {"replica_timeout": 0}])
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    """At once, where they are written."""
    with pytest.raises(ConfigError):
        RedisStreamsProducer("events", **options)
