"""The real engine on a Kafka source, within the test's own loop."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from pythia_core import Message, RetryPolicy, Settings, Start
from pythia_core.engine.engine import Engine
from pythia_kafka import KafkaConsumer, KafkaProducer
from tests.kafka.driving import QUICK, committed

Handler = Callable[[Message[Any]], Awaitable[Any]]
FAST = Settings(batch_timeout=0.1, drain_timeout=2.5, retry=RetryPolicy(attempts=2, base=0.01, cap=0.01))


def make_engine(
    address: str,
    topic: str,
    handler: Handler,
    settings: Settings = FAST,
    *,
    sink: KafkaProducer | None = None,
    dead_letter: KafkaProducer | None = None,
    **options: Any,
) -> Engine:
    """Make an engine as a worker's start does."""
    source = KafkaConsumer(
        topic, consumer_group=f"{topic}-workers", bootstrap_servers=address, **{**QUICK, **options}
    )
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


async def ends(address: str, topic: str) -> dict[int, int]:
    """Return the committed offsets."""
    return {number: offset for number, (offset, _) in (await committed(address, f"{topic}-workers")).items()}
