"""The plugin under the real engine: what is published is processed, through stops, crashes and outages."""

import signal
import subprocess
import sys
from collections import Counter, defaultdict
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import attrs
import pytest
import redis

from pythia_core import Limits, Message, Output, Reject, Settings
from pythia_redis import RedisStreamsConsumer, RedisStreamsProducer
from tests.redis.driving import add, consumers, pending
from tests.redis.engines import FAST, make_engine, running
from tests.servers.fixtures import OwnRedis
from tests.servers.redis import RedisServer
from tests.waiting import eventually


async def test_everything_is_processed_and_settled(client: redis.Redis, redis_server: RedisServer) -> None:
    """Once each, and a stop leaves nothing pending and no consumer behind."""
    add(client, 5_000)
    seen: Counter[int] = Counter()

    async def count(message: Message[Any]) -> None:
        seen[message.body["n"]] += 1

    engine = make_engine(redis_server.url, count)
    async with running(engine):
        await eventually(lambda: len(seen) == 5_000, "all were seen")
    assert set(seen.values()) == {1}
    assert pending(client) == {}
    assert consumers(client) == {}
    assert engine.stats.settled == 5_000


async def test_a_stop_gives_back_what_has_not_started(client: redis.Redis, redis_server: RedisServer) -> None:
    """A rolling restart repeats nothing and makes nobody wait for a lease: the other worker has it at once."""
    add(client, 300)
    seen: Counter[str] = Counter()

    async def slow(message: Message[Any]) -> None:
        await anyio.sleep(0.005)
        seen[message.position] += 1

    first, second = (make_engine(redis_server.url, slow) for _ in range(2))
    async with anyio.create_task_group() as group:
        group.start_soon(first.run)
        await eventually(lambda: len(seen) >= 20, "the first was at work")
        first.stop()
        group.start_soon(second.run)
        await eventually(lambda: len(seen) == 300, "all were seen", seconds=20)
        second.stop()
    assert first.stats.released > 100
    assert set(seen.values()) == {1}
    assert pending(client) == {}


