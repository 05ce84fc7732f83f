"""Suspects beside their queue: put there whole, shown without being counted, counted where they run alone, and nowhere else."""

from collections import Counter
from collections.abc import Awaitable
from typing import Any

import aio_pika
import anyio
import pytest

from pythia_core import SUSPECT_AFTER, Message, PythiaError
from pythia_rabbitmq import RabbitMQConsumer
from pythia_rabbitmq.subscription import RabbitMQSubscription
from pythia_rabbitmq.suspect import SUSPECTS
from tests.rabbitmq.driving import Client, Member, Members, RecordingOwner, make_engine, running
from tests.servers.rabbitmq import RabbitServer
from tests.waiting import eventually

QUORUM: dict[str, Any] = {"queue_type": "quorum"}


async def arouse_suspicion(
    client: Client, members: Members, queue: str, publish: Awaitable[Any], *, count: int = 1
) -> list[Message[Any]]:
    """Have what is published delivered so often that one delivery more makes suspects of all of it; return it."""
    found: list[Message[Any]] = []
    await (await members(queue, **QUORUM)).subscription.aclose()
    await publish
    for _ in range(SUSPECT_AFTER):
        member = await members(queue, **QUORUM)
        found = await member.receive(count)
        await member.subscription.aclose()
        await client.wait_for_depth(queue, count)
    return found


async def put_aside(client: Client, member: Member, queue: str, count: int) -> None:
    """Fetch, which puts suspects aside, until so many are; nothing else comes."""
    with anyio.fail_after(30):
        while await client.depth(f"{queue}.suspects") < count:
            assert not [message for message in await member.fetch(100) if message.partition == 0]


async def only(member: Member, limit: int) -> Message[Any]:
    """Fetch until there is a suspect, and return it."""
    while True:
        (*_, message) = [None, *await member.fetch(limit)]
        if message is not None:
            assert message.partition == SUSPECTS
            return message


async def settle(member: Member, **outcome: Any) -> None:
    """Settle what lies beside the queue."""
    assert await member.settle(partition=SUSPECTS, **outcome) == []


async def test_a_suspect_is_counted_for_itself(client: Client, members: Members, queue: str) -> None:
    """Q1, Q2: where a process that has it alone ends; not where it is shown, or given back, or a neighbour of others."""
    await arouse_suspicion(client, members, queue, client.publish(queue, 1, message_id="mine"))
    for crashes in range(3):
        member = await members(queue, **QUORUM)
        if crashes == 0:
            await put_aside(client, member, queue, 1)
            assert await client.depth(queue) == 0
        shown = await only(member, 100)
        assert (shown.deliveries, shown.id) == (SUSPECT_AFTER + 1 + crashes, "mine")
        await settle(member, released=[shown.position])
        for _ in range(2):
            alone = await only(member, 1)
            assert alone.deliveries == SUSPECT_AFTER + 1 + crashes
            await settle(member, released=[alone.position])
        alone = await only(member, 1)
        assert alone.deliveries == SUSPECT_AFTER + 1 + crashes
        member.subscription._line._transport.cut()  # type: ignore[union-attr]
        await eventually(lambda: "lost" in member.owner.told, "it was noticed")  # noqa: B023
        await client.wait_for_depth(f"{queue}.suspects", 1)
    member = await members(queue, **QUORUM)
    shown = await only(member, 100)
    await settle(member, released=[shown.position])
    alone = await only(member, 1)
    assert alone.deliveries == SUSPECT_AFTER + 1 + 3
    await settle(member, through=alone.position)
    await client.wait_for_depth(f"{queue}.suspects", 0)
    await member.subscription.aclose()
    await client.wait_for_depth(f"{queue}.suspects", 0)


async def test_a_suspect_travels_whole(client: Client, members: Members, queue: str) -> None:
    """Key, headers, times and where it was published; and nothing in it has an effect on its way."""
    await client.declare(f"{queue}-copies")
    exchange = await client.channel.declare_exchange(f"{queue}-events", "topic", auto_delete=True)
    maker = await members(queue, bindings=[f"{queue}-events:order.*"], **QUORUM)
    await maker.subscription.aclose()
    odd: Any = {
        "x-pythia-key": "k",
        "n": 5,
        "raw": bytearray(b"\xff"),
        "CC": ["order.copied"],
        "deep": {"a": [1, None]},
    }
    sent = aio_pika.Message(
        b"\x00" * 300_000, headers=odd, user_id="guest", expiration=3_600, timestamp=1_700_000_000
    )
    (before,) = await arouse_suspicion(client, members, queue, exchange.publish(sent, "order.created"))
    member = await members(queue, **QUORUM)
    await put_aside(client, member, queue, 1)
    after = await only(member, 1)
    for name in ("raw", "key", "timestamp", "exchange", "routing_key", "size"):
        assert getattr(after, name) == getattr(before, name), name
    told = [dict(message.headers) for message in (before, after)]
    assert [int(headers.pop("x-delivery-count")) for headers in told] == [2, 3]  # type: ignore[arg-type]
    assert told[0] == told[1]
    assert (after.key, after.routing_key) == ("k", "order.created")  # type: ignore[attr-defined]
    assert await client.depth(queue) == 0


