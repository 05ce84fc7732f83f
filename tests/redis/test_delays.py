"""Entries that are held back: due by the server's clock, in one place only, and there after a kill."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pythia_core import Output, WriteError
from pythia_redis import RedisStreamsAdmin, RedisStreamsConsumer, RedisStreamsProducer
from pythia_redis.held import held_key
from tests.redis.driving import Members
from tests.servers.redis import RedisServer

HELD = "{events}:held"


def rewind(client: redis.Redis, seconds: float) -> None:
    """Have everything that is held back be due so much sooner."""
    held: Any = client.zrange(HELD, 0, -1, withscores=True)
    for member, due in held:
        client.zadd(HELD, {member: due - seconds * 1000})


@pytest.fixture
def client(redis_server: RedisServer) -> redis.Redis:
    """The bare client library, which leaves bytes as they are."""
    return redis.Redis.from_url(redis_server.url)


async def test_an_entry_comes_when_it_is_due_and_not_before(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """With its key and headers, and once; one without a delay overtakes it."""
    member = await members()
    async with RedisStreamsProducer("events", url=redis_server.url) as events:
        await events.send({"n": 1}, key="k", headers={"a": "b"}, delay=0.6)
        sent = time.monotonic()
        await events.send({"n": 2})
    (first,) = await member.receive(1)
    assert first.raw == b'{"n":2}'
    (second,) = await member.receive(1)
    assert time.monotonic() - sent > 0.5
    assert (second.raw, second.key, dict(second.headers)) == (
        b'{"n":1}',
        "k",
        {"a": "b", "content-type": "application/json"},
    )
    assert client.zcard(HELD) == 0 and client.xlen("events") == 2


async def test_what_is_held_back_is_not_in_the_stream(client: redis.Redis, redis_server: RedisServer) -> None:
    """And the admin counts it; the same twice is two."""
    async with RedisStreamsProducer("events", url=redis_server.url) as events:
        result = await events.write([Output(events, b"x", delay=3600), Output(events, b"x", delay=3600)])
    assert list(result.confirmed) == [0, 1]
    assert client.xlen("events") == 0
    async with RedisStreamsAdmin(url=redis_server.url) as admin:
        assert await admin.get_held("events") == 2


async def test_what_is_due_counts_as_waiting(client: redis.Redis, redis_server: RedisServer) -> None:
    """Or nobody would start the first reader, who alone moves it."""
    source = RedisStreamsConsumer("events", consumer_group="workers", url=redis_server.url)
    async with RedisStreamsProducer("events", url=redis_server.url) as events, source.inspect() as inspector:
        await events.send(b"x", delay=3600)
        assert (await inspector.backlog()).waiting == 0
        rewind(client, 3602)
        assert (await inspector.backlog()).waiting == 1


async def test_readers_move_each_entry_once(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """However many there are, and however much is due at once; in the order of the times."""
    async with RedisStreamsProducer("events", url=redis_server.url) as events:
        outputs = [Output(events, str(number).encode(), delay=3600 + number) for number in range(500)]
        assert len((await events.write(outputs)).confirmed) == 500
    rewind(client, 5000)
    two = await members(), await members(consumer_group="others")
    found = [await member.receive(500) for member in two]
    for messages in found:
        assert [int(message.raw) for message in messages] == list(range(500))
    assert client.xlen("events") == 500 and client.zcard(HELD) == 0


async def test_a_stream_is_kept_short_by_held_entries_too(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """By the producer's own maxlen, when they are moved."""
    async with RedisStreamsProducer("events", url=redis_server.url, maxlen=1) as events:
        for number in range(300):
            await events.write([Output(events, str(number).encode(), delay=3600)])
    rewind(client, 3700)
    member = await members()
    await member.receive(1)
    assert client.zcard(HELD) in (0, 100)
    assert client.xlen("events") < 200  # trimmed by whole nodes of 100


async def test_a_kill_of_the_server_loses_nothing_that_is_held_back(
    own_redis: Callable[..., RedisServer], anyio_backend: str
) -> None:
    """What was confirmed is there after a restart and comes at its time, once."""
    server = own_redis(durable=True)
    async with RedisStreamsProducer("events", url=server.url) as events:
        await events.send({"n": 1}, delay=2)
    server.kill()
    server.start()
    from tests.redis.driving import Member

    async with Member.join("events", url=server.url) as member:
        (message,) = await member.receive(1)
        assert message.raw == b'{"n":1}'
        assert await member.fetch(wait=0.3) == []


async def test_the_end_of_the_producer_changes_nothing(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """It is the server that holds the entry: a process that published it and was killed is not missed."""
    script = (
        "import anyio, os, signal\n"
        "from pythia_redis import RedisStreamsProducer\n"
        "async def main():\n"
        f"    async with RedisStreamsProducer('events', url={redis_server.url!r}) as events:\n"
        "        await events.send({'n': 1}, delay=0.5)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "anyio.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert done.returncode == -9
    member = await members()
    (message,) = await member.receive(1)
    assert message.raw == b'{"n":1}'


async def test_reading_goes_on_where_nothing_may_be_moved(
    client: redis.Redis, members: Members, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A set that is none, or no permission for it, is said once, and does not stop what is in the stream."""
    client.set(HELD, "something else")
    client.xadd("events", {"body": b"1"})
    member = await members()
    await member.receive(1)
    await member.fetch(wait=0.6)
    await member.fetch(wait=0.6)
    said = [record for record in caplog.records if "cannot be moved" in record.getMessage()]
    assert len(said) == 1 and "WRONGTYPE" in said[0].getMessage()


async def test_an_entry_that_is_refused_within_a_transaction_is_not_confirmed(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """Outputs of one key are written as a transaction, which the server carries out as far as it can."""
    client.set(HELD, "something else")
    async with RedisStreamsProducer("events", url=redis_server.url) as events:
        result = await events.write([Output(events, b"1", key="k"), Output(events, b"2", key="k", delay=9)])
    assert not result.confirmed
    assert "WRONGTYPE" in str(result.error(1))


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "5", 1e12])
async def test_a_delay_is_a_time(redis_server: RedisServer, delay: object) -> None:
    """Anything else is refused for good, and says what is allowed."""
    async with RedisStreamsProducer("events", url=redis_server.url) as events:
        with pytest.raises(WriteError, match=r"delay is .*: it is a number of seconds, from 0 to") as caught:
            await events.send(b"x", delay=delay)  # type: ignore[arg-type]
    assert caught.value.permanent


def test_a_cluster_keeps_both_keys_in_one_place(client: redis.Redis) -> None:
    """By the part between braces, which is the stream's own or all of its name."""
    for stream in ("events", "{shop}:events", "a{b", "x{y}{z}"):
        slot = redis.crc.key_slot
        assert slot(held_key(stream).encode()) == slot(stream.encode()), stream
