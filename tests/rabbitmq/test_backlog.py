"""How deep a queue is, who says so, and what is unknown."""

import time

import anyio
import pytest

from pythia_rabbitmq import RabbitMQAdmin, RabbitMQConsumer
from pythia_rabbitmq.connection import ConnectionLost, NotThere
from tests.rabbitmq.driving import Client, Member, Members
from tests.servers.rabbitmq import RabbitServer


async def test_amqp_tells_what_waits(
    rabbitmq_server: RabbitServer, client: Client, members: Members, queue: str
) -> None:
    """And not what is out: that is unknown, never 0."""
    member = await members(queue, prefetch_count=3)
    await client.publish(queue, 10)
    await member.receive(3)
    async with member.source.inspect() as inspector:
        backlog = await inspector.backlog()
    assert (backlog.waiting, backlog.in_flight, backlog.oldest_age_seconds) == (7, None, None)
    async with RabbitMQAdmin(url=rabbitmq_server.url) as admin:
        state = await admin.state(queue)
        assert (state.ready, state.consumers, state.told_by) == (7, 1, "amqp")
        assert await admin.get_queue_depth(queue) == 7
        with pytest.raises(NotThere, match="nothing"):
            await admin.state("nothing")
        assert await admin.get_queue_depth(queue) == 7  # the error has ended nothing but its own channel


async def test_the_http_api_tells_what_is_out_as_well(frail_rabbitmq: RabbitServer, queue: str) -> None:
    """And how old the head is, where the publisher says when it was; an API that is not there is an error."""
    server = frail_rabbitmq
    options = {"url": server.url, "management_url": server.http}
    async with (
        Client.connected(server.url) as client,
        Member.join(queue, prefetch_count=3, **options) as member,
        RabbitMQAdmin(**options) as admin,  # type: ignore[arg-type]
    ):
        await client.publish(queue, 10, timestamp=int(time.time()) - 60)
        await member.receive(3)
        deadline = anyio.current_time() + 30
        state = await admin.state(queue)
        while state.unacknowledged != 3 and anyio.current_time() < deadline:
            await anyio.sleep(0.05)  # it is counted anew every half a second
            state = await admin.state(queue)
        assert (state.ready, state.unacknowledged, state.told_by) == (7, 3, "management")
        backlog = await admin.backlog(queue)
        assert backlog.in_flight == 3
        assert backlog.oldest_age_seconds is not None and 50 < backlog.oldest_age_seconds < 120
    async with RabbitMQConsumer(
        queue, url=server.url, management_url="http://127.0.0.1:1"
    ).inspect() as nobody:
        with pytest.raises(ConnectionLost, match="HTTP API"):
            await nobody.backlog()
