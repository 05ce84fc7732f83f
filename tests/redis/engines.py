"""The real engine on a Redis source, within the test's own loop."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from pythia_core import Message, RetryPolicy, Settings, Start
from pythia_core.engine.engine import Engine
from pythia_redis import RedisStreamsConsumer, RedisStreamsProducer

Handler = Callable[[Message[Any]], Awaitable[Any]]
FAST = Settings(batch_timeout=0.1, drain_timeout=5, retry=RetryPolicy(attempts=2, base=0.01, cap=0.01))


def make_engine(
    url: str,
    handler: Handler,
    settings: Settings = FAST,
    *,
    sink: RedisStreamsProducer | None = None,
    dead_letter: RedisStreamsProducer | None = None,
    **options: Any,
) -> Engine:
    """Make an engine as a worker's start does."""
    source = RedisStreamsConsumer("events", consumer_group="workers", url=url, **options)
    resolved = source.resolve(Start(worker="worker"))
    return Engine(resolved, handler, settings, sink=sink, dead_letter=dead_letter)


@asynccontextmanager
async def running(*engines: Engine) -> AsyncIterator[None]:
    """Run engines; stop them gracefully at the end."""
    async with anyio.create_task_group() as group:
        for engine in engines:
            group.start_soon(engine.run)
        try:
            yield
        finally:
            for engine in engines:
                engine.stop()
