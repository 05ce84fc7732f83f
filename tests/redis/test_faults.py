"""What breaks between a worker and its server, and what is to come of it: nothing lost, nothing settled by a stranger.

Outages that a subscription rides out alone are in `test_outages`; here the real engine or the real command goes through
them, and here are the faults that only show there.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psutil
import pytest
import redis

from pythia_core import Message, Reject, SubscriptionLost
from pythia_redis import RedisStreamsProducer
from tests.descriptors import no_file_descriptors
from tests.redis.commands import lines, pythia
from tests.redis.driving import Member, add, calls, pending
from tests.redis.engines import make_engine, running
from tests.redis.test_outages import settled
from tests.servers.fixtures import OwnRedis
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.waiting import eventually

CANARY = "hunter2"


async def count_into(seen: Counter[int], message: Message[Any]) -> None:
    """Handle a message: note its number."""
    seen[message.body["n"]] += 1


# -- a slow network ----------------------------------------------------------------------------------------------


async def test_a_slow_network_costs_time_and_nothing_else(
    client: redis.Redis, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A fifth of a second for each exchange: no deadline is met, no connection given up, nothing delivered twice or named slow."""
    caplog.set_level(logging.WARNING)
    add(client, 60)
    seen: Counter[int] = Counter()
    async with Proxy.before(redis_server.port) as proxy:
        proxy.delay = 0.1
        engine = make_engine(proxy.redis_url, lambda message: count_into(seen, message))
        async with running(engine):
            await eventually(lambda: engine.stats.settled == 60, "all are settled", seconds=60)
        assert engine.stats.subscriptions == 1
        assert proxy.connections <= 3
    assert seen == Counter(range(60))
    assert pending(client) == {}
    assert caplog.messages == []


# -- connections cut at a certain byte ---------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["answer", "request"])
async def test_a_connection_cut_at_any_byte_loses_nothing(
    client: redis.Redis, redis_server: RedisServer, what: str
) -> None:
    """Within the greeting, an id, a length, a body: half an entry is never delivered, and each one is, once."""
    found: list[bytes] = []
    published = 0
    async with Proxy.before(redis_server.port) as proxy, Member.join("events", url=proxy.redis_url) as member:
        for count in range(0, 900, 7):
            add(client, 3, start=published)
            published += 3
            proxy.cut_after(count, what)
            found += [message.raw for message in await settled(member, await member.fetch(3))]
            with anyio.fail_after(10):
                while len(found) < published:
                    found += [message.raw for message in await settled(member, await member.fetch(3))]
        assert proxy.connections > 30
    assert sorted(found) == sorted(b'{"n": %d}' % number for number in range(published))
    assert pending(client) == {}


# -- the server stands still -------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_server_that_froze_beyond_every_deadline_is_ridden_out(own_redis: OwnRedis) -> None:
    """Connections are given up and made again, without a busy loop; what was in flight is done, and once."""
    server = own_redis(durable=True)
    seen: Counter[int] = Counter()
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        add(client, 200)
        engine = make_engine(server.url, lambda message: count_into(seen, message))
        async with running(engine):
            await eventually(lambda: engine.stats.settled == 200, "the first were settled")
            client.config_resetstat()
            server.pause()
            began = time.process_time()
            await anyio.sleep(7)  # longer than a command may take
            assert time.process_time() - began < 2, "it waited, and did not spin"
            server.resume()
            add(client, 200, start=200)
            await eventually(lambda: len(seen) == 400, "the rest was seen", seconds=30)
            await eventually(lambda: pending(client) == {}, "all was settled")
        assert set(seen.values()) == {1}
        assert calls(client, "xreadgroup") < 100


# -- dead letters cannot be written ------------------------------------------------------------------------------


@contextmanager
def denied(client: redis.Redis) -> Iterator[None]:
    """Take away the right to write dead letters."""
    acl("SETUSER", client, "default", "resetkeys", "~events")
    try:
        yield
    finally:
        acl("SETUSER", client, "default", "allkeys")


@contextmanager
def without_memory(client: redis.Redis) -> Iterator[None]:
    """Let the server refuse whatever needs memory."""
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


def acl(command: str, client: redis.Redis, *arguments: str) -> None:
    """Run an ACL command."""
    client.execute_command("ACL", command, *arguments)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("broken", [denied, without_memory])
