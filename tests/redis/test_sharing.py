"""What workers share on a real server: a rate that all keep together, and what is done by whichever of them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import redis

from pythia_core import ConfigError, Headers, Message, NotOpenError, Seen, Skip
from pythia_core.middleware import Deduplicate, RateLimit
from pythia_redis import RedisIdempotencyStore, RedisTokenBucket
from pythia_redis.connection import ConnectionLost
from tests.servers.fixtures import OwnRedis
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer


async def test_a_bucket_holds_a_burst_and_fills_by_the_servers_clock(redis_server: RedisServer) -> None:
    """What is taken is gone for everybody; an empty bucket says when there is one again."""
    async with (
        RedisTokenBucket("api", url=redis_server.url) as one,
        RedisTokenBucket("api", url=redis_server.url) as other,
    ):
        assert await one.take(0.1, 10, 7) == (7, 0.0)
        assert await other.take(0.1, 10, 7) == (3, 0.0)
        taken, wait = await one.take(0.1, 10, 7)
        assert taken == 0
        assert wait == pytest.approx(10, abs=1)


async def test_a_bucket_fills_again(redis_server: RedisServer) -> None:
    """As long as it says it takes, and no longer."""
    async with RedisTokenBucket("api", url=redis_server.url) as bucket:
        assert await bucket.take(20, 5, 5) == (5, 0.0)
        _, wait = await bucket.take(20, 5, 5)
        assert 0 < wait <= 0.05
        await anyio.sleep(wait)
        taken, _ = await bucket.take(20, 5, 5)
        assert taken >= 1


async def test_a_bucket_outlives_a_clock_that_was_set_back(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    """No more than one burst has to be waited for, whatever the key says."""
    client.set("pythia:rate:api", 10**18)
    async with RedisTokenBucket("api", url=redis_server.url) as bucket:
        taken, wait = await bucket.take(10, 5, 1)
        assert taken == 0
        assert wait == pytest.approx(0.1, abs=0.01)


async def test_a_bucket_nobody_uses_leaves_no_key(redis_server: RedisServer, client: redis.Redis) -> None:
    """It expires once it is full, and a second later."""
    async with RedisTokenBucket("api", url=redis_server.url) as bucket:
        await bucket.take(1, 5, 5)
    assert 5_000 < client.pttl("pythia:rate:api") <= 6_000


async def test_processes_keep_one_rate_together(redis_server: RedisServer) -> None:
    """Two limits on one bucket let through what one would."""
    calls: list[float] = []

    async def handler(number: int) -> None:
        calls.append(anyio.current_time())

    async def work(limit: RateLimit) -> None:
        async with limit:
            limited = limit.wrap(handler)
            for number in range(15):
                await limited(number)

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(
                work, RateLimit(20, burst=10, bucket=RedisTokenBucket("api", url=redis_server.url))
            )
    assert len(calls) == 30
    assert calls[-1] - calls[0] >= (30 - 10) / 20 - 0.06  # less one lease, which may be taken ahead


async def test_an_identity_is_one_attempts_at_a_time(redis_server: RedisServer, client: redis.Redis) -> None:
    """Taken, refused to others with what is left, given back, done."""
    async with RedisIdempotencyStore("orders", url=redis_server.url) as store:
        assert await store.begin("7", "me", 30) == (Seen.NEVER, 0.0)
        assert await store.begin("7", "me", 30) == (Seen.NEVER, 0.0)  # the answer was lost
        seen, left = await store.begin("7", "you", 30)
        assert seen is Seen.RUNNING
        assert left == pytest.approx(30, abs=1)
        await store.forget("7", "you")
        assert (await store.begin("7", "you", 30))[0] is Seen.RUNNING
        await store.forget("7", "me")
        assert (await store.begin("7", "you", 30))[0] is Seen.NEVER
        await store.finish("7", 60)
        assert (await store.begin("7", "me", 30))[0] is Seen.DONE
        await store.forget("7", "me")
        assert (await store.begin("7", "me", 30))[0] is Seen.DONE
    assert 59_000 < client.pttl("pythia:done:orders:7") <= 60_000


async def test_names_do_not_share(redis_server: RedisServer) -> None:
    """What one group has done, another has still to do."""
    async with (
        RedisIdempotencyStore("orders", url=redis_server.url) as orders,
        RedisIdempotencyStore("audit", url=redis_server.url) as audit,
    ):
        await orders.finish("7", 60)
        assert (await audit.begin("7", "me", 30))[0] is Seen.NEVER


async def test_a_copy_is_skipped_in_another_process(redis_server: RedisServer) -> None:
    """Two middlewares, as two processes have them, on one store."""
    handled: list[bytes] = []

    async def handler(message: Message[Any]) -> None:
        handled.append(message.raw)

    for body, expected in ((b"1", None), (b"2", Skip)):
        store = RedisIdempotencyStore("orders", url=redis_server.url)
        async with Deduplicate(store, identity="order") as layer:
            call = layer.wrap(handler)(Message(body, headers=Headers([("order", "7")])))
            if expected is None:
                await call
            else:
                with pytest.raises(expected):
                    await call
    assert handled == [b"1"]


async def test_a_lost_answer_is_asked_for_again(redis_server: RedisServer) -> None:
    """The identity was taken for us by the question whose answer was lost; it is no rival's."""
    handled: list[bytes] = []

    async def handler(message: Message[Any]) -> None:
        handled.append(message.raw)

    async with (
        Proxy.before(redis_server.port) as proxy,
        Deduplicate(RedisIdempotencyStore("orders", url=proxy.redis_url), identity="order") as layer,
    ):
        once = layer.wrap(handler)
        await once(Message(b"0", headers=Headers([("order", "6")])))  # so that the script is known
        proxy.lose_answer_to("EVALSHA")
        await once(Message(b"1", headers=Headers([("order", "7")])))
    assert handled == [b"0", b"1"]


async def test_a_server_that_is_down_is_an_error_within_the_deadline(own_redis: OwnRedis) -> None:
    """Opening needs no server; a question says that it is lost."""
    server = own_redis()
    url = server.url
    server.stop()
    async with RedisTokenBucket("api", url=url) as bucket, RedisIdempotencyStore("orders", url=url) as store:
        with anyio.fail_after(5):
            with pytest.raises(ConnectionLost):
                await bucket.take(1, 1, 1)
            with pytest.raises(ConnectionLost):
                await store.finish("7", 1)


async def test_names_are_needed_and_opening_too() -> None:
    """Nobody shares by accident, and nobody asks what is not open."""
    with pytest.raises(ConfigError, match="name is empty"):
        RedisTokenBucket("")
    with pytest.raises(NotOpenError, match=r"RedisIdempotencyStore\('orders'\) is not open"):
        await RedisIdempotencyStore("orders").finish("7", 1)
