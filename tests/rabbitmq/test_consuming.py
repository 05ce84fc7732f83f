"""A subscription through its contract: prefetch, acknowledgement both ways, giving back, ends of all kinds."""

import logging
from typing import Any

import anyio
import pytest

from pythia_core import SubscriptionLost
from pythia_rabbitmq import RabbitMQAdmin
from tests.rabbitmq.driving import Client, Members
from tests.servers.rabbitmq import RabbitServer
from tests.waiting import eventually


async def test_messages_come_in_their_order_and_within_limits(
    client: Client, members: Members, queue: str
) -> None:
    """By number and by bytes, one at least; no more than the prefetch is out."""
    member = await members(queue, prefetch_count=5)
    await client.publish(queue, 10)
    first = await member.receive(2)
    assert [message.raw for message in first] == [b'{"n": 0}', b'{"n": 1}']
    assert len(await member.fetch(max_bytes=1)) == 1
    assert len(await member.fetch(10)) == 2
    assert await member.fetch() == []
    await client.wait_for_depth(queue, 5)


async def test_the_watermark_and_what_is_beyond_it(client: Client, members: Members, queue: str) -> None:
    """R12: all up to one at once, single ones beyond; each once, since a second time would end the channel."""
    member = await members(queue)
    await client.publish(queue, 10)
    tags = [message.position for message in await member.receive(10)]
    assert tags == list(range(1, 11))
    await member.settle(3, done=[5, 7])
    await member.settle(3, done=[5, 7])  # again, as after a call that was not heard of
    await member.settle(5, done=[7, 8])  # the last of the prefix has been acknowledged singly
    await member.settle(5, done=[7, 8])
    await member.subscription.stop_fetching()
    await member.settle(5, released=[6, 9], rejected=[10])
    await client.wait_for_depth(queue, 2)
    assert await member.settle(8) == []
    assert member.owner.told == ["assigned"]
    await member.subscription.aclose()
    assert [message.body for message in await client.drain(queue)] == [b'{"n": 5}', b'{"n": 8}']


async def test_the_whole_window_singly_and_then_at_once(client: Client, members: Members, queue: str) -> None:
    """R2: `multiple` never names a tag that is not out, of which an old server would take it all."""
    member = await members(queue)
    await client.publish(queue, 6)
    await member.receive(4)
    await member.settle(done=[2, 3, 4])
    await member.settle(4)
    await member.receive(2)
    await member.settle(4)
    assert await member.settle(5) == []
    await member.subscription.aclose()
    await client.wait_for_depth(queue, 1)
    assert [message.body for message in await client.drain(queue)] == [b'{"n": 5}']


async def test_a_stop_gives_back_what_was_not_handed_over(
    client: Client, members: Members, queue: str
) -> None:
    """X7: after the consumer was cancelled, so that it does not come straight back; what is at work stays out."""
    member = await members(queue)
    await client.publish(queue, 20)
    await member.receive(5)
    await member.subscription.stop_fetching()
    await client.wait_for_depth(queue, 15)
    assert await member.fetch() == []
    await member.settle(2, released=[3, 4, 5])
    await client.wait_for_depth(queue, 18)
    await member.subscription.aclose()
    await client.wait_for_depth(queue, 18)


