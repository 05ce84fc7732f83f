"""Messages that are held back: due after their delay, one before the other, and there after a kill of the server."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from pythia_core import Output, WriteError
from pythia_rabbitmq import RabbitMQProducer, delays
from pythia_rabbitmq.delays import place, rounded
from tests.rabbitmq.driving import Client, Member, Members
from tests.servers.rabbitmq import RabbitServer


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait after a queue was made, but where a server is killed."""
    if "own_rabbitmq" not in request.fixturenames:
        monkeypatch.setattr(delays, "NEW_SECONDS", 0.0)


async def test_a_message_comes_when_it_is_due_and_not_before(
    rabbitmq_server: RabbitServer, members: Members, queue: str
) -> None:
    """With its key, its headers and its routing key; one without a delay, or with a shorter one, overtakes it."""
    member = await members(queue)
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url) as tasks:
        began = time.monotonic()
        await tasks.send({"n": 1}, key="k", headers={"a": "b"}, delay=1.5)
        await tasks.send({"n": 2}, delay=0.5)
        await tasks.send({"n": 3})
    found = await member.receive(2)
    assert [message.raw for message in found] == [b'{"n":3}', b'{"n":2}']
    assert time.monotonic() - began > 0.45
    (last,) = await member.receive(1)
    assert time.monotonic() - began > 1.4
    assert (last.raw, last.key, last.headers["a"]) == (b'{"n":1}', "k", "b")
    assert (last.exchange, last.routing_key) == ("", queue)  # type: ignore[attr-defined]
    assert last.deliveries == 1


async def test_what_goes_to_an_exchange_goes_on_by_its_routing_key(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """As if it had been published when it was due."""
    await client.declare(queue)
    exchange = await client.channel.declare_exchange(f"{queue}-x", "topic", durable=True)
    await (await client.channel.get_queue(queue)).bind(exchange, "order.*")
    async with RabbitMQProducer(f"{queue}-x", url=rabbitmq_server.url) as shop:
        outputs = [Output(shop, key.encode(), key=key, delay=0.1) for key in ("order.new", "bill.new")]
        assert sorted((await shop.write(outputs)).confirmed) == [0, 1]
    async with Member.join(queue, url=rabbitmq_server.url, declare=False) as member:
        (message,) = await member.receive(1)
        assert (message.raw, message.routing_key) == (b"order.new", "order.new")  # type: ignore[attr-defined]


@pytest.mark.slow
async def test_the_end_of_the_server_loses_nothing_that_is_held_back(
    own_rabbitmq: Callable[..., RabbitServer], queue: str
) -> None:
    """Y2: what was confirmed is there after a kill and comes when its time is over; the producer goes on by a new connection."""
    server = own_rabbitmq()
    async with RabbitMQProducer(queue=queue, url=server.url, declare={}) as tasks:
        await tasks.send({"n": 1}, delay=1)
        server.kill()
        server.start()
        async with Member.join(queue, url=server.url) as member:
            (message,) = await member.receive(1, seconds=60)
            assert message.raw == b'{"n":1}'
            await tasks.send({"n": 2}, delay=1)
            assert [message.raw for message in await member.receive(1)] == [b'{"n":2}']


async def test_a_message_may_be_held_back_again_with_the_headers_it_came_with(
    rabbitmq_server: RabbitServer, members: Members, queue: str
) -> None:
    """RabbitMQ drops what it takes for a cycle, by headers of its own, which are therefore not handed on."""
    member = await members(queue)
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url) as tasks:
        await tasks.send({"n": 1}, headers={"mine": "1"}, delay=0.1)
        for _ in range(3):
            (message,) = await member.receive(1)
            await member.settle(message.position)
            await tasks.send(message.raw, headers=message.headers, delay=0.1)
        (message,) = await member.receive(1)
    assert message.headers["mine"] == "1"


async def test_a_place_that_is_gone_is_made_again(
    rabbitmq_server: RabbitServer, client: Client, members: Members, queue: str
) -> None:
    """Nothing is confirmed meanwhile, and the next attempt arrives."""
    member = await members(queue)
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url) as tasks:
        await tasks.send(b"1", delay=0.11)
        await member.receive(1)
        await client.channel.queue_delete(place("", 110))
        with pytest.raises(WriteError, match="unroutable"):
            await tasks.send(b"2", delay=0.11)
        await tasks.send(b"3", delay=0.11)
        assert [message.raw for message in await member.receive(1)] == [b"3"]


async def test_a_place_of_another_kind_is_an_error_for_what_needs_it(
    rabbitmq_server: RabbitServer, client: Client, queue: str
) -> None:
    """And for nothing beside it."""
    arguments: Any = {"x-message-ttl": 130}
    other = await client.channel.declare_queue(place("", 130), durable=True, arguments=arguments)
    await client.declare(queue)
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url) as tasks:
        result = await tasks.write([Output(tasks, b"1", delay=0.13), Output(tasks, b"2")])
    await other.delete(if_unused=False, if_empty=False)
    assert list(result.confirmed) == [1]
    assert "cannot be held back" in str(result.error(0))
    assert [message.body for message in await client.drain(queue)] == [b"2"]


async def test_a_message_without_its_queue_waits_on(
    rabbitmq_server: RabbitServer, client: Client, members: Members, queue: str
) -> None:
    """Y1: it is let go when where it goes to has confirmed it, and that can be later than its time."""
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url) as tasks:
        await tasks.send(b"1", delay=0.1)
    await client.channel.get_queue(place("", 100))  # where it is, and stays
    member = await members(queue)
    (message,) = await member.receive(1, seconds=60)
    assert message.raw == b"1"


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "5", 4_300_000])
async def test_a_delay_is_a_time(rabbitmq_server: RabbitServer, queue: str, delay: object) -> None:
    """Anything else is refused for good, and says what is allowed."""
    async with RabbitMQProducer(queue=queue, url=rabbitmq_server.url) as tasks:
        with pytest.raises(WriteError, match=r"delay is .*: it is a number of seconds, from 0 to") as caught:
            await tasks.send(b"x", delay=delay)  # type: ignore[arg-type]
    assert caught.value.permanent


def test_delays_are_rounded_up_to_two_digits() -> None:
    """Y3: so that computed ones do not make a queue each; most that people write are exact."""
    given = (0, 1, 99, 100, 101, 1_234, 90_000, 3_600_000, 86_400_000)
    assert list(map(rounded, given)) == [0, 1, 99, 100, 110, 1_300, 90_000, 3_600_000, 87_000_000]
