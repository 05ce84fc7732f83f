"""How much is left: exact where Redis knows, a lower bound where it has lost count, never 0 for unknown."""

import pytest
import redis

from pythia_core import Backlog
from pythia_redis import RedisStreamsAdmin, RedisStreamsConsumer
from pythia_redis import inspector as inspecting
from tests.redis.driving import Members, add, pending
from tests.servers.redis import RedisServer


async def backlog(server: RedisServer, **options: object) -> Backlog:
    """Ask once."""
    source = RedisStreamsConsumer("events", consumer_group="workers", url=server.url, **options)  # type: ignore[arg-type]
    async with source.inspect() as inspector:
        return await inspector.backlog()


async def test_waiting_and_in_flight_are_counted(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """They go to zero when everything is settled, and the age goes with them."""
    member = await members()
    add(client, 5)
    messages = await member.receive(2)
    found = await backlog(redis_server)
    assert (found.waiting, found.in_flight, found.at_least) == (3, 2, False)
    assert found.oldest_age_seconds is not None
    assert 0 <= found.oldest_age_seconds < 5
    await member.settle(done=[*messages, *await member.receive(3)])
    assert await backlog(redis_server) == Backlog(waiting=0, in_flight=0)


async def test_a_group_that_is_not_there_yet_has_everything_to_do(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """Scaling from zero workers has to see it; to look makes no group. What `latest` would read is unknown."""
    assert (await backlog(redis_server)).waiting == 0
    add(client, 3)
    assert (await backlog(redis_server)).waiting == 3
    assert (await backlog(redis_server, start_from="latest")).waiting is None
    assert client.xinfo_groups("events") == []


async def test_a_count_that_redis_has_lost_is_counted_anew(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """`lag` is NULL after an undelivered entry was deleted, and for a group made in the middle of a stream."""
    ids = add(client, 10)
    client.xgroup_create("events", "workers", ids[3])
    client.xdel("events", ids[6])
    assert client.xinfo_groups("events")[0].get("lag") is None  # Redis 6.2 never has it
    found = await backlog(redis_server)
    assert (found.waiting, found.at_least) == (5, False)


async def test_too_many_to_count_is_a_lower_bound(
    client: redis.Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting stops where it would hold up the server."""
    monkeypatch.setattr(inspecting, "MOST_COUNTED", 4)
    ids = add(client, 10)
    client.xgroup_create("events", "workers", ids[0])
    client.xdel("events", ids[6])
    found = await backlog(redis_server)
    assert (found.waiting, found.at_least) == (4, True)


async def test_ids_that_are_no_times_have_no_age(client: redis.Redis, redis_server: RedisServer) -> None:
    """Producers may number their entries as they like."""
    client.xadd("events", {"body": "x"}, id="7-1")
    assert (await backlog(redis_server)).oldest_age_seconds is None


async def test_the_oldest_is_the_oldest_unsettled(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """An entry at work is older than those that wait."""
    seconds, _ = client.time()
    client.xadd("events", {"body": "x"}, id=f"{(seconds - 100) * 1000}-0")
    client.xadd("events", {"body": "x"}, id=f"{(seconds - 50) * 1000}-0")
    member = await members()
    messages = await member.receive(1)
    found = await backlog(redis_server)
    assert found.oldest_age_seconds == pytest.approx(100, abs=3)
    await member.settle(done=messages)
    assert (await backlog(redis_server)).oldest_age_seconds == pytest.approx(50, abs=3)


async def test_an_admin_tells_the_lag(client: redis.Redis, redis_server: RedisServer) -> None:
    """For a worker that scales by it, in the words of the guide."""
    add(client, 3)
    async with RedisStreamsAdmin(url=redis_server.url) as admin:
        assert await admin.get_consumer_lag("workers", "events") == 3


async def test_trimming_removes_only_what_every_group_has_settled(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """MAXLEN would remove what somebody still has to read."""
    ids = add(client, 6)
    first, second = await members(), await members(consumer_group="others")
    messages = await first.receive(6)
    async with RedisStreamsAdmin(url=redis_server.url) as admin:
        await first.settle(done=[*messages[:3], *messages[4:]])
        assert await admin.trim_settled("events") == 0  # the others have not read anything
        await second.settle(done=await second.receive(5))
        assert await admin.trim_settled("events") == 3
        assert list(pending(client)) == [ids[3]]
        await first.settle(done=messages[3:4])
        assert await admin.trim_settled("events") == 2
        await second.settle(done=await second.receive(1))
        assert await admin.trim_settled("events") == 1
        assert client.xlen("events") == 0
        assert await admin.trim_settled("events") == 0


async def test_trimming_compares_ids_as_numbers(client: redis.Redis, redis_server: RedisServer) -> None:
    """9 comes before 10, and 64 bits are more than Lua's numbers hold."""
    ids = ["9-1", "10-1", "18446744073709551614-1", "18446744073709551615-18446744073709551615"]
    for position in ids:
        client.xadd("events", {"body": "x"}, id=position)
    async with RedisStreamsAdmin(url=redis_server.url) as admin:
        for group, read in (("a", ids[0]), ("b", "0"), ("c", ids[2])):
            client.xgroup_create("events", group, read)
        assert await admin.trim_settled("events") == 0
        client.xgroup_setid("events", "b", ids[2])
        assert await admin.trim_settled("events") == 1
        client.xgroup_setid("events", "a", ids[1])
        assert await admin.trim_settled("events") == 1
