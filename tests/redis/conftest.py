"""What the Redis tests share: a client that has nothing to do with ours, and subscriptions that end with the test."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis

from tests.redis.driving import Member, Members
from tests.servers.redis import RedisServer


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone: that is what redis-py knows."""
    return "asyncio"


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """The bare client library, synchronous, on the shared server."""
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def members(redis_server: RedisServer) -> AsyncIterator[Members]:
    """A factory of subscriptions to the shared server, closed with the test."""
    async with AsyncExitStack() as stack:

        async def join(stream: str = "events", *, url: str = redis_server.url, **options: Any) -> Member:
            return await stack.enter_async_context(Member.join(stream, url=url, **options))

        yield join
