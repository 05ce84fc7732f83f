"""What a network does: it cuts within a frame, loses an answer, goes silent; and a host or a queue that is gone."""

from collections import Counter
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from pythia_core import Message, SubscriptionLost, WriteError
from pythia_core.engine import watchdog
from pythia_rabbitmq import RabbitMQAdmin, RabbitMQConsumer, RabbitMQProducer
from pythia_rabbitmq.connection import ask
from tests.rabbitmq.driving import Client, Members, make_engine, running
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitServer
from tests.servers.server import free_port
from tests.waiting import eventually


def more_connections(proxy: Proxy, than: int) -> bool:
    """Tell whether somebody has connected anew."""
    return proxy.connections > than


async def test_a_connection_cut_at_any_byte_loses_nothing(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """Within frames: of deliveries, of acknowledgements, of the handshake."""
    await client.declare(queue)
    await client.publish(queue, 1_500)
    seen: Counter[int] = Counter()

    async def work(message: Message[Any]) -> None:
        await anyio.sleep(0.02)
        seen[message.body["n"]] += 1

    cuts = [(777, "answer"), (4_001, "answer"), (3, "request")]
    async with Proxy.before(rabbitmq_server.port) as proxy:
        engine = make_engine(proxy.rabbitmq_url, queue, work, prefetch_count=50, heartbeat=1)
        async with running(engine):
            for at, what in cuts:
                await eventually(lambda: engine.health().ready, "it was connected", seconds=20)
                before = proxy.connections
                proxy.cut_after(at, what)
                await eventually(partial(more_connections, proxy, before), "it was cut", seconds=20)
            await eventually(lambda: len(seen) == 1_500, "all were seen", seconds=30)
            await eventually(lambda: engine.stats.in_flight == 0, "all were done")
    assert await client.depth(queue) == 0
    assert sum(seen.values()) <= 1_500 + len(cuts) * 50  # what was out: the prefetch


async def test_a_confirm_that_is_lost_is_none(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """What is written is perhaps written, and said to be so; the next goes by a new connection."""
    await client.declare(queue)
    async with (
        Proxy.before(rabbitmq_server.port) as proxy,
        RabbitMQProducer(queue=queue, url=proxy.rabbitmq_url) as sink,
    ):
        await sink.send(b"1")
        proxy.lose_answer_to("second")
        with pytest.raises(WriteError, match="perhaps written, perhaps not"):
            await sink.send(b"second")
        await sink.send(b"3")
        assert proxy.connections == 2
    assert [message.body for message in await client.drain(queue)] == [b"1", b"second", b"3"]


async def test_a_line_that_goes_silent_is_noticed_by_heartbeats(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """R6: three of them and 3 s, so 6 s here and 33 s by default; what was out comes again, and nothing is lost."""
    await client.declare(queue)
    seen: set[int] = set()

    async def work(message: Message[Any]) -> None:
        seen.add(message.body["n"])

    async with Proxy.before(rabbitmq_server.port) as proxy:
        engine = make_engine(proxy.rabbitmq_url, queue, work, heartbeat=1)
        async with running(engine):
            await eventually(lambda: engine.health().ready, "it was ready")
            proxy.stall()
            began = anyio.current_time()
            await eventually(lambda: not engine.health().ready, "it was noticed", seconds=15)
            assert anyio.current_time() - began < 12
            await client.publish(queue, 10)
            proxy.resume()
            await eventually(lambda: len(seen) == 10, "all were seen", seconds=30)
    assert await client.depth(queue) == 0


async def test_another_host_is_found(rabbitmq_server: RabbitServer, members: Members, queue: str) -> None:
    """R15: whichever comes first in the list; and where none answers, each is named."""
    gone = f"127.0.0.1:{free_port()}"
    for _ in range(6):  # in random order
        await members(queue, host=f"{gone},{rabbitmq_server.address}")
    with pytest.raises(SubscriptionLost) as caught:
        await members(queue, host=f"{gone},127.0.0.1:1")
    assert gone in str(caught.value) and "127.0.0.1:1:" in str(caught.value)


async def test_a_queue_that_is_deleted_under_a_worker_is_consumed_again(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """R5: by the same process, without anybody's help."""
    seen: set[int] = set()

    async def work(message: Message[Any]) -> None:
        seen.add(message.body["n"])

    engine = make_engine(rabbitmq_server.url, queue, work)
    async with running(engine), RabbitMQAdmin(url=rabbitmq_server.url) as admin:
        await eventually(lambda: engine.health().ready, "it was ready")
        await admin.delete_queue(queue)
        await eventually(lambda: engine.stats.subscriptions == 2, "it has subscribed anew")
        await eventually(lambda: engine.health().ready, "it was ready again")
        await client.publish(queue, 10)
        await eventually(lambda: len(seen) == 10, "all were seen")


async def test_a_consumer_that_its_server_forgot_is_noticed(
    rabbitmq_server: RabbitServer,
    client: Client,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R4: messages wait, nothing comes, and nobody says so; after a minute, shortened here, it is consumed anew."""
    monkeypatch.setattr(watchdog, "SILENCE", 0.5)
    monkeypatch.setattr(watchdog, "LOOK", 0.3)
    seen: set[int] = set()

    async def work(message: Message[Any]) -> None:
        seen.add(message.body["n"])

    engine = make_engine(rabbitmq_server.url, queue, work)
    async with running(engine):
        await eventually(lambda: engine.health().ready, "it was ready", seconds=20)
        assert engine.session is not None
        subscription: Any = engine.session._subscription
        await subscription._channel.basic_cancel(subscription._consumer)
        await client.publish(queue, 10)
        await eventually(lambda: len(seen) == 10, "all were seen", seconds=40)
        assert engine.stats.subscriptions == 2
    assert "message(s) wait, and none has come" in caplog.text
    assert await client.depth(queue) == 0


async def test_a_quorum_queue_that_its_server_forgot_is_named_and_can_be_made_anew(
    frail_rabbitmq: RabbitServer, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ 3.10, killed within 3 s of its making: there by name, without a leader; nothing pretends to work."""
    monkeypatch.setitem(ask.__kwdefaults__ or {}, "seconds", 2.0)
    seen: set[int] = set()

    async def work(message: Message[Any]) -> None:
        seen.add(message.body["n"])

    engine = make_engine(frail_rabbitmq.url, queue, work, queue_type="quorum")
    async with RabbitMQAdmin(url=frail_rabbitmq.url) as admin:
        await admin.declare_queue(queue, arguments=RabbitMQConsumer(queue).queue_arguments)
    frail_rabbitmq.kill()
    await anyio.to_thread.run_sync(frail_rabbitmq.start)
    async with running(engine):
        await eventually(
            lambda: any("no leader" in reason for reason in engine.health().reasons),
            "it was said",
            seconds=30,
        )
        assert not engine.health().ready
        await anyio.to_thread.run_sync(frail_rabbitmq.delete_queue, queue)
        await eventually(lambda: engine.health().ready, "it was ready", seconds=30)
        async with Client.connected(frail_rabbitmq.url) as client:
            await client.publish(queue, 10)
        await eventually(lambda: len(seen) == 10, "all were seen", seconds=30)
