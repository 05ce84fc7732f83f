"""How often an entry was delivered, as Redis counts it: what tells a message that kills its process from its neighbours.

The letters are those of `pythia_redis.claim`. That a suspect runs alone is the engine's part.
"""

from collections.abc import AsyncIterator

import pytest
import redis

from pythia_core import SUSPECT_AFTER
from pythia_redis.group import RELEASED
from pythia_redis.scripts import ABANDON, TAKE, Script
from tests.redis.driving import Member, Members, add, pending, positions
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer

SUSPECT, ORDINARY = SUSPECT_AFTER, SUSPECT_AFTER - 1


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    """A proxy before the shared server."""
    async with Proxy.before(redis_server.port) as proxy:
        yield proxy


def wait_to_be_taken(client: redis.Redis, counts: list[int], *, owner: str = RELEASED) -> list[str]:
    """Add entries that a consumer has and that were delivered so often; return their ids."""
    ids = add(client, len(counts))
    client.xgroup_create("events", "workers", "0")
    client.xreadgroup("workers", "before", {"events": ">"}, count=len(counts))
    for position, count in zip(ids, counts, strict=True):
        client.xclaim(
            "events", "workers", owner, 0, [position], idle=10_000_000, retrycount=count, justid=True
        )
    return ids


def counts(client: redis.Redis) -> list[int]:
    """Return the counts as Redis has them."""
    return [count for _, count in pending(client).values()]


def running(client: redis.Redis, script: Script) -> str:
    """Return how a script that the server knows is called on the wire."""
    client.script_load(script.text)
    return f"EVALSHA\r\n$40\r\n{script.sha}"


@pytest.mark.parametrize("owner", [RELEASED, "dead"])
async def test_r1_r2_together_a_suspect_is_not_counted(
    client: redis.Redis, members: Members, owner: str
) -> None:
    """The message knows of this delivery, Redis does not; a neighbour's is counted as ever."""
    wait_to_be_taken(client, [SUSPECT, ORDINARY, SUSPECT + 3], owner=owner)
    member = await members()
    messages = await member.receive(3)
    assert [message.deliveries for message in messages] == [SUSPECT + 1, ORDINARY + 1, SUSPECT + 4]
    assert counts(client) == [SUSPECT, ORDINARY + 1, SUSPECT + 3]


@pytest.mark.parametrize("owner", [RELEASED, "dead"])
@pytest.mark.parametrize("count", [ORDINARY, SUSPECT, SUSPECT + 3])
async def test_r1_r2_alone_every_delivery_is_counted(
    client: redis.Redis, members: Members, owner: str, count: int
) -> None:
    """Whoever asks for one message runs it alone."""
    wait_to_be_taken(client, [count], owner=owner)
    member = await members()
    (message,) = await member.receive(limit=1)
    assert message.deliveries == count + 1
    assert counts(client) == [count + 1]


async def test_r2_whoever_asks_for_one_gets_a_suspect_first(client: redis.Redis, members: Members) -> None:
    """Or neighbours that were released with it would stand in its way."""
    ids = wait_to_be_taken(client, [0, 1, SUSPECT, 2])
    member = await members()
    assert positions(await member.receive(limit=1)) == (ids[2],)
    assert positions(await member.receive(limit=1)) == (ids[0],)


async def test_r3_a_release_lowers_what_was_raised(client: redis.Redis, members: Members) -> None:
    """Each its own way, though they are released together."""
    wait_to_be_taken(client, [SUSPECT, ORDINARY])
    member = await members()
    assert await member.settle(released=await member.receive(2)) == []
    assert counts(client) == [SUSPECT, ORDINARY]


async def test_r3_a_suspect_taken_alone_is_lowered_again(client: redis.Redis, members: Members) -> None:
    """It was raised, and a graceful stop is no crash."""
    wait_to_be_taken(client, [SUSPECT])
    member = await members()
    together = await member.fetch(2)
    assert await member.settle(released=together) == []
    alone = await member.fetch(1)  # the very next fetch looks, though the last look was just now
    assert counts(client) == [SUSPECT + 1]
    assert await member.settle(released=alone) == []
    assert counts(client) == [SUSPECT]


async def test_r3_what_was_settled_is_forgotten(client: redis.Redis, members: Members) -> None:
    """The books of what was not counted are as long as what is held."""
    wait_to_be_taken(client, [SUSPECT] * 4)
    member = await members()
    first, second, third, fourth = await member.receive(4)
    client.xclaim("events", "workers", "somebody", 0, [fourth.position])
    await member.settle(done=[first], released=[second], rejected=[third], renewed=[fourth])
    assert member.subscription._uncounted == set()


@pytest.mark.parametrize("count", [ORDINARY, SUSPECT])
@pytest.mark.parametrize("limit", [1, 2])
async def test_r4_a_lost_answer_to_a_take_changes_nothing(
    client: redis.Redis, proxy: Proxy, count: int, limit: int
) -> None:
    """The entry is ours by then, and whether its count was raised is known from what was asked for."""
    wait_to_be_taken(client, [count])
    counted = limit == 1 or count < SUSPECT
    async with Member.join("events", url=proxy.redis_url) as member:
        proxy.lose_answer_to(running(client, TAKE))
        assert await member.fetch(limit) == []
        assert proxy.swallowed
        assert [owner for owner, _ in pending(client).values()] == [member.name]
        (message,) = await member.fetch(limit)
        assert message.deliveries == count + 1
        assert counts(client) == [count + counted]
        assert await member.settle(released=[message]) == []
        assert counts(client) == [count]


async def test_r4_what_was_taken_together_and_lost_is_counted_when_it_comes_alone(
    client: redis.Redis, proxy: Proxy
) -> None:
    """It may kill its process now, so Redis has to know."""
    wait_to_be_taken(client, [SUSPECT])
    async with Member.join("events", url=proxy.redis_url) as member:
        proxy.lose_answer_to(running(client, TAKE))
        assert await member.fetch(2) == []
        assert counts(client) == [SUSPECT]
        (message,) = await member.receive(limit=1)
        assert message.deliveries == SUSPECT + 1
        assert counts(client) == [SUSPECT + 1]


@pytest.mark.parametrize("count", [1, SUSPECT])
async def test_r4_a_lost_answer_to_a_search_changes_nothing(
    client: redis.Redis, proxy: Proxy, count: int
) -> None:
    """What was abandoned is moved before it is taken, which counts for nothing: a first crash is still the first."""
    wait_to_be_taken(client, [count], owner="dead")
    async with Member.join("events", url=proxy.redis_url) as member:
        proxy.lose_answer_to(running(client, ABANDON))
        assert await member.fetch(2) == []
        assert proxy.swallowed
        assert list(pending(client).values()) == [(RELEASED, count)]
        (message,) = await member.fetch(2)
        assert message.deliveries == count + 1


async def test_r4_a_take_that_never_arrived_changes_nothing(client: redis.Redis, proxy: Proxy) -> None:
    """What we believe of it is forgotten: somebody else may have had it meanwhile."""
    (position,) = wait_to_be_taken(client, [ORDINARY])
    async with Member.join("events", url=proxy.redis_url) as member:
        proxy.refuse(running(client, TAKE))
        assert await member.fetch(2) == []
        assert pending(client) == {position: (RELEASED, ORDINARY)}
        assert await member.fetch(2) == []  # the search of what is stranded
        assert member.subscription._claims._doubtful == {}
        client.xclaim("events", "workers", RELEASED, 0, [position], retrycount=SUSPECT + 2, justid=True)
        (message,) = await member.receive()
        assert message.deliveries == SUSPECT + 3
