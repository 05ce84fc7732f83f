"""Entries that come otherwise than by reading on: released, abandoned, stranded, trimmed; and whose they are meanwhile."""

import logging
from typing import Any

import anyio
import pytest
import redis

from pythia_core import Start
from pythia_redis import RedisStreamsConsumer, claim
from tests.redis.driving import Member, Members, add, blocked, calls, consumers, pending, positions
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.waiting import eventually

LEASE = 0.6  # seconds; longer than a hiccup of a shared machine


async def lapse(client: redis.Redis, member: Member) -> None:
    """Wait until nothing that a member has was renewed for a lease."""

    def lapsed() -> bool:
        rows: Any = client.xpending_range("events", "workers", "-", "+", 1000, member.name)
        return all(row["time_since_delivered"] >= LEASE * 1000 for row in rows)

    await eventually(lapsed, "the lease was over")


# -- released ----------------------------------------------------------------------------------------------------


async def test_what_one_releases_another_gets_at_once(client: redis.Redis, members: Members) -> None:
    """A stopping worker's unstarted entries do not wait for a lease, and no delivery is counted against them."""
    add(client, 3)
    first, second = await members(), await members()
    messages = await first.receive(3)
    assert await second.fetch() == []
    assert await first.settle(released=messages) == []
    rows: Any = client.xpending_range("events", "workers", "-", "+", 10)
    assert all(
        row["time_since_delivered"] >= 60_000 for row in rows
    )  # so other consumers' XAUTOCLAIM finds it too
    taken = await second.fetch()  # the very next one
    assert positions(taken) == positions(messages)
    assert [message.deliveries for message in taken] == [1, 1, 1]
    assert set(pending(client).values()) == {(second.name, 1)}
    assert await second.settle(done=taken) == []