async def test_a_message_whose_dead_letter_cannot_be_written_stays(
    client: redis.Redis,
    redis_server: RedisServer,
    broken: Callable[[redis.Redis], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is never acknowledged before; the others are processed, and it comes through once that is mended."""
    add(client, 10)
    client.xgroup_create("events", "workers", "0")
    done: Counter[int] = Counter()

    async def picky(message: Message[Any]) -> None:
        if message.body["n"] == 3:
            raise Reject("unlucky")
        await count_into(done, message)

    writes: list[int] = []
    write = RedisStreamsProducer.write

    async def counted(self: RedisStreamsProducer, outputs: Any) -> Any:
        writes.append(len(outputs))
        return await write(self, outputs)

    monkeypatch.setattr(RedisStreamsProducer, "write", counted)
    sink = RedisStreamsProducer("events:dlq", url=redis_server.url)
    async with sink:
        engine = make_engine(redis_server.url, picky, dead_letter=sink)
        async with running(engine):
            with broken(client):
                await eventually(lambda: len(done) == 9 and len(writes) > 3, "it was tried again and again")
                await eventually(lambda: len(pending(client)) == 1, "the others were settled")
            await eventually(lambda: pending(client) == {}, "it was settled")
            assert client.xlen("events:dlq") == 1
    assert set(done.values()) == {1}


# -- credentials -------------------------------------------------------------------------------------------------


async def test_credentials_that_are_revoked_and_restored(
    client: redis.Redis, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker says so in words without a secret, is not ready, does not spin, and goes on by itself when they hold."""
    caplog.set_level(logging.DEBUG)
    acl("SETUSER", client, "worker", "reset", "on", f">{CANARY}", "~events*", "+@all")
    url = redis_server.url.replace("redis://", f"redis://worker:{CANARY}@")
    seen: Counter[int] = Counter()
    add(client, 50)
    try:
        engine = make_engine(url, lambda message: count_into(seen, message), lease_seconds=0.9)
        async with running(engine):
            await eventually(lambda: engine.stats.settled == 50, "the first were settled")
            acl("SETUSER", client, "worker", "off")
            client.client_kill_filter(_type="normal", skipme=True)
            add(client, 50, start=50)
            await eventually(lambda: not engine.health().ready, "it was not ready")
            said = " ".join(engine.health().reasons)
            assert "invalid username-password pair or user is disabled" in said
            refused = len(caplog.records)
            with anyio.move_on_after(1):
                await anyio.sleep_forever()
            assert len(caplog.records) - refused < 30
            acl("SETUSER", client, "worker", "on")
            await eventually(lambda: len(seen) == 100, "the rest was seen", seconds=30)
            await eventually(lambda: engine.health().ready, "it was ready again")
        assert set(seen.values()) == {1}
    finally:
        acl("DELUSER", client, "worker")
    assert CANARY not in said + caplog.text
    assert pending(client) == {}


# -- no file descriptors -----------------------------------------------------------------------------------------


async def test_a_process_without_file_descriptors_comes_back(
    client: redis.Redis, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that cannot be made is an outage like any other: said in words, waited for, and nothing is lost."""
    add(client, 4)
    async with Member.join("events", url=redis_server.url) as member:
        messages = await member.receive(2)
        for wire in (member.subscription._reader, member.subscription._commands):
            await wire._drop()
        await anyio.wait_all_tasks_blocked()  # the loop closes them in its next turn
        with no_file_descriptors():
            assert await member.fetch() == []
            with pytest.raises(SubscriptionLost, match="Too many open files"):
                await member.settle(done=messages)
        assert await member.settle(done=[*messages, *await member.receive(2)]) == []
    assert "Too many open files" in caplog.text
    assert pending(client) == {}


# -- a process that comes back from the dead ---------------------------------------------------------------------

ZOMBIE = """
import os, sys, anyio
from pathlib import Path
from pythia_core import Worker, WorkerConfig
from pythia_redis import RedisStreamsConsumer

HERE = Path(os.environ["HERE"])


class Zombie(Worker):
    source = RedisStreamsConsumer("events", consumer_group="workers", lease_seconds=1)
    config = WorkerConfig(batch_timeout=0.1)

    async def process(self, message):
        with open(HERE / "begun", "a") as file:
            file.write(message.position + "\\n")
        while not (HERE / "gate").exists():
            await anyio.sleep(0.01)
        with open(HERE / "done", "a") as file:
            file.write(message.position + "\\n")
"""


async def test_a_process_that_thaws_settles_nothing_of_what_is_anothers(
    client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    """It finishes its work, and its late settlements change nothing: another one is at work on the same."""
    add(client, 3)
    with pythia(tmp_path, redis_server, ZOMBIE) as supervisor:
        await eventually(lambda: len(lines(tmp_path / "begun")) == 3, "it was at work", seconds=20)
        (zombie,) = psutil.Process(supervisor.pid).children()
        zombie.suspend()
        async with Member.join("events", url=redis_server.url, lease_seconds=1.0) as heir:
            taken = await heir.receive(3)
            owners = {owner for owner, _ in pending(client).values()}
            assert owners == {heir.name}
            (tmp_path / "gate").touch()
            zombie.resume()
            await eventually(lambda: len(lines(tmp_path / "done")) == 3, "the zombie had finished")
            supervisor.terminate()
            assert await anyio.to_thread.run_sync(supervisor.wait) == 0  # it has settled, and left
            assert {owner for owner, _ in pending(client).values()} == owners
            assert await heir.settle(done=taken) == []
    assert pending(client) == {}
