"""What the RabbitMQ tests share: queues of their own, and aio-pika as a client that has nothing to do with ours."""

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.rabbitmq.driving import Client, Member, Members
from tests.servers.rabbitmq import RabbitServer

_numbers = itertools.count(1)


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone: that is what aiormq knows."""
    return "asyncio"


@pytest.fixture
def queue() -> str:
    """The name of a queue that nobody else has."""
    return f"tasks-{next(_numbers)}"


@pytest.fixture
async def client(rabbitmq_server: RabbitServer) -> AsyncIterator[Client]:
    """The bare client library, on the shared server."""
    async with Client.connected(rabbitmq_server.url) as client:
        yield client


@pytest.fixture
async def members(rabbitmq_server: RabbitServer) -> AsyncIterator[Members]:
    """A factory of subscriptions to the shared server, closed with the test."""
    async with AsyncExitStack() as stack:

        async def join(queue: str, **options: Any) -> Member:
            return await stack.enter_async_context(Member.join(queue, url=rabbitmq_server.url, **options))

        yield join