async def test_auto_ack_keeps_the_prefetch(
    client: Client, members: Members, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    """X8: what is handed over does not come again, and no more is than the prefetch until some of it is done."""
    member = await members(queue, auto_ack=True, prefetch_count=10)
    assert "at most once" in caplog.text
    await client.publish(queue, 100)
    assert len(await member.receive(10)) == 10
    assert await member.fetch() == []
    await client.wait_for_depth(queue, 80)  # ten at work and acknowledged, ten at hand and not
    await member.settle(4, done=[6])
    assert len(await member.receive(5)) == 5
    assert await member.fetch() == []
    await member.subscription.stop_fetching()
    await client.wait_for_depth(queue, 85)


async def test_a_queue_that_is_deleted_is_made_anew_loudly(
    rabbitmq_server: RabbitServer,
    client: Client,
    members: Members,
    queue: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R5: an error in the log, the partition is lost, and a new subscription consumes again."""
    member = await members(queue)
    async with RabbitMQAdmin(url=rabbitmq_server.url) as admin:
        await admin.delete_queue(queue)
        await eventually(lambda: "lost" in member.owner.told, "it was noticed")
    assert any(record.levelno == logging.ERROR and "deleted" in record.message for record in caplog.records)
    with pytest.raises(SubscriptionLost, match="deleted"):
        await member.fetch()
    subscription = await member.source.subscribe(member.owner)
    await client.publish(queue, 1)
    chunks: Any = []
    while not chunks:
        chunks = await subscription.fetch({0: 1}, 1, 1, 0.5)
    await subscription.aclose()


async def test_a_queue_that_is_deleted_stays_so_where_that_is_the_policy(
    rabbitmq_server: RabbitServer, client: Client, members: Members, queue: str
) -> None:
    """Until somebody has made it again."""
    member = await members(queue, when_gone="fail")
    async with RabbitMQAdmin(url=rabbitmq_server.url) as admin:
        await admin.delete_queue(queue)
        await eventually(lambda: "lost" in member.owner.told, "it was noticed")
        with pytest.raises(SubscriptionLost, match=f"no queue '{queue}'"):
            await member.source.subscribe(member.owner)
        await admin.declare_queue(queue)
    await (await member.source.subscribe(member.owner)).aclose()


async def test_an_ended_connection_refuses_what_is_settled(
    client: Client, members: Members, queue: str
) -> None:
    """R2: it is not ours any more; nothing is raised, and a new subscription gets it again, marked as such."""
    member = await members(queue)
    await client.publish(queue, 3)
    (first, *_) = await member.receive(3)
    assert first.deliveries == 1
    member.subscription._line._transport.cut()  # type: ignore[union-attr]
    await eventually(lambda: "lost" in member.owner.told, "it was noticed")
    (refused,) = await member.settle(2)
    assert refused.positions is None
    other = await members(queue)
    again = await other.receive(3)
    assert [message.deliveries for message in again] == [2, 2, 2]


async def test_an_existing_queue_is_used_as_it_is(
    client: Client, members: Members, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning that says what differs; and none is made where `declare` is False."""
    await client.declare(queue)
    await members(queue, queue_type="quorum")
    assert "used as it is" in caplog.text
    with pytest.raises(SubscriptionLost, match="no queue 'nobody'"):
        await members("nobody", declare=False)


async def test_a_quorum_queue_counts_and_never_drops(client: Client, members: Members, queue: str) -> None:
    """R18: its limit is set explicitly, and a message carries the count of its deliveries."""
    first = await members(queue, queue_type="quorum")
    assert first.source.queue_arguments["x-delivery-limit"] == 1_000_000
    await client.publish(queue, 1)
    (message,) = await first.receive()
    assert message.deliveries == 1
    await first.subscription.aclose()
    second = await members(queue, queue_type="quorum")
    (message,) = await second.receive()
    assert message.deliveries == 2


@pytest.mark.parametrize(("kind", "counts"), [("quorum", [1, 2, 3]), ("classic", [1, 2, 2])])
async def test_deliveries_are_what_the_server_counts(
    client: Client, members: Members, queue: str, kind: str, counts: list[int]
) -> None:
    """By a quorum queue each, also of what was only prefetched; a classic one tells the first from all others."""
    for count in counts:
        member = await members(queue, queue_type=kind)
        if count == 1:
            await client.publish(queue, 2)
        (handed_over,) = await member.receive(1)
        await eventually(lambda: len(member.subscription._deliveries) == 1, "the other was prefetched")  # noqa: B023
        assert handed_over.deliveries == count
        await member.subscription.aclose()
        await client.wait_for_depth(queue, 2)
    member = await members(queue, queue_type=kind)
    assert {message.deliveries for message in await member.receive(2)} == {4 if kind == "quorum" else 2}


async def test_bindings_bring_what_an_exchange_gets(client: Client, members: Members, queue: str) -> None:
    """By routing key; and a missing exchange is an error that names it."""
    exchange = await client.channel.declare_exchange(f"{queue}-events", "topic", auto_delete=True)
    member = await members(queue, bindings=[f"{queue}-events:order.*"])
    import aio_pika

    await exchange.publish(aio_pika.Message(b"1"), "order.created")
    (message,) = await member.receive()
    assert (message.raw, message.routing_key) == (b"1", "order.created")  # type: ignore[attr-defined]
    with pytest.raises(SubscriptionLost, match="no exchange 'nowhere'"):
        await members(queue, bindings=["nowhere:x"])


async def test_a_consumer_of_higher_priority_is_served_first(
    client: Client, members: Members, queue: str
) -> None:
    """And a message of higher priority comes first, where the queue knows priorities."""
    low = await members(queue, arguments={"x-max-priority": 5}, prefetch_count=10)
    high = await members(queue, arguments={"x-max-priority": 5}, priority=3, prefetch_count=10)
    await client.publish(queue, 5, priority=1)
    assert len(await high.receive(5)) == 5
    assert await low.fetch() == []


async def test_one_consumer_has_all_until_it_goes(client: Client, members: Members, queue: str) -> None:
    """Then another one has them, with what the first had not settled."""
    first = await members(queue, single_active_consumer=True)
    second = await members(queue, single_active_consumer=True)
    await client.publish(queue, 3)
    await first.receive(3)
    assert await second.fetch() == []
    await first.settle(1)
    await first.subscription.aclose()
    assert [message.raw for message in await second.receive(2)] == [b'{"n": 1}', b'{"n": 2}']


async def test_a_limit_that_is_asked_for_is_the_servers(client: Client, members: Members, queue: str) -> None:
    """R18: delivered once more than the limit it goes where the queue sends what it drops, and not to nowhere."""
    place = f"{queue}.dropped"
    await client.declare(place)
    for delivery in (1, 2):
        member = await members(
            queue,
            queue_type="quorum",
            delivery_limit=1,
            dead_letter_exchange="",
            dead_letter_routing_key=place,
        )
        if delivery == 1:
            await client.publish(queue, 1)
        (message,) = await member.receive()
        assert message.deliveries == delivery
        await member.subscription.aclose()
    await client.wait_for_depth(place, 1)
    assert await client.depth(queue) == 0


async def test_messages_of_higher_priority_come_first(client: Client, members: Members, queue: str) -> None:
    """Of those that wait."""
    await client.channel.declare_queue(
        queue, durable=True, arguments={"x-queue-type": "classic", "x-max-priority": 5}
    )
    await client.publish(queue, 3, priority=1)
    await client.publish(queue, 1, start=9, priority=5)
    member = await members(queue, arguments={"x-max-priority": 5})
    assert (await member.receive(4))[0].raw == b'{"n": 9}'


async def test_a_stop_leaves_no_task_behind(members: Members, queue: str) -> None:
    """Closing twice is closing once, and it ends a fetch that waits."""
    import asyncio

    before = asyncio.all_tasks()
    member = await members(queue)
    async with anyio.create_task_group() as group:
        group.start_soon(member.fetch)
        await anyio.lowlevel.checkpoint()
        await member.subscription.aclose()
        await member.subscription.aclose()
    await eventually(lambda: not asyncio.all_tasks() - before, "all tasks had ended")