async def test_released_entries_are_found_in_busy_times(
    client: redis.Redis, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose reads are never empty still looks."""
    monkeypatch.setattr(claim, "RELEASED_EVERY", 0.1)
    add(client, 1)
    first, second = await members(), await members()
    (released,) = await first.receive()
    add(client, 10_000, start=1)
    await second.fetch(1)
    await first.settle(released=[released])
    with anyio.fail_after(5):
        while released.position not in positions(messages := await second.fetch(1)):
            assert len(messages) == 1


async def test_a_release_keeps_earlier_deliveries(client: redis.Redis, members: Members) -> None:
    """What killed its worker before is as suspect after a release as it was."""
    add(client, 2)
    killed = await members(lease_seconds=LEASE)
    await killed.receive(2)
    await lapse(client, killed)
    second = await members(lease_seconds=LEASE)
    messages = await second.receive(2)
    assert [message.deliveries for message in messages] == [2, 2]
    await second.settle(released=messages)
    third = await members(lease_seconds=LEASE)
    assert [message.deliveries for message in await third.receive(2)] == [2, 2]


async def test_two_members_never_take_the_same_released_entry(client: redis.Redis, members: Members) -> None:
    """Taking over is one step in the server."""
    add(client, 200)
    first, second, third = await members(), await members(), await members()
    await first.settle(released=await first.receive(200))
    found: list[str] = []

    async def take(member: Member) -> None:
        found.extend(positions(await member.receive(100, limit=10)))

    async with anyio.create_task_group() as group:
        group.start_soon(take, second)
        group.start_soon(take, third)
    assert len(found) == len(set(found)) == 200


# -- abandoned ---------------------------------------------------------------------------------------------------


async def test_a_dead_workers_entries_are_taken_over(client: redis.Redis, members: Members) -> None:
    """Nothing waits for ever for a consumer that died: after a lease its entries are another's, and not before."""
    add(client, 3)
    dead, heir = await members(lease_seconds=LEASE), await members(lease_seconds=LEASE)
    messages = await dead.receive(3)
    assert await heir.fetch() == []
    await lapse(client, dead)
    taken = await heir.receive(3)
    assert positions(taken) == positions(messages)
    assert [message.deliveries for message in taken] == [2, 2, 2]
    assert [message.raw for message in taken] == [message.raw for message in messages]


async def test_abandoned_entries_are_found_in_busy_times(client: redis.Redis, members: Members) -> None:
    """The search does not wait for an empty read."""
    add(client)
    dead = await members(lease_seconds=LEASE)
    (message,) = await dead.receive()
    await lapse(client, dead)
    heir = await members(lease_seconds=LEASE)
    add(client, 20_000, start=1)
    with anyio.fail_after(5):
        while message.position not in positions(messages := await heir.fetch(2)):
            assert messages


async def test_a_search_takes_no_more_than_there_is_room_for(client: redis.Redis, members: Members) -> None:
    """The cursor is followed, fetch by fetch, until everything is found."""
    add(client, 50)
    dead = await members(lease_seconds=LEASE)
    messages = await dead.receive(50)
    await lapse(client, dead)
    heir = await members(lease_seconds=LEASE)
    taken = [await heir.fetch(8) for _ in range(7)]
    assert [len(some) for some in taken] == [8, 8, 8, 8, 8, 8, 2]
    assert {m.position for some in taken for m in some} == set(positions(messages))


async def test_a_slow_worker_that_renews_keeps_its_entries(client: redis.Redis, members: Members) -> None:
    """XAUTOCLAIM asks for age alone, so who is alive has to say so; and renewing counts no delivery."""
    add(client, 2)
    slow, other = await members(lease_seconds=LEASE), await members(lease_seconds=LEASE)
    messages = await slow.receive(2)
    end = anyio.current_time() + 3 * LEASE
    while anyio.current_time() < end:
        assert await slow.settle(renewed=messages) == []
        assert await other.fetch(wait=0.05) == []
    assert set(pending(client).values()) == {(slow.name, 1)}
    assert await slow.settle(done=messages) == []


async def test_nobody_takes_over_from_himself(client: redis.Redis, members: Members) -> None:
    """A worker whose loop was blocked for a lease finds its own entries abandoned, but it is at work on them."""
    add(client, 2)
    blocked = await members(lease_seconds=LEASE)
    messages = await blocked.receive(2)
    await lapse(client, blocked)
    blocked.subscription._claims._abandoned_at = 0.0
    assert await blocked.fetch() == []
    assert set(pending(client).values()) == {(blocked.name, 1)}
    assert await blocked.settle(done=messages) == []


async def test_a_late_settlement_changes_nothing(client: redis.Redis, members: Members) -> None:
    """XACK asks for no owner: a worker that slept past its lease would settle what another one is at work on."""
    add(client, 4)
    zombie, heir = await members(lease_seconds=LEASE), await members(lease_seconds=LEASE)
    messages = await zombie.receive(4)
    await lapse(client, zombie)
    taken = await heir.receive(4)
    before = pending(client)
    for verb in ("done", "released", "rejected", "renewed"):
        (refused,) = await zombie.settle(**{verb: messages})
        assert refused.positions == positions(messages), verb
    assert pending(client) == before
    assert await heir.settle(done=taken) == []


async def test_of_a_settlement_only_what_is_not_ours_is_refused(
    client: redis.Redis, members: Members
) -> None:
    """The rest of it is settled."""
    add(client, 4)
    first, second = await members(lease_seconds=LEASE), await members(lease_seconds=LEASE)
    messages = await first.receive(4)
    await lapse(client, first)
    assert await first.settle(renewed=messages[::2]) == []
    taken = await second.receive(2)
    assert positions(taken) == positions(messages[1::2])
    (refused,) = await first.settle(done=messages)
    assert refused.positions == positions(messages[1::2])
    assert await second.settle(done=taken) == []
    assert pending(client) == {}


async def test_what_was_just_delivered_is_settled_without_asking(
    client: redis.Redis, members: Members
) -> None:
    """Within half a lease nobody can have taken it, and asking would cost four times the acknowledgement."""
    add(client, 2)
    member = await members()
    fresh, old = await member.receive(2)
    client.config_resetstat()
    assert await member.settle(done=[fresh]) == []
    assert calls(client, "xpending") == 0
    member.subscription._held[old.position] -= 30_000  # half a lease
    client.xclaim("events", "workers", "somebody", 0, [old.position])
    (refused,) = await member.settle(done=[fresh, old])
    assert refused.positions == positions([fresh, old])
    assert list(pending(client).values()) == [("somebody", 2)]


async def test_a_delivery_is_never_dated_too_late(client: redis.Redis, members: Members) -> None:
    """Or a claim could have come in between; a read that waits does not know yet when it will be answered."""
    member = await members()
    found: list[Any] = []

    async def read() -> None:
        found.extend(await member.fetch(wait=0.5))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await blocked(client)
        add(client)
    (message,) = found
    assert 0 < member.subscription._held[message.position] < message.timestamp * 1000


# -- names -------------------------------------------------------------------------------------------------------


async def test_processes_with_one_name_do_not_share_entries(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """The guide gives every instance the same consumer_name; each still has a name of its own in the group."""
    add(client, 2)
    source = RedisStreamsConsumer(
        "events", consumer_group="workers", consumer_name="worker-1", url=redis_server.url
    )
    first, second = (source.resolve(Start(worker="w", slot=0, nonce="same")) for _ in range(2))
    assert first.consumer_name != second.consumer_name
    async with Member.subscribed(first) as one, Member.subscribed(second) as other:
        messages = await one.receive(2)
        assert await other.fetch() == []
        assert {name.partition(":")[0] for name, _ in pending(client).values()} == {"worker-1"}
        assert await one.settle(done=messages) == []


async def test_a_new_subscription_of_one_process_takes_up_its_own(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """After an outage the engine subscribes anew, under the same name, and what was in flight comes back at once."""
    add(client, 2)
    source = RedisStreamsConsumer("events", consumer_group="workers", url=redis_server.url).resolve(
        Start(worker="w")
    )
    async with Member.subscribed(source) as before:
        messages = await before.receive(2)
    async with Member.subscribed(source) as after:
        assert positions(await after.fetch()) == positions(messages)


async def test_consumers_that_are_gone_are_removed(client: redis.Redis, members: Members) -> None:
    """Every start of a process is a new name, so they would pile up; one with pending entries is never removed."""
    add(client)
    member = await members(lease_seconds=0.05)
    await (await members(lease_seconds=60)).receive()
    client.xgroup_createconsumer("events", "workers", "old:host:0:abx1")
    client.xgroup_createconsumer("events", "workers", "somebody-elses")

    async def names() -> set[str]:
        await member.settle(done=await member.fetch())
        return {name.partition(":")[0] for name in consumers(client)}

    with anyio.fail_after(10):
        while "old" in await names():
            pass
    assert await names() == {"worker", "somebody-elses"}


# -- stranded and trimmed ----------------------------------------------------------------------------------------


async def test_a_read_whose_answer_was_lost_is_recovered(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """redis-py would ask again and return the next two: the first two would be pending for ever, and nobody's."""
    add(client, 6)
    async with Proxy.before(redis_server.port) as proxy, Member.join("events", url=proxy.redis_url) as member:
        running = await member.receive(2)
        proxy.lose_answer_to("XREADGROUP")
        assert await member.fetch(2) == []
        assert proxy.swallowed
        assert len(pending(client)) == 4
        recovered = await member.receive(2)
        assert [message.deliveries for message in recovered] == [1, 1]  # nobody has run them
        rest = await member.receive(2)
        everything = [*running, *recovered, *rest]
        assert [message.raw for message in everything] == [b'{"n": %d}' % number for number in range(6)]
        assert await member.settle(done=everything) == []


async def test_many_stranded_entries_come_within_room(client: redis.Redis, redis_server: RedisServer) -> None:
    """The search goes page by page, past what is running here."""
    add(client, 2_500)
    async with Proxy.before(redis_server.port) as proxy, Member.join("events", url=proxy.redis_url) as member:
        running = await member.receive(1_200)
        proxy.lose_answer_to("XREADGROUP")
        assert await member.fetch(1_300) == []
        recovered = await member.receive(1_300, limit=500)
        assert len({*positions(running), *positions(recovered)}) == 2_500


async def test_a_takeover_whose_answer_was_lost_is_recovered(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """The same for what comes by another way than reading on."""
    add(client, 2)
    async with Proxy.before(redis_server.port) as proxy, Member.join("events", url=proxy.redis_url) as member:
        assert await member.settle(released=await member.receive(2)) == []
        (first,) = await member.receive(1)  # from now on the server knows the script
        proxy.lose_answer_to("EVALSHA")
        assert await member.fetch(1) == []
        assert proxy.swallowed
        assert {owner for owner, _ in pending(client).values()} == {member.name}
        (second,) = await member.receive(1)
        assert first.position != second.position


async def test_trimmed_entries_are_reported_and_forgotten(
    client: redis.Redis, members: Members, caplog: pytest.LogCaptureFixture
) -> None:
    """An entry deleted under the group's pending list is lost: that is said, and it does not come back for ever."""
    ids = add(client, 3)
    dead = await members(lease_seconds=LEASE)
    await dead.receive(3)
    await lapse(client, dead)
    client.xdel("events", *ids[:2])
    heir = await members(lease_seconds=LEASE)
    assert positions(await heir.receive()) == (ids[2],)
    assert heir.subscription.trimmed == 2
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert all("entries are lost" in error for error in errors)
    assert ids[0] in errors[0]
    assert list(pending(client)) == [ids[2]]


async def test_trimmed_entries_of_a_lost_read_are_reported(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """XREADGROUP would return them as entries without fields."""
    ids = add(client, 2)
    async with Proxy.before(redis_server.port) as proxy, Member.join("events", url=proxy.redis_url) as member:
        proxy.lose_answer_to("XREADGROUP")
        assert await member.fetch() == []
        client.xdel("events", ids[0])
        assert positions(await member.receive()) == (ids[1],)
        assert member.subscription.trimmed == 1
        assert list(pending(client)) == [ids[1]]
