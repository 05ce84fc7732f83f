"""Publishing to a Redis stream: outputs of ``process`` and the sink alone, beside the bare client's pipelined producer.

All of them encode the same values to JSON of 512 bytes and send them in portions of 500, the next when the last is
confirmed. The bare producer awaits an empty handler for each message too, as Pythia does, so that what differs is what
lies between a handler's return and the confirmed entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
import redis
from redis import asyncio as aioredis

from bench.engine import Premade, premade
from bench.harness import Bench, Contender, Goal
from bench.redis import BATCH, COLLECTOR, PACKAGES, make_body
from bench.run import Run
from pythia_core import Message, Output
from pythia_core.collector import tuned
from pythia_core.engine.engine import Engine
from pythia_core.settings import Settings
from pythia_redis import RedisStreamsProducer
from tests.servers.redis import RedisServer

STREAM = "outputs"
VALUE = orjson.loads(make_body(1))


@contextmanager
def empty_server(messages: int) -> Iterator[Mapping[str, str]]:
    """Start a server."""
    with RedisServer() as server:
        yield {"url": server.url}


@contextmanager
def all_written(run: Run) -> Iterator[None]:
    """Check at the end that the stream holds all outputs, and remove it."""
    yield
    with redis.Redis.from_url(run.place["url"]) as client:
        written = client.xlen(STREAM)
        client.delete(STREAM)
    if written != run.messages:
        raise RuntimeError(f"{written} of {run.messages} outputs were written")


async def answer(message: Message[Any]) -> Any:
    """Return a value to be published."""
    return VALUE


async def bare(run: Run) -> None:
    """Collect 500 results, send them in one pipeline, wait for its answer, and so on."""
    messages = premade(run.messages)
    with all_written(run):
        async with aioredis.Redis.from_url(run.place["url"]) as client:
            await client.ping()
            run.start()
            for start in range(0, len(messages), BATCH):
                pipeline = client.pipeline(transaction=False)
                for message in messages[start : start + BATCH]:
                    pipeline.xadd(STREAM, {"body": orjson.dumps(await answer(message))})
                await pipeline.execute()
            run.stop()


async def sink_alone(run: Run) -> None:
    """Do the same with Pythia's sink and no engine."""
    messages = premade(run.messages)
    with all_written(run):
        async with RedisStreamsProducer(STREAM, url=run.place["url"]) as sink:
            run.start()
            for start in range(0, len(messages), BATCH):
                outputs = [Output(sink, await answer(message)) for message in messages[start : start + BATCH]]
                result = await sink.write(outputs)
                if result.errors:
                    raise RuntimeError(f"not all was written: {result}")
            run.stop()


async def outputs(run: Run) -> None:
    """Run an engine whose handler returns a value for each message, until all messages are settled."""
    messages = premade(run.messages)

    def all_settled() -> None:
        run.stop()
        engine.stop()

    with all_written(run), tuned(COLLECTOR):
        async with RedisStreamsProducer(STREAM, url=run.place["url"]) as sink:
            source = Premade(messages, all_settled)
            engine = Engine(source, answer, Settings(order="none"), sink=sink)
            run.start()
            await engine.run()


BENCHES = [
    Bench(
        name="publish",
        title="a value of 512 bytes of JSON for each message, confirmed by a Redis stream",
        messages=50_000,
        few=1200,
        reference=Contender("redis-py: pipelines of 500 XADD", "bench.publish:bare"),
        contenders=[
            Contender("Pythia's sink alone, 500 at a time", "bench.publish:sink_alone"),
            Contender(
                "Pythia: process() returns it, all settled", "bench.publish:outputs", Goal("speed", 0.9)
            ),
        ],
        place=empty_server,
        packages=PACKAGES,
        programs=["redis-server"],
    )
]
