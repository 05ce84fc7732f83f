"""Outages: a group that is gone, a server that is gone, silent or forgetful, and a stop in the middle of it."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
import redis

from pythia_core import ConfigError, Message, SubscriptionLost
from pythia_redis.connection import ConnectionLost
from tests.redis.driving import Member, Members, add, blocked, calls, pending, positions
from tests.servers.fixtures import OwnRedis
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.waiting import eventually

NOBODY = 1  # a port that nobody listens on


@pytest.fixture
def own(own_redis: OwnRedis) -> Iterator[tuple[RedisServer, redis.Redis]]:
    """A server that a test may kill, whose data survives that, and a bare client."""
    server = own_redis(durable=True)
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield server, client


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


# -- the group is gone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disaster", ["FLUSHALL", "DEL events", "XGROUP DESTROY events workers"])
async def test_a_group_that_goes_while_a_read_waits_is_made_again(
    client: redis.Redis, members: Members, caplog: pytest.LogCaptureFixture, disaster: str
) -> None:
    """From the beginning: `$` would lose what was added in between. And loudly: something was lost, or comes again."""
    member = await members()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: member.fetch(wait=0.5))
        await blocked(client)
        command: Any = client.execute_command
        command(disaster)
        add(client, 2)
    assert len(await member.receive(2)) == 2
    (error,) = errors(caplog)
    assert "made again from the beginning" in error


async def test_a_group_that_goes_between_two_reads_is_made_again(
    client: redis.Redis, members: Members
) -> None:
    """NOGROUP is answered at once, so it is another case than the one before."""
    member = await members()
    client.flushall()
    add(client, 1)
    await member.receive(1)


@pytest.mark.parametrize("verb", ["done", "released", "renewed"])
async def test_settling_into_a_group_that_is_gone_is_refused(
    client: redis.Redis, members: Members, verb: str
) -> None:
    """Nothing of it is ours any more; what the stream still has is delivered again."""
    add(client, 2)
    member = await members()
    messages = await member.receive(2)
    client.xgroup_destroy("events", "workers")
    (refused,) = await member.settle(**{verb: messages})
    assert refused.positions == positions(messages)
    assert positions(await member.receive(2)) == positions(messages)


async def test_a_group_that_goes_again_and_again_makes_no_hot_loop(
    client: redis.Redis, members: Members
) -> None:
    """BLOCK does not slow down a read that is answered NOGROUP; others made 600 errors a second of that."""
    member = await members()
    client.config_resetstat()
    with anyio.move_on_after(1.0):
        while True:
            client.flushall()
            await member.fetch(wait=0.5)
    assert 1 <= calls(client, "xgroup|create") <= 30


async def test_a_key_that_is_no_stream_is_the_users_mistake(client: redis.Redis, members: Members) -> None:
    """Trying again would not help, so the start says what is wrong."""
    client.set("events", "text")
    with pytest.raises(ConfigError, match="no stream"):
        await members()


async def test_a_key_that_becomes_something_else_ends_the_subscription(
    client: redis.Redis, members: Members
) -> None:
    """The engine reports it and tries again with backoff."""
    member = await members()
    client.delete("events")
    client.set("events", "text")
    with pytest.raises(SubscriptionLost, match="WRONGTYPE"):
        for _ in range(5):
            await member.fetch()


# -- the server is gone ------------------------------------------------------------------------------------------


async def test_a_restart_of_the_server_costs_no_work(own: tuple[RedisServer, redis.Redis]) -> None:
    """What was in flight is still ours and is settled by the same subscription; nothing is delivered twice."""
    server, client = own
    add(client, 5)
    async with Member.join("events", url=server.url) as member:
        messages = await member.receive(3)
        server.kill()
        assert await member.fetch() == []
        with pytest.raises(ConnectionLost):
            await member.settle(done=messages[:1])
        await anyio.to_thread.run_sync(server.start)
        rest = await member.receive(2)
        assert not set(positions(rest)) & set(positions(messages))
        assert await member.settle(done=[*messages, *rest]) == []
        assert pending(client) == {}


async def test_a_long_outage_ends_the_subscription(own: tuple[RedisServer, redis.Redis]) -> None:
    """After a third of the lease the engine is to know, and to say that the worker is not ready."""
    server, _ = own
    async with Member.join("events", url=server.url, lease_seconds=0.9) as member:
        server.kill()
        with pytest.raises(ConnectionLost, match=str(server.port)), anyio.fail_after(5):
            while True:
                assert await member.fetch() == []


async def test_failing_reads_make_no_hot_loop(own: tuple[RedisServer, redis.Redis]) -> None:
    """A refused connection is answered at once, so there has to be a pause between the attempts."""
    server, _ = own
    attempts = 0
    async with Member.join("events", url=server.url) as member:
        server.kill()
        with anyio.move_on_after(1.0):
            while True:
                await member.fetch(wait=0.5)
                attempts += 1
    assert 1 <= attempts <= 30


async def test_subscribing_to_nobody_raises(members: Members) -> None:
    """The engine tries again; the error says where nobody was."""
    with pytest.raises(ConnectionLost, match=f"localhost:{NOBODY}"):
        await members(url=f"redis://localhost:{NOBODY}/0")


@pytest.mark.parametrize("command", ["XPENDING events workers", "XACK events workers 1-1"])
async def test_a_server_that_is_not_the_primary_is_left(own_redis: OwnRedis, command: str) -> None:
    """A replica that lost its primary, or refuses to write: the next connection may find the right one."""
    server = own_redis()
    async with Member.join("events", url=server.url) as member:
        with redis.Redis(port=server.port) as client:
            client.config_set("replica-serve-stale-data", "no")
            client.replicaof("127.0.0.1", "1")
        with pytest.raises(ConnectionLost, match=r"MASTER is down|read only"):
            await member.subscription._commands.call(*command.split())
        assert member.subscription._commands._connection is None


# -- the server is silent ----------------------------------------------------------------------------------------


async def test_a_silent_server_is_noticed_and_left(own: tuple[RedisServer, redis.Redis]) -> None:
    """Behind a black hole connections stay open: every wait has a deadline, and closing takes seconds at most."""
    server, client = own
    add(client)
    async with Member.join("events", url=server.url) as member:
        messages = await member.receive()
        server.pause()
        try:
            with anyio.fail_after(8):
                async with anyio.create_task_group() as group:
                    group.start_soon(member.fetch)
                    with pytest.raises(ConnectionLost, match="did not answer within 5 s"):
                        await member.settle(done=messages)
            with anyio.fail_after(4):
                await member.subscription.aclose()
        finally:
            server.resume()


# -- answers are lost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["done", "released"])
async def test_a_settlement_whose_answer_was_lost_is_settled_again(
    client: redis.Redis, redis_server: RedisServer, verb: str
) -> None:
    """It is in doubt and told again; that it was executed the first time does not make it somebody else's."""
    add(client, 2)
    async with Proxy.before(redis_server.port) as proxy, Member.join("events", url=proxy.redis_url) as member:
        first, second = await member.receive(2)
        await member.settle(renewed=[first, second])  # so that the server knows the script
        proxy.lose_answer_to("EVALSHA")
        with pytest.raises(ConnectionLost):
            await member.settle(**{verb: [first]})
        assert proxy.swallowed
        assert pending(client).get(first.position, ("pythia-released",))[0] == "pythia-released"
        assert await member.settle(**{verb: [first, second]}) == []
        (refused,) = await member.settle(done=[first])  # no longer in doubt
        assert refused.positions == (first.position,)