async def test_what_comes_beside_a_suspect_comes_without_it(
    client: Client, members: Members, queue: str
) -> None:
    """Nothing of it is given back while a suspect is seen to, which an old server would count."""
    await arouse_suspicion(client, members, queue, client.publish(queue))
    await client.publish(queue, 5, start=1)
    member = await members(queue, **QUORUM)
    others: list[Message[Any]] = []
    with anyio.fail_after(30):
        while len(others) < 5:
            others += [message for message in await member.fetch(100) if message.partition == 0]
    assert [message.deliveries for message in others] == [1] * 5
    alone = await only(member, 1)
    assert alone.raw == b'{"n": 0}'
    await settle(member, through=alone.position)
    await member.settle(others[-1].position)
    await member.subscription.aclose()
    for name in (queue, f"{queue}.suspects"):
        await client.wait_for_depth(name, 0)


async def test_a_connection_that_ends_is_no_crash_to_the_process_that_lives_on(
    client: Client, members: Members, queue: str
) -> None:
    """Q2: the server counts it; the process knows better, and writes that down when it gives the suspect back."""
    await arouse_suspicion(client, members, queue, client.publish(queue))
    member = await members(queue, **QUORUM)
    await put_aside(client, member, queue, 1)
    for source in (member.source, member.source, None):
        alone = await only(member, 1)
        assert alone.deliveries == SUSPECT_AFTER + 1
        if source is not None:
            member.subscription._line._transport.cut()  # type: ignore[union-attr]
            await eventually(lambda: "lost" in member.owner.told, "it was noticed")  # noqa: B023
            await member.subscription.aclose()
            await client.wait_for_depth(f"{queue}.suspects", 1)
            owner = RecordingOwner()
            subscription = await source.subscribe(owner)
            assert isinstance(subscription, RabbitMQSubscription)
            member = Member(source, owner, subscription)
        else:
            await settle(member, released=[alone.position])
            await member.subscription.aclose()
    another = await members(queue, **QUORUM)
    assert (await only(another, 1)).deliveries == SUSPECT_AFTER + 1


@pytest.mark.parametrize("trouble", ["missing", "full"])
async def test_a_suspect_that_cannot_be_put_aside_runs_like_any_other(
    client: Client, members: Members, queue: str, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Q3: it stays in its queue, unharmed, and that is said."""
    await arouse_suspicion(client, members, queue, client.publish(queue))
    await client.channel.queue_delete(f"{queue}.suspects")
    if trouble == "full":
        full: Any = {"x-max-length": 1, "x-overflow": "reject-publish"}
        await client.channel.declare_queue(f"{queue}.suspects", durable=True, arguments=full)
        await client.send(f"{queue}.suspects", b"in the way")
        member = await members(queue, **QUORUM)
    else:
        member = await members(queue, declare=False, **QUORUM)
    found: list[Message[Any]] = []
    with anyio.fail_after(30):
        while not found:
            found = [message for message in await member.fetch(100) if message.partition == 0]
    (message,) = found
    assert (message.raw, message.deliveries) == (b'{"n": 0}', SUSPECT_AFTER)
    assert "cannot be" in caplog.text
    await member.settle(message.position)


@pytest.mark.parametrize("prefetch", [1, 100])
async def test_a_suspect_that_fails_is_tried_again_and_buried_once(
    rabbitmq_server: RabbitServer, client: Client, members: Members, queue: str, prefetch: int
) -> None:
    """By its attempts, as any other; suspects that succeed are done, and what is no suspect is not kept from running."""
    await arouse_suspicion(client, members, queue, client.publish(queue, 5), count=5)
    await client.publish(queue, 20, start=5)
    done: Counter[int] = Counter()
    attempts: Counter[int] = Counter()

    async def work(message: Message[Any]) -> None:
        number = message.body["n"]
        attempts[number] += 1
        assert number < 5 or message.deliveries == 1  # what is beside suspects is not given back
        if number == 2:
            raise RuntimeError("unlucky")
        done[number] += 1

    place = RabbitMQConsumer(queue, url=rabbitmq_server.url).dead_letters()
    assert place is not None
    async with place[0] as sink:
        await sink.check()
        options = {**QUORUM, "prefetch_count": prefetch}
        engine = make_engine(rabbitmq_server.url, queue, work, dead_letter=sink, **options)
        async with running(engine):
            await client.wait_for_depth(f"{queue}.dlq", 1)
            await eventually(lambda: len(done) == 24, "all others were done", seconds=30)
            await eventually(lambda: not engine.stats.in_flight, "all was settled")
    assert attempts[2] == 2
    assert set(done.values()) == {1}
    assert [await client.depth(name) for name in (queue, f"{queue}.suspects")] == [0, 0]


async def test_nobody_is_suspected_where_nothing_counts_or_nothing_comes_twice(queue: str) -> None:
    """Classic queues, `auto_ack`, and queues of dead letters: no place is made beside them."""
    for source in (
        RabbitMQConsumer(queue, queue_type="classic"),
        RabbitMQConsumer(queue, auto_ack=True),
        RabbitMQConsumer(f"{queue}.dlq"),
    ):
        assert not source.watches and not source.capabilities.delivery_count
        assert source.broker_connections == 2
    assert RabbitMQConsumer(queue).capabilities.delivery_count
    assert RabbitMQConsumer(queue).broker_connections == 3


async def test_a_place_that_is_deleted_ends_the_subscription_and_is_made_anew(
    client: Client, members: Members, queue: str
) -> None:
    """What was taken from it is lost with it, and said to be."""
    member = await members(queue, **QUORUM)
    await client.channel.queue_delete(f"{queue}.suspects")
    with pytest.raises(PythiaError, match=f"{queue}.suspects"), anyio.fail_after(30):
        while True:
            await member.fetch()
    await eventually(lambda: "lost" in member.owner.told, "it was noticed")
    await (await member.source.subscribe(member.owner)).aclose()
    assert await client.depth(f"{queue}.suspects") == 0
