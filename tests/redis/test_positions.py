"""How far a group has read, shown and moved: XINFO says the same, and what is pending stays pending."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from pythia_core import ConfigError, Positions, Seek
from pythia_redis import RedisStreamsConsumer
from pythia_redis import positions as module
from tests.redis.driving import Member, Members, add, pending
from tests.servers.redis import RedisServer
from tests.waiting import eventually


@asynccontextmanager
async def positions(server: RedisServer, **options: Any) -> AsyncIterator[Positions]:
    """Open the positions of the group that members are in."""
    source = RedisStreamsConsumer("events", consumer_group="workers", url=server.url, **options)
    async with source.positions() as found:
        yield found


async def moved(found: Positions, seek: Seek, *, force: bool = False) -> int:
    """Move to where a seek leads; return how many entries that means reading again."""
    (move,) = (await found.find(seek, ["events"])).values()
    await found.move({"events": move.to}, force=force)
    return move.again


def delivered(client: redis.Redis) -> str:
    """Return the last delivered id of the only group."""
    (group,) = client.xinfo_groups("events")
    return str(group["last-delivered-id"])


async def unheard(client: redis.Redis) -> None:
    """Wait until no consumer was heard of for two milliseconds."""
    await eventually(
        lambda: all(row["idle"] >= 2 for row in client.xinfo_consumers("events", "workers")), "all are idle"
    )


async def test_a_group_is_shown_as_redis_shows_it(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """Its last delivered id, what is pending, what waits, since when, and who reads."""
    ids = add(client, 10)
    member = await members()
    messages = await member.receive(6)
    await member.settle(done=messages[:4])
    async with positions(redis_server) as found:
        standing = await found.standing()
    mark, (group,) = standing.marks["events"], client.xinfo_groups("events")
    assert mark.position == group["last-delivered-id"] == ids[5]
    assert mark.pending == group["pending"] == 2
    assert mark.waiting == group.get("lag", 4) == 4
    assert (mark.first, mark.end) == (ids[0], ids[-1])
    assert mark.oldest == int(ids[6].partition("-")[0]) / 1000
    (text,) = standing.members
    assert member.name in text and "with 2 pending" in text
    assert any("2 entries are pending" in note for note in standing.notes)
    assert any("6 entries as read" in note for note in standing.notes) == ("entries-read" in group)


async def test_a_position_goes_where_it_is_told(client: redis.Redis, redis_server: RedisServer) -> None:
    """To the ends, to an id, by a number, to a time; and Redis shows it."""
    ids = [
        str(client.xadd("events", {"data": "x"}, id=f"{1_700_000_000_000 + 1000 * n}-1")) for n in range(10)
    ]
    client.xgroup_create("events", "workers", ids[5])
    async with positions(redis_server) as found:
        for seek, again, position in (
            (Seek("earliest"), 6, "0-0"),
            (Seek("latest"), -10, ids[9]),
            (Seek("position", position=ids[2]), 7, ids[2]),
            (Seek("position", position="1700000003000"), 0, "1700000003000-0"),
            (Seek("by", messages=4), -4, ids[6]),
            (Seek("by", messages=-2), 2, ids[4]),
            (Seek("by", messages=-100), 5, "0-0"),
            (Seek("by", messages=100), -10, ids[9]),
            (Seek("time", seconds=1_700_000_007), 3, ids[6]),
            (Seek("time", seconds=1_700_000_006.5), 0, ids[6]),
            (Seek("time", seconds=1_600_000_000), 7, "0-0"),
            (Seek("time", seconds=1_800_000_000), -10, ids[9]),
        ):
            assert (await moved(found, seek), delivered(client)) == (again, position), seek


async def test_a_group_reads_again_what_was_settled(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """From where the position was moved to, and no more than that."""
    ids = add(client, 6)
    async with Member.join("events", url=redis_server.url) as member:
        await member.settle(done=await member.receive(6))
    async with positions(redis_server) as found:
        assert await moved(found, Seek("position", position=ids[3])) == 2
    member = await members()
    assert [message.id for message in await member.receive(2)] == ids[4:]
    assert await member.fetch() == []


async def test_what_is_pending_stays_pending(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """A position that goes past it loses nothing: it is delivered again, as that of any worker that died."""
    ids = add(client, 4)
    async with Member.join("events", url=redis_server.url, lease_seconds=0.2) as member:
        await member.receive(2)
    await unheard(client)
    async with positions(redis_server, lease_seconds=0.001) as found:
        assert await moved(found, Seek("latest")) == -2
    assert sorted(pending(client)) == ids[:2]
    member = await members(lease_seconds=0.2)
    assert sorted(message.id for message in await member.receive(2)) == ids[:2]


async def test_a_group_that_is_read_is_left_alone_unless_forced(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """Whoever read less than a lease ago reads; the error names him, and look and move are one step."""
    add(client, 3)
    member = await members()
    await member.settle(done=await member.receive(3))
    before = delivered(client)
    async with positions(redis_server) as found:
        with pytest.raises(ConfigError, match=member.name):
            await moved(found, Seek("earliest"))
        assert delivered(client) == before
        assert await moved(found, Seek("earliest"), force=True) == 3
    assert len(await member.receive(3)) == 3


async def test_a_worker_that_is_gone_reads_no_more(client: redis.Redis, redis_server: RedisServer) -> None:
    """Neither one that left in peace nor one that was not heard of for a lease; nor the holder of what was released."""
    add(client, 3)
    async with Member.join("events", url=redis_server.url) as member:
        await member.settle(released=await member.receive(3))
    assert [row["name"] for row in client.xinfo_consumers("events", "workers")] == ["pythia-released"]
    client.xreadgroup("workers", "someone", {"events": ">"})
    await unheard(client)
    async with positions(redis_server, lease_seconds=0.001) as found:
        assert (await found.standing()).members == []
        await moved(found, Seek("earliest"))
    assert delivered(client) == "0-0"


async def test_a_group_that_was_never_there_is_made_where_it_is_to_begin(
    client: redis.Redis, members: Members, redis_server: RedisServer
) -> None:
    """To look makes none; and what it would have read is what the plan counts from."""
    ids = add(client, 5)
    async with positions(redis_server, start_from="latest") as found:
        standing = await found.standing()
        assert (standing.marks["events"].position, standing.members) == (None, [])
        assert "start_from, 'latest'" in standing.notes[0]
        assert client.xinfo_groups("events") == []
        assert await moved(found, Seek("position", position=ids[2])) == 2
    member = await members(start_from="latest")
    assert [message.id for message in await member.receive(2)] == ids[3:]


async def test_ids_beyond_what_lua_can_count_are_compared_as_numbers(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """9-0 lies before 10-0, and two ids may differ in a digit that a float does not have."""
    for position in ("9-0", "10-0", "9007199254740993-0", "9007199254740994-0"):
        client.xadd("events", {"data": "x"}, id=position)
    client.xgroup_create("events", "workers", "10-0")
    async with positions(redis_server) as found:
        assert await moved(found, Seek("position", position="9-0")) == 1
        assert await moved(found, Seek("position", position="9007199254740993-0")) == -2
        assert await moved(found, Seek("position", position="9007199254740994-0")) == -1


async def test_what_cannot_be_is_told(
    client: redis.Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is not there, an id that is none or not reached yet, and more than Redis should count off."""
    async with positions(redis_server) as found:
        with pytest.raises(ConfigError, match="there is no stream 'events'"):
            await found.standing()
        with pytest.raises(ConfigError, match="there is no stream 'events'"):
            await found.find(Seek("earliest"), ["events"])
        add(client, 3)
        with pytest.raises(ConfigError, match="'newest' is no id"):
            await found.find(Seek("position", position="newest"), ["events"])
        with pytest.raises(ConfigError, match="has got to"):
            await found.find(Seek("position", position=f"{int(time.time() * 2000)}-0"), ["events"])
        with pytest.raises(ConfigError, match="too many"):
            await found.find(Seek("by", messages=-10_001), ["events"])
        monkeypatch.setattr(module, "MOST_COUNTED", 2)
        client.xgroup_create("events", "workers", "$")
        (move,) = (await found.find(Seek("earliest"), ["events"])).values()
        assert (move.again, move.at_least) == (2, True)