async def test_a_cut_connection_never_mixes_up_answers(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    """A command that was given up leaves its answer in the socket, and the next one must not take it for its own."""
    add(client, 1)
    async with Member.join("events", url=redis_server.url) as member:
        wire = member.subscription._commands
        with anyio.move_on_after(0.05) as scope:
            await wire.call("BLPOP", "nothing", 1)
        assert scope.cancelled_caught
        assert await wire.call("ECHO", "mine") == b"mine"
        with pytest.raises(ConnectionLost):
            await wire.call("BLPOP", "nothing", 1, seconds=0.05)
        assert await wire.call("ECHO", "mine") == b"mine"


async def test_connections_that_the_server_closed_are_replaced(client: redis.Redis, members: Members) -> None:
    """A server closes idle connections (`timeout`); the next command needs no retry, for it was never sent there."""
    add(client, 1)
    member = await members()
    messages = await member.receive()
    await member.settle(renewed=messages)  # so that there is a connection to settle by
    client.client_kill_filter(_type="normal", skipme=True)
    connection: Any = member.subscription._commands._connection
    await eventually(connection._reader.at_eof, "the end of the connection was read")
    assert await member.settle(done=messages) == []


async def test_cut_connections_lose_nothing(client: redis.Redis, redis_server: RedisServer) -> None:
    """Cut at any moment, again and again: each entry is delivered and settled once."""
    published = 0
    found: list[str] = []
    async with (
        Proxy.before(redis_server.port) as proxy,
        Member.join("events", url=proxy.redis_url) as member,
        anyio.create_task_group() as group,
    ):

        async def cut() -> None:
            while True:
                await anyio.sleep(0.005)
                await proxy.cut()

        group.start_soon(cut)
        with anyio.fail_after(30):
            while proxy.connections < 30 or len(found) < published:
                if proxy.connections < 30:
                    published += len(add(client, 20))
                found += positions(await settled(member, await member.fetch(50)))
        group.cancel_scope.cancel()
    assert len(found) == len(set(found)) == published
    assert pending(client) == {}


async def test_failures_leave_no_connections_behind(client: redis.Redis, redis_server: RedisServer) -> None:
    """There are two, one to read and one to settle, however often they were cut, given up or cancelled."""

    def connections() -> int:
        clients: Any = client.client_list()
        return sum("worker" in entry["name"] for entry in clients)

    add(client, 60)
    async with Proxy.before(redis_server.port) as proxy, Member.join("events", url=proxy.redis_url) as member:
        for attempt in range(20):
            messages = await member.receive(1)
            with anyio.move_on_after(0.001 if attempt % 2 else 0.02):
                await member.subscription._commands.call("BLPOP", "nothing", 1)
            await settled(member, messages)
            await proxy.cut()
        await settled(member, await member.receive(1))
        await eventually(lambda: connections() == 2, "two connections were left")


async def settled(member: Member, messages: list[Message[Any]]) -> list[Message[Any]]:
    """Settle as done what a fetch brought, again and again until it was heard, as the engine does."""
    while messages:
        with contextlib.suppress(ConnectionLost):
            assert await member.settle(done=messages) == []
            break
    return messages


# -- reading and settling side by side ---------------------------------------------------------------------------


async def test_a_waiting_read_is_one_command(client: redis.Redis, members: Members) -> None:
    """redis-py 8 cuts a read that waits past its socket timeout and asks again, which strands the first answer."""
    member = await members()
    client.config_resetstat()
    assert await member.fetch(wait=0.4) == []
    assert calls(client, "xreadgroup") == 1


async def test_settling_does_not_wait_for_a_read(client: redis.Redis, members: Members) -> None:
    """Each has a connection of its own."""
    add(client)
    member = await members()
    messages = await member.receive()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: member.fetch(wait=0.5))
        await blocked(client)
        await member.settle(done=messages)
        info: Any = client.info("clients")
        assert info["blocked_clients"] == 1


async def test_a_stop_ends_a_waiting_read_and_nothing_comes_after(
    client: redis.Redis, members: Members
) -> None:
    """Or what a stopping worker releases would come straight back to it."""
    member = await members()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: member.fetch(wait=0.5))
        await blocked(client)
        with anyio.fail_after(0.4):
            await member.subscription.stop_fetching()
    add(client, 3)
    assert await member.fetch() == []
    assert pending(client) == {}


async def test_a_close_ends_a_waiting_read(client: redis.Redis, members: Members) -> None:
    """It returns nothing and does not connect again; closing twice is allowed."""
    member = await members()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: member.fetch(wait=0.5))
        await blocked(client)
        await member.subscription.aclose()
        await member.subscription.aclose()
    assert await member.fetch() == []
    with pytest.raises(
        ConnectionLost, match="closed by us"
    ):  # a step between two commands must not connect again
        await member.subscription._reader.call("PING")
    clients: Any = client.client_list()
    assert [entry for entry in clients if "worker" in entry["name"]] == []
