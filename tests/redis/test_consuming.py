"""Consuming: the group, reading, and the four ways to settle."""

import redis

from tests.redis.driving import Member, Members, add, consumers, pending, positions
from tests.servers.redis import RedisServer


async def test_what_was_published_before_the_first_start_is_read(
    client: redis.Redis, members: Members
) -> None:
    """A group is made at the beginning of the stream: redis-py's default `$` would lose what is there."""
    ids = add(client, 3)
    member = await members()
    assert list(positions(await member.receive(3))) == ids


async def test_a_group_made_latest_reads_only_what_comes(client: redis.Redis, members: Members) -> None:
    """start_from="latest" is for those who want that."""
    add(client, 3)
    member = await members(start_from="latest")
    (new,) = add(client, start=3)
    assert positions(await member.receive(1)) == (new,)


async def test_joining_makes_stream_and_group(client: redis.Redis, members: Members) -> None:
    """A worker may start before the first message was ever written."""
    await members("new")
    assert [group["name"] for group in client.xinfo_groups("new")] == ["workers"]


async def test_joining_a_group_leaves_it_where_it_is(client: redis.Redis, members: Members) -> None:
    """A second member does not rewind."""
    add(client, 2)
    first = await members()
    await first.receive(2)
    second = await members()
    assert await second.fetch() == []


async def test_done_entries_are_acknowledged_and_stay(client: redis.Redis, members: Members) -> None:
    """Whoever else reads the stream still finds them."""
    add(client, 3)
    member = await members()
    messages = await member.receive(3)
    assert await member.settle(done=messages[:2]) == []
    assert list(pending(client)) == [messages[2].position]
    assert client.xlen("events") == 3


async def test_rejected_entries_are_done(client: redis.Redis, members: Members) -> None:
    """Redis has no dead letters: the engine has written one before it rejects."""
    add(client)
    member = await members()
    assert await member.settle(rejected=await member.receive()) == []
    assert pending(client) == {}


async def test_room_limits_a_fetch(client: redis.Redis, members: Members) -> None:
    """Room of the partition and limit of all together both bind, and no room asks for nothing."""
    add(client, 10)
    subscription = (await members()).subscription
    assert [len(chunk.messages) for chunk in await subscription.fetch({0: 2}, 5, 1 << 20, 0.01)] == [2]
    assert [len(chunk.messages) for chunk in await subscription.fetch({0: 5}, 3, 1 << 20, 0.01)] == [3]
    assert await subscription.fetch({}, 5, 1 << 20, 0.01) == ()
    assert len(pending(client)) == 5


async def test_bytes_limit_a_fetch(client: redis.Redis, members: Members) -> None:
    """The hint goes by the size of what came last."""
    for _ in range(20):
        client.xadd("events", {"body": "x" * 1000})
    member = await members()
    await member.receive(4)
    assert len(await member.fetch(10, max_bytes=3_500)) == 3


async def test_one_settlement_may_hold_thousands(client: redis.Redis, members: Members) -> None:
    """More ids than Lua passes as arguments at once, settled in one call and in any order."""
    add(client, 9_000)
    member = await members()
    messages = await member.receive(9_000)
    assert await member.settle(done=reversed(messages)) == []
    assert pending(client) == {}


async def test_ids_may_be_of_any_length(client: redis.Redis, members: Members) -> None:
    """Where text order is not number order, the range of a settlement is asked for singly and still right."""
    for number in (7, 9, 10, 99, 100, 18446744073709551615):
        client.xadd("events", {"body": "{}"}, id=f"{number}-1")
    member = await members()
    messages = await member.receive(6)
    assert await member.settle(done=messages[:3], released=messages[3:4], renewed=messages[4:]) == []
    assert list(pending(client)) == ["99-1", "100-1", "18446744073709551615-1"]


async def test_settlements_of_another_assignment_are_refused(client: redis.Redis, members: Members) -> None:
    """An assignment is the fence towards the broker: what was read under another one is not settled."""
    add(client)
    first, second = await members(), await members()
    messages = await first.receive()
    second.owner.assignments = first.owner.assignments
    (refused,) = await second.settle(done=messages)
    assert refused.positions is None
    assert len(pending(client)) == 1


async def test_delete_settled_removes_done_entries(client: redis.Redis, members: Members) -> None:
    """With one group the stream is a queue, and its memory is bounded."""
    add(client, 3)
    member = await members(delete_settled=True)
    messages = await member.receive(3)
    await member.settle(done=messages[:2], released=messages[2:])
    assert client.xlen("events") == 1


async def test_delete_settled_spares_other_groups(client: redis.Redis, members: Members) -> None:
    """What another group has yet to read stays."""
    add(client, 3)
    client.xgroup_create("events", "others", "0")
    member = await members(delete_settled=True)
    assert await member.settle(done=await member.receive(3)) == []
    assert pending(client) == {}
    assert client.xlen("events") == 3


async def test_scripts_survive_a_lost_cache(client: redis.Redis, members: Members) -> None:
    """A restarted or flushed server has forgotten the scripts."""
    add(client, 2)
    member = await members()
    first, second = await member.receive(2)
    await member.settle(done=[first])
    client.script_flush()
    assert await member.settle(done=[second]) == []
    assert pending(client) == {}


async def test_the_last_to_leave_takes_its_name_along(client: redis.Redis, redis_server: RedisServer) -> None:
    """A stop that settled everything leaves no consumer behind."""
    add(client, 2)
    async with Member.join("events", url=redis_server.url) as member:
        await member.settle(done=await member.receive(2))
    assert consumers(client) == {}


async def test_a_name_with_pending_entries_stays(client: redis.Redis, redis_server: RedisServer) -> None:
    """XGROUP DELCONSUMER forgets what is pending, for ever."""
    add(client, 2)
    async with Member.join("events", url=redis_server.url) as member:
        await member.settle(done=(await member.receive(2))[:1])
    assert consumers(client) == {member.name: 1}