async def test_outputs_are_written_before_the_input_is_settled(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    """Stage by stage, in batches."""
    add(client, 1_000)

    async def double(message: Message[Any]) -> Any:
        return Output(None, {"n": 2 * message.body["n"]}, key=str(message.body["n"] % 7))

    async with RedisStreamsProducer("doubled", url=redis_server.url) as sink:
        engine = make_engine(redis_server.url, double, sink=sink)
        async with running(engine):
            await eventually(lambda: client.xlen("doubled") == 1_000, "all were written")
    entries: Any = client.xrange("doubled")
    assert sorted(fields["body"] for _, fields in entries) == sorted(f'{{"n":{2 * n}}}' for n in range(1_000))
    assert pending(client) == {}


async def test_dead_letters_go_to_their_natural_place(client: redis.Redis, redis_server: RedisServer) -> None:
    """With where they came from and why; what cannot be decoded goes there too, and the others are processed."""
    add(client, 10)
    client.xadd("events", {"body": "{"})
    done: list[int] = []

    async def picky(message: Message[Any]) -> None:
        if message.body["n"] == 3:
            raise Reject("unlucky")
        done.append(message.body["n"])

    source = RedisStreamsConsumer("events", consumer_group="workers", url=redis_server.url)
    place = source.dead_letters()
    assert place is not None
    sink, _ = place
    async with sink:
        engine = make_engine(redis_server.url, picky, dead_letter=sink)
        async with running(engine):
            await eventually(lambda: client.xlen("events:dlq") == 2, "both were dead letters")
    letters: Any = client.xrange("events:dlq")
    assert sorted(fields["body"] for _, fields in letters) == ["{", '{"n": 3}']
    assert {fields["h:pythia-source"] for _, fields in letters} == {"events"}
    assert sorted(done) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert pending(client) == {}


async def test_messages_of_a_key_run_in_their_order(client: redis.Redis, redis_server: RedisServer) -> None:
    """Within a process, never two of one at once, also where one of them has to be tried again; other keys flow."""
    keys, each = 20, 50
    for number in range(keys * each):
        client.xadd("events", {"body": number, "key": f"k{number % keys}"})
    done: dict[Any, list[int]] = defaultdict(list)
    at_work: Counter[Any] = Counter()
    overlaps: list[Any] = []

    async def work(message: Message[Any]) -> None:
        at_work[message.key] += 1
        if at_work[message.key] > 1:
            overlaps.append(message.key)
        await anyio.lowlevel.checkpoint()
        at_work[message.key] -= 1
        if message.body % 97 == 5 and message.attempt == 1:
            raise ValueError("busy")
        done[message.key].append(message.body)

    settings = attrs.evolve(FAST, order="key", batch_size=100)
    engine = make_engine(redis_server.url, work, settings)
    async with running(engine):
        await eventually(lambda: engine.stats.settled == keys * each, "all were settled")
    assert engine.stats.retried > 0
    assert overlaps == []
    assert done == {f"k{key}": list(range(key, keys * each, keys)) for key in range(keys)}
    assert pending(client) == {}


async def test_a_slow_handler_keeps_its_message(client: redis.Redis, redis_server: RedisServer) -> None:
    """The engine renews what is at work for longer than the lease, so no other worker begins the same."""
    add(client, 2)
    started: Counter[str] = Counter()
    finished: list[str] = []

    async def slow(message: Message[Any]) -> None:
        started[message.position] += 1
        await anyio.sleep(2)
        finished.append(message.position)

    async with running(*(make_engine(redis_server.url, slow, lease_seconds=0.6) for _ in range(2))):
        await eventually(lambda: len(finished) == 2, "both were finished")
    assert set(started.values()) == {1}
    assert pending(client) == {}


async def test_a_restart_of_the_server_is_ridden_out(own_redis: OwnRedis) -> None:
    """Workers stay alive and go on; of what was in flight nothing is lost."""
    server = own_redis(durable=True)
    seen: set[int] = set()

    async def count(message: Message[Any]) -> None:
        seen.add(message.body["n"])

    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        add(client, 500)
        engine = make_engine(server.url, count)
        async with running(engine):
            await eventually(lambda: len(seen) == 500, "the first half was seen")
            server.kill()
            await anyio.to_thread.run_sync(server.start)
            add(client, 500, start=500)
            await eventually(lambda: len(seen) == 1_000, "the second half was seen")
        assert engine.stats.subscriptions == 1
        assert pending(client) == {}


async def test_a_long_outage_makes_it_not_ready_and_ends(own_redis: OwnRedis) -> None:
    """Health says so, in words without a password, and the worker comes back by itself."""
    server = own_redis(durable=True)
    seen: set[int] = set()

    async def count(message: Message[Any]) -> None:
        seen.add(message.body["n"])

    engine = make_engine(server.url, count, lease_seconds=1.5)
    async with running(engine):
        await eventually(lambda: engine.health().ready, "it was ready")
        server.kill()
        await eventually(lambda: not engine.health().ready, "it was not ready")
        assert str(server.port) in engine.health().reasons[0]
        await anyio.to_thread.run_sync(server.start)
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            add(client, 3)
        await eventually(lambda: len(seen) == 3, "all were seen", seconds=30)
        assert engine.health().ready


async def test_a_stop_does_not_wait_for_a_server_that_is_gone(own_redis: OwnRedis) -> None:
    """Neither for one that is silent; what was not settled is delivered again."""
    server = own_redis()

    async def nothing(message: Message[Any]) -> None:
        pass

    engine = make_engine(server.url, nothing, Settings(drain_timeout=2))
    with anyio.fail_after(12):
        async with running(engine):
            await eventually(lambda: engine.health().ready, "it was ready")
            server.pause()
    server.resume()


CHILD = """
import asyncio, os, sys, anyio
from pythia_core import Settings, Start
from pythia_core.engine.engine import Engine
from pythia_redis import RedisStreamsConsumer

async def hang(message):
    print(message.position, flush=True)
    await anyio.sleep(60)

source = RedisStreamsConsumer("events", consumer_group="workers", url=sys.argv[1], lease_seconds=float(sys.argv[2]))
asyncio.run(Engine(source.resolve(Start(worker="child")), hang, Settings(max_concurrent_tasks=3)).run())
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_dead_process_is_succeeded(client: redis.Redis, redis_server: RedisServer, end: int) -> None:
    """Killed or frozen, what it had is another's after the lease; and a process that thaws settles nothing of it."""
    add(client, 50)
    command = [sys.executable, "-c", CHILD, redis_server.url, "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            await anyio.to_thread.run_sync(child.stdout.readline)
            assert len(pending(client)) == 50
            child.send_signal(end)
            seen: Counter[str] = Counter()

            async def count(message: Message[Any]) -> None:
                seen[message.position] += 1

            async with running(make_engine(redis_server.url, count, lease_seconds=1.0)):
                await eventually(lambda: len(seen) == 50, "all were seen")
                child.send_signal(signal.SIGCONT)
            assert set(seen.values()) == {1}
            assert pending(client) == {}
        finally:
            child.kill()


async def test_limits_bound_what_is_pending(client: redis.Redis, redis_server: RedisServer) -> None:
    """What is not asked for stays in the stream, where other workers can have it."""
    add(client, 1_000)
    release = anyio.Event()

    async def wait(message: Message[Any]) -> None:
        await release.wait()

    settings = Settings(limits=Limits(messages=100), batch_size=30, batch_timeout=0.1)
    engine = make_engine(redis_server.url, wait, settings)
    async with running(engine):
        await eventually(lambda: engine.health().ready, "it was ready")
        await eventually(lambda: len(pending(client)) == 100, "the limit was reached")
        with anyio.move_on_after(0.5):
            while True:
                assert len(pending(client)) <= 100
                await anyio.sleep(0.05)
        release.set()
        await eventually(lambda: engine.stats.settled == 1_000, "all were settled", seconds=30)
    assert pending(client) == {}
