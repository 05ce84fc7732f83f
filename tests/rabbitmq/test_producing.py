"""The sink: confirmed or returned, each output accounted for, in order by key, and never for longer than it may take."""

from typing import Any

import anyio
import pytest

from pythia_core import ConfigError, Output, WriteError
from pythia_rabbitmq import RabbitMQProducer
from tests.rabbitmq.driving import Client, Members, make_engine, running
from tests.servers.rabbitmq import RabbitServer
from tests.waiting import eventually


async def test_a_batch_is_written_in_its_order_and_persistently(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """Pipelined; with content type, identity and time."""
    await client.declare(queue)
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url) as sink:
        result = await sink.write([Output(sink, {"n": number}) for number in range(2_000)])
    assert sorted(result.confirmed) == list(range(2_000))
    messages = await client.drain(queue)
    assert [message.body for message in messages] == [b'{"n":%d}' % number for number in range(2_000)]
    assert {message.delivery_mode for message in messages} == {2}
    assert {message.content_type for message in messages} == {"application/json"}
    assert len({message.message_id for message in messages}) == 2_000
    assert all(message.timestamp is not None for message in messages)


async def test_what_no_queue_takes_is_an_error(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """R9: by index, in words, and not for good: the queue may come."""
    await client.declare(queue)
    exchange = await client.channel.declare_exchange(f"{queue}-x", "direct", auto_delete=True)
    await (await client.channel.get_queue(queue)).bind(exchange, "known")
    async with RabbitMQProducer(f"{queue}-x", url=rabbitmq_server.url) as sink:
        outputs = [
            Output(sink, b"1", key="known"),
            Output(sink, b"2", key="lost"),
            Output(sink, b"3", key="known"),
        ]
        result = await sink.write(outputs)
    assert sorted(result.confirmed) == [0, 2]
    error = result.error(1)
    assert error is not None and "NO_ROUTE" in str(error) and "'lost'" in str(error)
    assert not error.permanent
    assert [message.body for message in await client.drain(queue)] == [b"1", b"3"]


async def test_a_queue_that_is_full_refuses_by_index(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """And of a key nothing overtakes what was refused."""
    limits: Any = {"x-max-length": 2, "x-overflow": "reject-publish"}
    await client.channel.declare_queue(queue, durable=True, arguments=limits)
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url) as sink:
        result = await sink.write([Output(sink, b"%d" % number, key="k") for number in range(6)])
        taken = len(await client.drain(queue))
    assert 2 <= taken < 6
    assert sorted(result.confirmed) == list(range(taken))
    assert "full" in str(result.error(taken))
    assert all("earlier output of key 'k'" in str(result.error(index)) for index in range(taken + 1, 6))


async def test_nothing_of_a_key_overtakes_what_came_back(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """P2: though a queue would have taken it; other keys, and what has none, go on."""
    await client.declare(queue)
    exchange = await client.channel.declare_exchange(f"{queue}-x", "headers", auto_delete=True)
    await (await client.channel.get_queue(queue)).bind(exchange, arguments={"taken": "yes"})
    yes = {"taken": "yes"}
    async with RabbitMQProducer(f"{queue}-x", routing_key="any", url=rabbitmq_server.url) as sink:
        result = await sink.write(
            [
                Output(sink, b"0", key="k", headers=yes),
                Output(sink, b"1", key="k"),
                Output(sink, b"2", key="k", headers=yes),
                Output(sink, b"3", key="other", headers=yes),
                Output(sink, b"4", headers=yes),
            ]
        )
    assert sorted(result.confirmed) == [0, 3, 4]
    assert "earlier output of key 'k'" in str(result.error(2))
    assert sorted(message.body for message in await client.drain(queue)) == [b"0", b"3", b"4"]


async def test_what_cannot_be_written_ever_fails_alone(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """Too large, or not encodable: permanent, and the others are written."""
    await client.declare(queue)
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url, max_message_bytes=1000) as sink:
        result = await sink.write(
            [
                Output(sink, b"x" * 1001),
                Output(sink, object()),
                Output(sink, b"1", headers={"n" * 300: "long"}),
                Output(sink, b"1", headers={"n": 1}),  # type: ignore[dict-item]
                Output(sink, b"fine"),
            ]
        )
    for index in (0, 1, 2):
        error = result.error(index)
        assert error is not None and error.permanent, index
    assert 4 in result.confirmed
    assert b"fine" in [message.body for message in await client.drain(queue)]


async def test_16_mib_go_through(
    rabbitmq_server: RabbitServer, client: Client, members: Members, queue: str
) -> None:
    """In parts, both ways, unharmed."""
    member = await members(queue)
    body = bytes(range(256)) * (1 << 16)
    assert len(body) == 16 << 20
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url) as sink:
        await sink.send(body)
    (message,) = await member.receive()
    assert message.raw == body
    await member.settle(1)


async def test_a_missing_place_is_noticed_at_the_start(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """Queue and exchange; a queue that is to be made is made."""
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url) as sink:
        with pytest.raises(WriteError, match=queue):
            await sink.check()
    async with RabbitMQProducer("nowhere", routing_key="x", url=rabbitmq_server.url) as sink:
        with pytest.raises(WriteError, match="nowhere"):
            await sink.check()
    async with RabbitMQProducer(queue=queue, declare={}, url=rabbitmq_server.url) as sink:
        await sink.check()
    assert await client.depth(queue) == 0


ALARMS = {
    "memory": "vm_memory_monitor:set_vm_memory_high_watermark({absolute, %s})",
    "disk": "rabbit_disk_monitor:set_disk_free_limit(%s)",
}
LIMITS = {"memory": ('"1MB"', '"100GB"'), "disk": ('"1000000GB"', '"50MB"')}


async def test_alarms_stop_writing_and_not_consuming(frail_rabbitmq: RabbitServer, queue: str) -> None:
    """R11: short of memory or disk; writing fails by its deadline and says why, what is there is worked off meanwhile."""
    server = frail_rabbitmq
    async with (
        Client.connected(server.url) as client,
        RabbitMQProducer(queue=queue, url=server.url, delivery_timeout=1) as sink,
    ):
        await client.declare(queue)
        for what, (too_little, enough) in LIMITS.items():
            await client.publish(queue, 500)
            await sink.send({"n": 0})
            server.erl(ALARMS[what] % too_little)
            try:
                with pytest.raises(WriteError, match="blocked publishers"):
                    while True:
                        await sink.send({"n": 0})
                await work_off(server, queue, 501)
            finally:
                server.erl(ALARMS[what] % enough)
            await send_at_last(sink)


async def work_off(server: RabbitServer, queue: str, count: int) -> None:
    """Run an engine until so many messages are settled."""

    async def work(message: Any) -> None:
        return None

    engine = make_engine(server.url, queue, work)
    async with running(engine):
        await eventually(lambda: engine.stats.settled >= count, "all were settled")


async def send_at_last(sink: RabbitMQProducer) -> None:
    """Send until it works."""
    with anyio.fail_after(20):
        while True:
            try:
                await sink.send({"n": 1})
                return
            except WriteError:
                continue


async def test_a_server_that_is_silent_costs_the_deadline_and_no_more(
    frail_rabbitmq: RabbitServer, queue: str
) -> None:
    """R8: the whole of a write is bounded, and so is closing; afterwards it is written again."""
    server = frail_rabbitmq
    async with RabbitMQProducer(queue=queue, declare={}, url=server.url, delivery_timeout=1) as sink:
        await sink.send(b"1")
        server.pause()
        began = anyio.current_time()
        with pytest.raises(WriteError, match="not confirmed within 1 s"):
            await sink.send(b"2")
        assert anyio.current_time() - began < 4
        server.resume()
        await sink.send(b"3")


def test_where_outputs_go_is_said_once() -> None:
    """A queue, or an exchange with a routing key."""
    with pytest.raises(ConfigError, match="instead"):
        RabbitMQProducer("events", queue="tasks")
    with pytest.raises(ConfigError, match="says where"):
        RabbitMQProducer()
