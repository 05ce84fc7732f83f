"""What a server takes back when a handler takes too long, or keeps the event loop from answering it."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from pythia_core import Message
from tests.rabbitmq.driving import Client, make_engine, running
from tests.servers.rabbitmq import RabbitServer
from tests.waiting import eventually

BLOCKED = 3.5  # seconds; a server with a heartbeat of 1 s gives up after 2 to 3


@contextmanager
def impatient(server: RabbitServer) -> Iterator[None]:
    """Have the server wait half a second for an acknowledgement, and look every 100 ms: it looks once a minute."""
    settings = {"consumer_timeout": (500, 1_800_000), "channel_tick_interval": (100, 60_000)}
    for name, (short, _) in settings.items():
        server.erl(f"application:set_env(rabbit, {name}, {short})")
    try:
        yield
    finally:
        for name, (_, usual) in settings.items():
            server.erl(f"application:set_env(rabbit, {name}, {usual})")


async def test_a_message_that_takes_longer_than_the_server_waits_comes_again(
    frail_rabbitmq: RabbitServer, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R17: the channel is ended, the log says why, and nothing is lost; what was done and acknowledged is not repeated."""
    seen: Counter[int] = Counter()
    deliveries: list[Any] = []
    again = anyio.Event()

    async def work(message: Message[Any]) -> None:
        number = message.body["n"]
        if number == 3:
            deliveries.append(message.deliveries)
            if len(deliveries) == 1:
                await again.wait()
            again.set()
        seen[number] += 1

    with impatient(frail_rabbitmq):
        engine = make_engine(frail_rabbitmq.url, queue, work, consumer_timeout=None)
        async with running(engine):
            await eventually(lambda: engine.health().ready, "it was ready", seconds=30)
            async with Client.connected(frail_rabbitmq.url) as client:
                await client.publish(queue, 10)
            await eventually(lambda: engine.stats.subscriptions == 2, "it had come back", seconds=30)
            await eventually(
                lambda: len(seen) == 10 and not engine.stats.in_flight, "all were done", seconds=30
            )
    assert deliveries == [1, 2]
    assert seen.total() == 10 + 1
    assert "delivery acknowledgement on channel 1 timed out" in caplog.text
    assert frail_rabbitmq.ready(queue) == 0


async def test_a_handler_that_blocks_the_loop_costs_the_connection_and_nothing_else(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """R7: the server has given all back meanwhile; the worker comes back by itself, and what it had done it does again."""
    await client.declare(queue)
    await client.publish(queue, 20)
    seen: Counter[int] = Counter()

    async def block(message: Message[Any]) -> None:
        if message.body["n"] == 5 and not seen[5]:
            time.sleep(BLOCKED)  # noqa: ASYNC251
        seen[message.body["n"]] += 1

    engine = make_engine(rabbitmq_server.url, queue, block, heartbeat=1)
    async with running(engine):
        await eventually(lambda: engine.stats.subscriptions == 2, "it had come back", seconds=30)
        await eventually(lambda: len(seen) == 20 and seen[5] == 2, "it had come again", seconds=30)
        await eventually(lambda: not engine.stats.in_flight, "all were done")
    assert set(seen.values()) <= {1, 2}
    assert await client.depth(queue) == 0


async def test_a_handler_that_blocks_a_thread_costs_nothing(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """R7: heartbeats go on, so each message comes once."""
    await client.declare(queue)
    await client.publish(queue, 20)
    seen: Counter[int] = Counter()

    async def block(message: Message[Any]) -> None:
        if message.body["n"] == 5:
            await anyio.to_thread.run_sync(time.sleep, BLOCKED)
        seen[message.body["n"]] += 1

    engine = make_engine(rabbitmq_server.url, queue, block, heartbeat=1)
    async with running(engine):
        await eventually(lambda: len(seen) == 20, "all were seen", seconds=30)
    assert set(seen.values()) == {1}
    assert engine.stats.subscriptions == 1
