"""``max_connections`` is kept, as the brokers themselves count: a worker that may hold more does not start."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import redis
from aiokafka.client import AIOKafkaClient

from pythia_core import ConfigError, Message, Resource, Sink, Source, Worker, WorkerConfig
from pythia_core.middleware import RateLimit
from pythia_core.plugins import Registry
from pythia_core.runtime import Runtime
from pythia_kafka import KafkaAdmin, KafkaConsumer, KafkaProducer
from pythia_rabbitmq import RabbitMQAdmin, RabbitMQConsumer, RabbitMQProducer
from pythia_redis import RedisStreamsAdmin, RedisStreamsConsumer, RedisStreamsProducer, RedisTokenBucket
from tests.servers.kafka import KafkaServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer
from tests.waiting import eventually, wait_until


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone: that is what the clients know."""
    return "asyncio"


class Busy(Worker[Any]):
    """Uses whatever holds a connection."""

    done = 0

    def __init__(self, admin: Resource, ask: Callable[[Any], Any], **options: Any) -> None:
        super().__init__(**options)
        self.admin, self.ask = admin, ask

    async def process(self, message: Message[Any]) -> Any:
        await self.ask(self.admin)
        self.done += 1
        return {"n": 1}


def make(
    source: Source, sink: Sink, admin: Resource, ask: Callable[[Any], Any], most: int, **more: Any
) -> Busy:
    """Return a worker that holds all there is."""
    return Busy(admin, ask, source=source, sink=sink, config=WorkerConfig(max_connections=most, **more))


@asynccontextmanager
async def at_work(worker: Busy) -> AsyncIterator[Runtime]:
    """Run it until it has done something, with somebody who asks how much is left."""
    runner = Runtime(worker, environ={}, registry=Registry())
    async with anyio.create_task_group() as group:
        group.start_soon(runner.run)
        await eventually(lambda: worker.done, "a message was done", seconds=30)
        async with runner.source.inspect() as inspector:
            await inspector.backlog()
            yield runner
        runner.stop()


async def starts(worker: Busy) -> None:
    """Run it, only to see that it does not."""
    await Runtime(worker, environ={}, registry=Registry()).run()


def connected_to(client: Any) -> set[str]:
    """Return the server's names of all its connections."""
    return {each["id"] for each in client.client_list()}


async def test_redis_counts_no_more(redis_server: RedisServer) -> None:
    """Source 3, sink, dead letters, admin and a shared rate 1 each: 7, and all of them are used."""

    def worker(most: int) -> Busy:
        url = redis_server.url
        return make(
            RedisStreamsConsumer("counted", url=url),
            RedisStreamsProducer("counted-out", url=url),
            RedisStreamsAdmin(url=url),
            lambda admin: admin.backlog("busy", "counted"),
            most,
            middleware=[RateLimit(1000, bucket=RedisTokenBucket("counted", url=url))],
        )

    with redis.Redis.from_url(redis_server.url) as client:
        client.xadd("counted", {"body": "1"})
        before = connected_to(client)
        with pytest.raises(ConfigError, match=r"max_connections is 6, but Busy may hold 7 .* its source 3, "):
            await starts(worker(6))
        async with at_work(worker(7)):
            await eventually(
                lambda: len(connected_to(client) - before) == 7, "the sink was written to as well", seconds=30
            )


async def test_rabbitmq_counts_no_more(rabbitmq_server: RabbitServer) -> None:
    """Source 2, sink, dead letters and admin 1 each."""

    def worker(most: int) -> Busy:
        url = rabbitmq_server.url
        return make(
            RabbitMQConsumer("counted", url=url, queue_type="classic"),
            RabbitMQProducer(queue="counted-out", url=url, declare={}),
            RabbitMQAdmin(url=url),
            lambda admin: admin.backlog("counted"),
            most,
        )

    def connections() -> int:
        return int(rabbitmq_server.erl("length(rabbit_networking:connection_info_all([pid]))"))

    async with RabbitMQProducer(queue="counted", url=rabbitmq_server.url, declare={}) as producer:
        with pytest.raises(ConfigError, match="max_connections is 4, but Busy may hold 5"):
            await starts(worker(4))
        await producer.send({"n": 1})
        before = await anyio.to_thread.run_sync(connections)
        async with at_work(worker(5)):
            await anyio.to_thread.run_sync(
                wait_until, lambda: connections() - before == 5, "all were connected"
            )


async def test_kafka_counts_no_more(kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients: source 3, sink, dead letters and admin 2 each."""
    there: set[AIOKafkaClient] = set()
    most = 0
    bootstrap, close = AIOKafkaClient.bootstrap, AIOKafkaClient.close

    async def counted(client: AIOKafkaClient) -> None:
        nonlocal most
        there.add(client)
        most = max(most, len(there))
        await bootstrap(client)

    async def gone(client: AIOKafkaClient) -> None:
        await close(client)
        there.discard(client)

    monkeypatch.setattr(AIOKafkaClient, "bootstrap", counted)
    monkeypatch.setattr(AIOKafkaClient, "close", gone)
    address = kafka_server.address

    def worker(bound: int) -> Busy:
        return make(
            KafkaConsumer("counted", bootstrap_servers=address),
            KafkaProducer("counted-out", bootstrap_servers=address),
            KafkaAdmin(bootstrap_servers=address),
            lambda admin: admin.get_consumer_lag("busy", "counted"),
            bound,
        )

    async with KafkaAdmin(bootstrap_servers=address) as admin:
        for topic in ("counted", "counted-out", "counted.dlq"):
            await admin.create_topic(topic)
    async with KafkaProducer("counted", bootstrap_servers=address) as producer:
        await producer.send({"n": 1})
    with pytest.raises(ConfigError, match="max_connections is 8, but Busy may hold 9"):
        await starts(worker(8))
    assert not there, "what it had opened is closed"
    most = 0
    async with at_work(worker(9)):
        assert 6 <= most <= 9
