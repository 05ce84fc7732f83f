"""What the Kafka tests share: topics of their own, a bare client to fill them, and members that end with the test."""

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from pythia_kafka import KafkaAdmin
from tests.kafka.driving import MakeTopic, Member, Members, Publisher
from tests.servers.kafka import KafkaServer

_numbers = itertools.count(1)


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone: that is what aiokafka knows."""
    return "asyncio"


@pytest.fixture
async def admin(kafka_server: KafkaServer) -> AsyncIterator[KafkaAdmin]:
    """Our admin, on the shared server."""
    async with KafkaAdmin(bootstrap_servers=kafka_server.address) as admin:
        yield admin


@pytest.fixture
async def make_topic(admin: KafkaAdmin) -> MakeTopic:
    """A factory of topics whose names nobody else has."""

    async def make(partitions: int = 1, **config: str) -> str:
        name = f"orders-{next(_numbers)}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        await admin.create_topic(name, partitions=partitions, config=settings)
        return name

    return make


@pytest.fixture
async def publisher(kafka_server: KafkaServer) -> AsyncIterator[Publisher]:
    """The bare client library's producer, on the shared server."""
    async with Publisher.connected(kafka_server.address) as publisher:
        yield publisher


@pytest.fixture
async def members(kafka_server: KafkaServer) -> AsyncIterator[Members]:
    """A factory of subscriptions to the shared server, closed with the test."""
    async with AsyncExitStack() as stack:

        async def join(topic: str | None, **options: Any) -> Member:
            options = {"bootstrap_servers": kafka_server.address, **options}
            return await stack.enter_async_context(Member.join(topic, **options))

        yield join
